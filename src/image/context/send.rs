//! The archive of a context, as a stream.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use mlctl_core::digest::Digest;
use rustix::fs::{Mode, OFlags};
use tar::EntryType;

use super::{BuildContext, Entry, Node, as_path, changed, is_executable};
use crate::error::CommandError;
use crate::image::archive::{self, Archive, header};

impl BuildContext {
    /// The context as an archive, never held in memory. `extra` files come first, instead of those of that name. Breaks
    /// off with an error if a file is not what was hashed; [`Self::fault`] then says so.
    pub(crate) fn tar(
        self: Arc<Self>,
        extra: Vec<(String, Vec<u8>)>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        archive::streamed(move |archive| self.write(&extra, archive))
    }

    fn write(&self, extra: &[(String, Vec<u8>)], archive: &mut Archive) -> io::Result<()> {
        for (name, bytes) in extra {
            archive.file(name, bytes)?;
        }
        for entry in &self.entries {
            if !extra.iter().any(|(name, _)| name.as_bytes() == &*entry.path) {
                self.write_entry(entry, archive)?;
            }
        }
        Ok(())
    }

    fn write_entry(&self, entry: &Entry, archive: &mut Archive) -> io::Result<()> {
        let path = &entry.path;
        match &entry.node {
            Node::Directory => {
                let mode = if self.open { 0o777 } else { 0o755 };
                archive.entry(&[path, b"/".as_slice()].concat(), &[], &mut header(EntryType::Directory, mode, 0))
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
            sent += archive.fill(size - sent, |chunk| {
                file.read_exact_at(chunk, sent).map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => other(),
                    _ => e,
                })?;
                hasher.update(chunk);
                Ok(())
            })?;
        }
        if Digest::from(hasher.finalize()) == digest { Ok(()) } else { Err(other()) }
    }

    fn fail(&self, error: CommandError) {
        self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
    }
}
