//! The log of an attempt: one file that only grows, with both streams in the order in which they were written. Where
//! nothing is written there is no file: most steps of a wide fan-out are silent, and a file costs as much as a lookup.
//!
//! The command writes to a pipe, and the thread that waits for it copies. Giving it the file itself would be cheaper
//! for what prints much, but then `tee /dev/stderr` or `-o /dev/stdout` open that file anew, and truncate it or write
//! over its beginning; a pipe is what containers give, too.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ioctl_fionbio, read};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::redact::Filter;

/// What a pipe holds.
const PIPE: usize = 64 * 1024;

/// What it holds after a program enlarged it.
const LARGEST_PIPE: usize = 1024 * 1024;

/// The log of an attempt.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// Made for the first output.
    file: Option<File>,
    /// Takes secrets out, where there are any.
    filter: Option<Filter>,
    /// Whether the file still takes what is written.
    writable: bool,
    clean: Vec<u8>,
}

impl Log {
    /// The log at `path`, without `secrets`.
    pub(crate) fn at(path: &Path, secrets: &BTreeMap<String, String>) -> Self {
        let filter = (!secrets.is_empty()).then(|| Filter::new(secrets));
        Self { path: path.to_owned(), file: None, filter, writable: true, clean: Vec::new() }
    }

    /// Appends what the command wrote. A log that cannot be written (a full disk) must not block the command: the rest
    /// is dropped.
    pub fn write(&mut self, piece: &[u8]) {
        let piece = match &mut self.filter {
            None => piece,
            Some(filter) => {
                self.clean.clear();
                filter.push(piece, &mut self.clean);
                &self.clean
            }
        };
        self.writable = self.writable && append(&self.path, &mut self.file, piece).is_ok();
        self.clean.clear();
    }

    /// Nothing more will come.
    pub(crate) fn finish(mut self) {
        if let Some(filter) = &mut self.filter {
            filter.finish(&mut self.clean);
            self.writable = self.writable && append(&self.path, &mut self.file, &self.clean).is_ok();
        }
    }
}

/// Copies what a command writes to its log.
#[derive(Debug)]
pub(crate) struct Copier<'a> {
    /// `None`: everyone closed the other end.
    output: Option<OwnedFd>,
    log: &'a mut Log,
    /// Made for the first output: most steps are silent for long.
    buffer: Vec<u8>,
}

impl<'a> Copier<'a> {
    /// One to `log`, and what the command is to write to.
    pub(crate) fn new(log: &'a mut Log) -> io::Result<(Self, OwnedFd)> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
        // Reading must not block, writing must.
        ioctl_fionbio(&output, true)?;
        Ok((Self { output: Some(output), log, buffer: Vec::new() }, input))
    }

    /// Ready when there is something to copy; `None` when nothing will ever come.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// Copies what is there now, at most a pipe's worth. `false`: there was nothing.
    pub(crate) fn copy(&mut self) -> bool {
        let Some(output) = &self.output else { return false };
        self.buffer.clear();
        self.buffer.reserve(PIPE);
        match read(output, spare_capacity(&mut self.buffer)) {
            Ok(1..) => self.log.write(&self.buffer),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => self.output = None,
        }
        !self.buffer.is_empty()
    }

    /// Copies the rest: what a pipe can hold. What escaped may hold the other end for ever, and is not listened to.
    pub(crate) fn finish(mut self) {
        for _ in 0..LARGEST_PIPE / PIPE {
            if !self.copy() {
                break;
            }
        }
    }
}

fn append(path: &Path, file: &mut Option<File>, piece: &[u8]) -> io::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    let file = match file {
        Some(file) => file,
        None => file.insert(open(path)?),
    };
    file.write_all(piece)
}

fn open(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            open()
        }
        (opened, _) => opened,
    }
}
