//! Archives that are sent while they are written, by a thread that waits when the receiver does.

use std::io::{self, Write};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::poll_fn;
use tar::{EntryType, Header};
use tokio::sync::mpsc;

/// What is sent at once.
const CHUNK: usize = 256 << 10;

/// How many chunks wait for the receiver.
const WAITING: usize = 4;

/// What an archive is cut into.
const BLOCK: usize = 512;

/// The longest name that a header holds.
const NAME: usize = 99;

/// The archive that `write` writes, with its end.
pub(super) fn streamed(
    write: impl FnOnce(&mut Archive) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    written(|archive| write(archive).and_then(|()| archive.write_all(&[0; 2 * BLOCK])))
}

/// What `write` writes. An error of it is the stream's last item.
pub(super) fn written(
    write: impl FnOnce(&mut Archive) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut archive = Archive { sender, buffer: Vec::with_capacity(CHUNK) };
        if let Err(e) = write(&mut archive).and_then(|()| archive.flush()) {
            // The receiver may be gone, and be why.
            let _ = archive.sender.blocking_send(Err(e));
        }
    });
    poll_fn(move |task| receiver.poll_recv(task))
}

/// What is written to it is sent in chunks.
pub(super) struct Archive {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Archive {
    /// A file with its content.
    pub(super) fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(name.as_bytes(), &[], &mut header(EntryType::Regular, 0o644, bytes.len() as u64))?;
        self.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// The header of an entry. Names that it has no room for come before, as GNU tar has it.
    pub(super) fn entry(&mut self, name: &[u8], link: &[u8], header: &mut Header) -> io::Result<()> {
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

    /// Lets `fill` make the next bytes, at most `most` of them; how many they are.
    pub(super) fn fill(&mut self, most: u64, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<u64> {
        let room = self.room().min(usize::try_from(most).unwrap_or(usize::MAX));
        let start = self.buffer.len();
        self.buffer.resize(start + room, 0);
        fill(&mut self.buffer[start..])?;
        self.send_if_full()?;
        Ok(room as u64)
    }

    /// Zeroes up to the next block, after content of this size.
    pub(super) fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.write_all(&[0; BLOCK][over..]) }
    }

    fn room(&self) -> usize {
        CHUNK - self.buffer.len()
    }

    fn send_if_full(&mut self) -> io::Result<()> {
        if self.room() == 0 { self.flush() } else { Ok(()) }
    }

    fn header(&mut self, header: &mut Header) -> io::Result<()> {
        header.set_cksum();
        self.write_all(header.as_bytes())
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

/// The header of an entry: of nobody in particular, at no time.
pub(super) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
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
