//! A log file that is read while it grows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// A log, and how far it was read.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    buffer: Vec<u8>,
}

impl LogFile {
    /// From its beginning.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, buffer: vec![0; PIECE] })
    }

    /// The same; empty where there is no file.
    pub(super) fn open_or_empty(path: &Path) -> io::Result<Self> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::open(Path::new("/dev/null")),
            opened => opened,
        }
    }

    /// The next piece; `None`: that is all for now.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let read = self.file.read(&mut self.buffer)?;
        Ok((read > 0).then(|| &self.buffer[..read]))
    }

    /// Passes over all but the last lines. A log that cannot be searched is read from its beginning.
    pub(super) fn skip_to_tail(&mut self, lines: Option<u64>) {
        let start = lines.map(|lines| self.start_of_tail(lines)).unwrap_or(Ok(0)).unwrap_or(0);
        let _ = self.file.seek(SeekFrom::Start(start));
    }

    /// Where the last lines begin: searched from the end, piece by piece.
    fn start_of_tail(&mut self, lines: u64) -> io::Result<u64> {
        let length = self.file.seek(SeekFrom::End(0))?;
        if lines == 0 {
            return Ok(length);
        }
        let (mut end, mut breaks) = (length, 0);
        while end > 0 {
            let start = end.saturating_sub(PIECE as u64);
            let piece = &mut self.buffer[..(end - start) as usize];
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(piece)?;
            for (at, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let after = start + at as u64 + 1;
                // The break at the very end ends the last line, and begins none.
                breaks += u64::from(after < length);
                if breaks == lines {
                    return Ok(after);
                }
            }
            end = start;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str, lines: u64) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, text).unwrap();
        let mut log = LogFile::open(&path).unwrap();
        log.skip_to_tail(Some(lines));
        let mut rest = Vec::new();
        while let Some(piece) = log.next().unwrap() {
            rest.extend_from_slice(piece);
        }
        String::from_utf8(rest).unwrap()
    }

    #[test]
    fn the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 9), "a\nb\n");
        assert_eq!(tail("a\nb\n", 0), "");
        assert_eq!(tail("", 3), "");
        let long = format!("first\n{}\nlast\n", "x".repeat(3 * PIECE));
        assert_eq!(tail(&long, 2), long["first\n".len()..]);
    }
}
