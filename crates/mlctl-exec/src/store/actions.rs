//! The results of actions, one small file a key.
//!
//! A file is created with O_EXCL and locked (flock) until it is written, which makes it put-if-absent across processes:
//! whoever finds one that is not whole waits for its lock, looks again, and only then puts another in its place. A file
//! says first what its content's digest is, so that a torn one is a miss.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::objects::{Form, is_young};
use super::{ObjectName, Stamp, Store, StoreError, boot};

/// What the store knows about one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What the action produced.
    pub result: Arc<ActionResult>,
    /// The digests of what went into the key, by component.
    pub components: BTreeMap<String, Digest>,
    /// Who produced it.
    pub provenance: Provenance,
}

/// Where a result comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// The run's id.
    pub run: String,
    /// The instance's id.
    pub instance: String,
    /// The attempt that succeeded.
    pub attempt: u32,
    /// When it ended: milliseconds since the Unix epoch.
    pub finished: u64,
}

/// An entry as it is on disk, with what it holds owned or borrowed.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<E = Entry> {
    boot: String,
    at: u64,
    /// Of the objects that [`object_names`] gives, in its order.
    stamps: Vec<Stamp>,
    entry: E,
}

const MAGIC: &[u8] = b"mlctl entry 1 ";
const SUM: usize = 16;

impl Store {
    /// The entry of a key, if there is one and everything it names is there and right. Whatever cannot be read is a miss.
    pub fn lookup(&self, key: &Digest) -> Option<Entry> {
        let path = action_path(key);
        let file =
            File::from(rustix::fs::openat(&self.actions, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?);
        let stored = parse(&read(&file)?)?;
        let entry = self.check(key, stored)?;
        self.mark_used(&path, &file)?;
        Some(entry)
    }

    /// The entry of a key as it was recorded, whether or not its objects are still there: for explaining.
    pub fn peek(&self, key: &Digest) -> Option<Entry> {
        self.read_entry(&action_path(key)).map(|stored| stored.entry)
    }

    /// Records the entry of a key unless there is one already, and gives the one that is then there: who comes second
    /// adopts the first's result. Every object that the entry names must have been put.
    pub fn record(&self, key: &Digest, entry: Entry) -> Result<Entry, StoreError> {
        let text = self.render(&entry)?;
        let path = action_path(key);
        loop {
            if self.create_entry(&path, &text)? {
                return Ok(entry);
            }
            if let Some(winner) = self.lookup(key) {
                return Ok(winner);
            }
            if self.replace_torn(&path, &text, |stored| stored.and_then(|s| self.check(key, s)).is_none())? {
                return Ok(entry);
            }
        }
    }

    /// Records the entry of a key in the place of one that is there.
    pub fn replace(&self, key: &Digest, entry: &Entry) -> Result<(), StoreError> {
        let (path, text) = (action_path(key), self.render(entry)?);
        if self.create_entry(&path, &text)? { Ok(()) } else { self.write_over(&path, &text) }
    }

    /// Whether the store has this artifact, right and safe from gc: for what no action has made. What vouches for it from
    /// one process to the next is an entry of its own: so an unchanged large input is not read again.
    pub fn has(&self, artifact: &Artifact) -> Result<bool, StoreError> {
        let key = Digest::of(format!("mlctl object {}", ObjectName::of(artifact).path()).as_bytes());
        if self.lookup(&key).is_some() {
            return Ok(true);
        }
        let result = ActionResult { artifacts: [(String::new(), *artifact)].into(), ..ActionResult::default() };
        let entry = Entry { result: Arc::new(result), components: BTreeMap::new(), provenance: Provenance::default() };
        match self.record(&key, entry) {
            Ok(_) => Ok(true),
            Err(StoreError::Missing { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the objects are there and right; rehashes where that is not certain, and then writes the entry anew.
    fn check(&self, key: &Digest, stored: Stored) -> Option<Entry> {
        let names = object_names(&stored.entry.result);
        let trusted = self.boot.is_whole(&stored.boot, stored.at) && stored.stamps.len() == names.len();
        let mut fresh = trusted;
        for (index, name) in names.iter().enumerate() {
            let stat = self.stat(name).ok()??;
            if trusted && stored.stamps[index] == Stamp::from(&stat) {
                self.mark_verified(*name, stored.stamps[index]);
                continue;
            }
            self.vouch(name).ok()??;
            fresh = false;
        }
        if !fresh {
            // An entry that cannot be written is only checked again the next time.
            let _ = self.render(&stored.entry).and_then(|text| self.write_over(&action_path(key), &text));
        }
        Some(stored.entry)
    }

    /// Tells gc that the entry is used: at most once a day, and then under gc's lock. `None`: gc was faster.
    fn mark_used(&self, path: &str, file: &File) -> Option<()> {
        let stat = rustix::fs::fstat(file).ok()?;
        if is_young(Stamp::from(&stat).mtime) {
            return Some(());
        }
        let _lock = self.lock_gc().ok()?;
        let there = rustix::fs::statat(&self.actions, path, AtFlags::empty()).ok()?;
        let now = SystemTime::now();
        if there.st_ino == stat.st_ino {
            // Only its owner may; gc then sees it as older than it is.
            let _ = file.set_modified(now);
        }
        Some(())
    }

    fn render(&self, entry: &Entry) -> Result<Vec<u8>, StoreError> {
        let mut stamps = Vec::new();
        for name in object_names(&entry.result) {
            stamps.push(self.vouch(&name)?.ok_or(StoreError::Missing { digest: name.digest })?);
        }
        let stored = Stored { boot: self.boot.id.clone(), at: boot::uptime(), stamps, entry };
        let body = serde_json::to_vec(&stored)
            .map_err(|e| StoreError::io("encode", &self.root.join("actions"))(std::io::Error::from(e)))?;
        let sum = Digest::of(&body).to_hex();
        Ok([MAGIC, &sum.as_bytes()[..SUM], b"\n", &body].concat())
    }

    fn create_entry(&self, path: &str, text: &[u8]) -> Result<bool, StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let full = || self.root.join("actions").join(path);
        let fd = match rustix::fs::openat(&self.actions, path, flags, Mode::from_raw_mode(0o644)) {
            Ok(fd) => fd,
            Err(Errno::EXIST) => return Ok(false),
            // The first of its shard.
            Err(Errno::NOENT) => {
                let shard = self.root.join("actions").join(&path[..2]);
                std::fs::create_dir_all(&shard).map_err(StoreError::io("create", &shard))?;
                return self.create_entry(path, text);
            }
            Err(e) => return Err(StoreError::io("create", &full())(e)),
        };
        let mut file = File::from(fd);
        let write = || {
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let stat = rustix::fs::fstat(&file)?;
            Ok(stat.st_nlink > 0)
        };
        let mine = write().map_err(StoreError::io::<Errno>("lock", &full()))?;
        if mine {
            file.write_all(text).map_err(StoreError::io("write", &full()))?;
        }
        Ok(mine)
    }

    /// Puts a whole entry in the place of one that is `useless`: looked at under its lock, since it may be just being
    /// written. `false`: look again.
    fn replace_torn(
        &self,
        path: &str,
        text: &[u8],
        useless: impl FnOnce(Option<Stored>) -> bool,
    ) -> Result<bool, StoreError> {
        let full = self.root.join("actions").join(path);
        let file = match rustix::fs::openat(&self.actions, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(StoreError::io("read", &full)(e)),
        };
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(StoreError::io("lock", &full))?;
        let stat = rustix::fs::fstat(&file).map_err(StoreError::io("read", &full))?;
        let replaced = stat.st_nlink == 0;
        if replaced || !useless(read(&file).and_then(|bytes| parse(&bytes))) {
            return Ok(false);
        }
        self.write_over(path, text)?;
        Ok(true)
    }

    fn write_over(&self, path: &str, text: &[u8]) -> Result<(), StoreError> {
        let temporary = self.temporary();
        let full = self.root.join("actions").join(path);
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &full))
            .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
            .map_err(StoreError::io("write", &full))
    }

    fn read_entry(&self, path: &str) -> Option<Stored> {
        let fd = rustix::fs::openat(&self.actions, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        parse(&read(&File::from(fd))?)
    }
}

/// The objects that a result names.
pub(crate) fn object_names(result: &ActionResult) -> Vec<ObjectName> {
    let mut names = Vec::with_capacity(result.artifacts.len());
    for artifact in result.artifacts.values() {
        let name = ObjectName::of(artifact);
        names.push(name);
        if name.form == Form::Directory {
            names.push(ObjectName::manifest(artifact.digest));
        }
    }
    names
}

fn action_path(key: &Digest) -> String {
    let hex = key.to_hex();
    [&hex[..2], "/", &hex].concat()
}

/// Most entries are read at once: that a regular file gives less than is asked for means that it ends there.
fn read(file: &File) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut block = [0; 4096];
    loop {
        let count = rustix::io::read(file, &mut block).ok()?;
        bytes.extend_from_slice(&block[..count]);
        if count < block.len() {
            return Some(bytes);
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Stored> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, rest) = rest.split_at_checked(SUM)?;
    let body = rest.strip_prefix(b"\n")?;
    (Digest::of(body).to_hex().as_bytes().get(..SUM)? == sum).then_some(())?;
    serde_json::from_slice(body).ok()
}
