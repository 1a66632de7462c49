//! The log of an attempt: one file that only grows, written by the program itself, both streams in the order in which
//! they were written. So it costs nothing, and outlives mlctl. Only where the step has secrets a thread stands between.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio, read};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::redact::Filter;

/// What a pipe holds at most.
const PIPE: usize = 64 * 1024;

/// Where a command's output goes.
pub(crate) enum Log {
    /// Straight to the file.
    Plain,
    /// Through a thread that takes secrets out.
    Redacted(Redactor),
}

pub(crate) struct Redactor {
    thread: JoinHandle<()>,
    /// Closed to say that the command is gone.
    stop: OwnedFd,
}

impl Log {
    /// Opens the log, and what the command writes to.
    pub(crate) fn open(path: &Path, secrets: &BTreeMap<String, String>) -> io::Result<(Self, File)> {
        let file = append(path)?;
        if secrets.is_empty() {
            return Ok((Self::Plain, file));
        }
        let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let filter = Filter::new(secrets);
        let work = move || copy(&output, &stopped, filter, file);
        let thread = thread::Builder::new().name("redactor".to_owned()).spawn(work)?;
        Ok((Self::Redacted(Redactor { thread, stop }), input.into()))
    }

    /// Returns when all that the command wrote is in the log. A process that escaped may hold the other end for ever:
    /// that is not waited for.
    pub(crate) fn finish(self) {
        if let Self::Redacted(Redactor { thread, stop }) = self {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// Copies until the other end is closed, or the command is gone and what it left in the pipe is copied. A log that
/// cannot be written (a full disk) must not block the command: the rest is read and dropped.
fn copy(output: &OwnedFd, stopped: &OwnedFd, mut filter: Filter, mut file: File) {
    let mut piece = vec![0; PIPE];
    let mut clean = Vec::new();
    let mut writable = true;
    // What an escaped process goes on to write is none of the log's business.
    let mut left = None;
    while left != Some(0) {
        if await_more(output, stopped) {
            left = Some(left.unwrap_or(PIPE));
        }
        let most = left.unwrap_or(PIPE);
        let length = match read(output, &mut piece[..most]) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(_) => break,
        };
        left = left.map(|left| left - length);
        filter.push(&piece[..length], &mut clean);
        writable = writable && file.write_all(&clean).is_ok();
        clean.clear();
    }
    filter.finish(&mut clean);
    if writable {
        let _ = file.write_all(&clean);
    }
}

/// Blocks until there is more to read, or the command is gone: then reading no longer blocks.
fn await_more(output: &OwnedFd, stopped: &OwnedFd) -> bool {
    let mut fds = [output.as_fd(), stopped.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    while matches!(poll(&mut fds, None), Err(Errno::INTR)) {}
    let gone = !fds[1].revents().is_empty();
    if gone {
        let _ = ioctl_fionbio(output, true);
    }
    gone
}
