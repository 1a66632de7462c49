//! What this machine remembers of a remote store, so that nothing is moved twice: uploads and downloads that were cut off,
//! and what packs hold.
//!
//! ```text
//! <state>/<store>/uploads/<digest>      the upload's id and part size, then a line for each part that was sent
//! <state>/<store>/downloads/<digest>    what has come of a file; `<digest>.parts`: which parts of it
//! <state>/<store>/packs/<pack>          the files in a pack: digest and offset of each
//! ```
//!
//! All of it may be removed at any time. A transfer's file is locked while it lasts; who comes second goes without.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mlctl_core::digest::Digest;

use crate::location::Location;
use crate::tree::Place;

/// What was cut off longer ago than this is not gone on with: servers forget uploads too.
const OLD: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Bytes of a file in the list of a pack.
const RECORD: usize = 32 + 4;

/// The state of one remote store.
#[derive(Debug)]
pub(crate) struct Partial {
    root: PathBuf,
}

/// A transfer's file, locked.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// What it holds: whole lines.
    pub(crate) lines: Vec<String>,
}

impl Partial {
    pub(crate) fn new(state: &Path, location: &Location) -> Self {
        // The same bucket name means another bucket on another server.
        let servers = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].map(std::env::var_os);
        let identity = format!("{location}\0{servers:?}");
        let mut name = Digest::of(identity.as_bytes()).to_hex();
        name.truncate(16);
        Self { root: state.join(name) }
    }

    /// The journal of an upload. `None`: another process sends the same, or there is nowhere to write.
    pub(crate) fn upload(&self, digest: &Digest) -> Option<Journal> {
        Journal::open(self.directory("uploads")?.join(digest.to_hex()))
    }

    /// The journal of a download, and where its bytes go.
    pub(crate) fn download(&self, digest: &Digest) -> Option<(Journal, PathBuf)> {
        let path = self.directory("downloads")?.join(digest.to_hex());
        Some((Journal::open(path.with_extension("parts"))?, path))
    }

    /// Where the files of small objects are known to be.
    pub(crate) fn packed(&self) -> HashMap<Digest, Place> {
        let mut places = HashMap::new();
        for entry in fs::read_dir(self.root.join("packs")).into_iter().flatten().flatten() {
            let Some(pack) = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()) else { continue };
            let records = fs::read(entry.path()).unwrap_or_default();
            for record in records.as_chunks::<RECORD>().0 {
                let (Some((digest, _)), Some((_, offset))) = (record.split_first_chunk(), record.split_last_chunk())
                else {
                    continue;
                };
                places.insert(Digest::from_bytes(*digest), Place { pack, offset: u32::from_le_bytes(*offset) });
            }
        }
        places
    }

    /// Remembers what a pack holds. That it cannot be written costs only sending it again.
    pub(crate) fn remember_pack(&self, pack: &Digest, files: &[(Digest, u32)]) {
        let Some(directory) = self.directory("packs") else { return };
        let mut bytes = Vec::with_capacity(files.len() * RECORD);
        for (digest, offset) in files {
            bytes.extend_from_slice(digest.as_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        let partial = directory.join(format!(".{}.{}", pack.short(), std::process::id()));
        let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, directory.join(pack.to_hex())));
        if written.is_err() {
            let _ = fs::remove_file(&partial);
        }
    }

    /// Forgets a pack that is not there any more.
    pub(crate) fn forget_pack(&self, pack: &Digest) {
        let _ = fs::remove_file(self.root.join("packs").join(pack.to_hex()));
    }

    /// Removes what was cut off long ago.
    pub(crate) fn sweep(&self) {
        for directory in ["uploads", "downloads"] {
            for entry in fs::read_dir(self.root.join(directory)).into_iter().flatten().flatten() {
                let changed = entry.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::now());
                if changed.elapsed().is_ok_and(|age| age > OLD) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    fn directory(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).ok()?;
        Some(path)
    }
}

impl Journal {
    fn open(path: PathBuf) -> Option<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).ok()?;
        file.try_lock().ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        // A torn last line is none.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).ok()?;
        }
        let lines = text[..whole].lines().map(str::to_owned).collect();
        Some(Self { path, file, lines })
    }

    /// Adds a line. One that cannot be written costs only doing it again.
    pub(crate) fn add(&mut self, line: &str) {
        let _ = self.file.write_all(format!("{line}\n").as_bytes());
    }

    /// Begins anew.
    pub(crate) fn restart(&mut self) {
        let _ = self.file.set_len(0);
        self.lines.clear();
    }

    /// The transfer is done.
    pub(crate) fn finish(self) {
        let _ = fs::remove_file(&self.path);
    }
}
