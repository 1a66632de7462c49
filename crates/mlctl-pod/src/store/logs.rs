//! What attempts print, from the files that grow to the parts that are stored.
//!
//! A part begins where the one before it ended. How far a log is stored stands in a file beside it: where this process
//! is killed between the two, the part is written again, and longer.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mlctl_core::records;
use mlctl_remote::{Remote, RemoteError};

/// The longest part.
const PART: usize = 1 << 20;
/// The end of the name of a file that says how far a log is stored.
const STORED: &str = ".stored";

/// The logs of a pod: a directory for each instance, in it a file for each attempt.
#[derive(Debug)]
pub(super) struct Logs {
    root: PathBuf,
}

/// One of them.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    instance: String,
    attempt: u32,
}

impl Logs {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether there is anything that is not stored.
    pub(super) fn have_more(&self) -> bool {
        self.all().iter().any(|log| log.stored() < log.size())
    }

    /// Stores what there is now.
    pub(super) fn store(&mut self, remote: &Remote, run: &str) -> Result<(), RemoteError> {
        self.all().iter().try_for_each(|log| log.store(remote, run))
    }

    /// Stores the rest of a log that will not grow any more, and removes it.
    pub(super) fn finish(
        &mut self,
        remote: &Remote,
        run: &str,
        instance: &str,
        attempt: u32,
    ) -> Result<(), RemoteError> {
        let log =
            Log { path: self.root.join(instance).join(attempt.to_string()), instance: instance.to_owned(), attempt };
        log.store(remote, run)?;
        // The log first: with the other file alone nothing is stored twice.
        let _ = fs::remove_file(&log.path);
        let _ = fs::remove_file(log.mark());
        Ok(())
    }

    fn all(&self) -> Vec<Log> {
        let mut all = Vec::new();
        for instance in entries(&self.root) {
            let Some(name) = instance.file_name().and_then(|name| name.to_str()) else { continue };
            for path in entries(&instance) {
                let attempt = path.file_name().and_then(|name| name.to_str()?.parse().ok());
                all.extend(attempt.map(|attempt| Log { path, instance: name.to_owned(), attempt }));
            }
        }
        all
    }
}

impl Log {
    fn mark(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(STORED);
        path.into()
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    fn stored(&self) -> u64 {
        fs::read_to_string(self.mark()).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn store(&self, remote: &Remote, run: &str) -> Result<(), RemoteError> {
        // Silent attempts have none.
        let Ok(file) = File::open(&self.path) else { return Ok(()) };
        let mut offset = self.stored();
        loop {
            let part = read(&file, offset);
            if part.is_empty() {
                return Ok(());
            }
            let name = records::log_part(&self.instance, self.attempt, offset);
            offset += part.len() as u64;
            remote.put_record(run, &name, part)?;
            // Where it cannot be written, the part is stored again, as it was or longer.
            let _ = fs::write(self.mark(), offset.to_string());
        }
    }
}

/// At most a part, from there on. What cannot be read now may be read the next time.
fn read(file: &File, offset: u64) -> Vec<u8> {
    let mut part = vec![0; PART];
    let mut length = 0;
    loop {
        match file.read_at(&mut part[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    part.truncate(length);
    part
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
