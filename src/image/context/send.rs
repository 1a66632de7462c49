//! The archive of a context, as a stream: made while it is sent, by a thread that waits when the receiver does.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::poll_fn;
use mlctl_core::digest::Digest;
use rustix::fs::{Mode, OFlags};
use tar::{EntryType, Header};
use tokio::sync::mpsc;

use super::{BuildContext, Entry, Node, as_path, changed, is_executable};
use crate::error::CommandError;

/// What is sent at once.
const CHUNK: usize = 256 << 10;

/// How many chunks wait for the receiver.
const WAITING: usize = 4;

/// What an archive is cut into.
const BLOCK: usize = 512;

/// The longest name that a header holds.
const NAME: usize = 99;

impl BuildContext {
    /// The context as an archive, never held in memory. `extra` files come first, instead of those of that name. Breaks
    /// off with an error if a file is not what was hashed; [`Self::fault`] then says so.
    pub(crate) fn tar(
        self: Arc<Self>,
        extra: Vec<(String, Vec<u8>)>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        std::thread::spawn(move || {
            let mut archive = Archive { sender, buffer: Vec::with_capacity(CHUNK) };
            if let Err(e) = self.write(&extra, &mut archive) {
                // The receiver may be gone, and be why.
                let _ = archive.sender.blocking_send(Err(e));
            }
        });
        poll_fn(move |task| receiver.poll_recv(task))
    }

    fn write(&self, extra: &[(String, Vec<u8>)], archive: &mut Archive) -> io::Result<()> {
        for (name, bytes) in extra {
            archive.entry(name.as_bytes(), &[], &mut header(EntryType::Regular, 0o644, bytes.len() as u64))?;
            archive.write_all(bytes)?;
            archive.pad(bytes.len() as u64)?;
        }
        for entry in &self.entries {
            if !extra.iter().any(|(name, _)| name.as_bytes() == &*entry.path) {
                self.write_entry(entry, archive)?;
            }
        }
        archive.write_all(&[0; 2 * BLOCK])?;
        archive.flush()
    }

    fn write_entry(&self, entry: &Entry, archive: &mut Archive) -> io::Result<()> {
        let path = &entry.path;
        match &entry.node {
            Node::Directory => {
                archive.entry(&[path, b"/".as_slice()].concat(), &[], &mut header(EntryType::Directory, 0o755, 0))
            }
            Node::Link(target) => archive.entry(path, target, &mut header(EntryType::Symlink, 0o777, 0)),
            Node::Fifo => archive.entry(path, &[], &mut header(EntryType::Fifo, 0o644, 0)),
            Node::Device { block, major, minor } => {
                let kind = if *block { EntryType::Block } else { EntryType::Char };
                let mut header = header(kind, 0o644, 0);
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                archive.entry(path, &[], &mut header)
            }
            Node::File { size, executable, digest } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                archive.entry(path, &[], &mut header(EntryType::Regular, mode, *size))?;
                self.write_file(entry, (*size, *executable, *digest), archive)?;
                archive.pad(*size)
            }
        }
    }

    /// The bytes of a file, which must be those that were hashed.
    fn write_file(
        &self,
        entry: &Entry,
        (size, executable, digest): (u64, bool, Digest),
        archive: &mut Archive,
    ) -> io::Result<()> {
        let full = self.root.join(as_path(&entry.path));
        let other = || {
            let error = changed(&full, &self.ignore);
            let text = error.to_string();
            self.fail(error);
            io::Error::other(text)
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&full, flags, Mode::empty()).map_err(|_| other())?);
        let stat = rustix::fs::fstat(&file)?;
        if stat.st_size as u64 != size || is_executable(stat.st_mode) != executable {
            return Err(other());
        }
        let mut hasher = blake3::Hasher::new();
        let mut sent = 0;
        while sent < size {
            let room = archive.room().min(usize::try_from(size - sent).unwrap_or(usize::MAX));
            let start = archive.buffer.len();
            archive.buffer.resize(start + room, 0);
            file.read_exact_at(&mut archive.buffer[start..], sent).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => other(),
                _ => e,
            })?;
            hasher.update(&archive.buffer[start..]);
            sent += room as u64;
            archive.send_if_full()?;
        }
        if Digest::from(hasher.finalize()) == digest { Ok(()) } else { Err(other()) }
    }

    fn fail(&self, error: CommandError) {
        self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
    }
}

/// What is written to it is sent in chunks.
struct Archive {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Archive {
    fn room(&self) -> usize {
        CHUNK - self.buffer.len()
    }

    fn send_if_full(&mut self) -> io::Result<()> {
        if self.room() == 0 { self.flush() } else { Ok(()) }
    }

    /// The header of an entry. Names that it has no room for come before, as GNU tar has it.
    fn entry(&mut self, name: &[u8], link: &[u8], header: &mut Header) -> io::Result<()> {
        for (text, kind) in [(name, EntryType::GNULongName), (link, EntryType::GNULongLink)] {
            if text.len() > NAME {
                let mut long = self::header(kind, 0o644, text.len() as u64 + 1);
                put(&mut long.as_old_mut().name, b"././@LongLink");
                self.header(&mut long)?;
                self.write_all(text)?;
                self.write_all(&[0])?;
                self.pad(text.len() as u64 + 1)?;
            }
        }
        put(&mut header.as_old_mut().name, name);
        put(&mut header.as_old_mut().linkname, link);
        self.header(header)
    }

    fn header(&mut self, header: &mut Header) -> io::Result<()> {
        header.set_cksum();
        self.write_all(header.as_bytes())
    }

    /// Zeroes up to the next block, after content of this size.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.write_all(&[0; BLOCK][over..]) }
    }
}

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(self.room())];
        self.buffer.extend_from_slice(taken);
        self.send_if_full()?;
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// As much of it as there is room for.
fn put(field: &mut [u8], text: &[u8]) {
    let text = &text[..text.len().min(field.len())];
    field[..text.len()].copy_from_slice(text);
}
