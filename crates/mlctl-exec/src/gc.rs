//! Collecting garbage, safely beside runs.
//!
//! **What is kept**: entries that were used in the last `unused_for` or that the caller names (those of recent runs);
//! the objects they name, and those the caller names; source trees used in that time, with their files; and all that is
//! younger than that. A run that is alive extends the time to a day before its start.
//!
//! **Why that is safe.** What a run comes to rely on is either *young* (an entry used, or an object changed, less than
//! a day ago), and then, because the run is alive, not old enough to be taken; or it is older, and then
//! [`Store::lookup`], `put_...` and [`Store::put_sources`] make it young first, under a shared lock on `gc.lock`. Gc
//! holds that lock exclusively from when it looks which runs are alive until everything it takes is out of its place.
//! So nothing that it has found old can be relied upon meanwhile: the other side waits for those moments, and then
//! misses. Leases are taken under the shared lock too: no run begins while gc decides.
//!
//! When an entry was used last is the `mtime` of its file, which a lookup sets when it is a day old; of an object and of
//! a source tree's manifest it is the `ctime`, which setting its mode again renews. What is reused without a lookup (by
//! a key of the whole run) is not seen here: the caller names it.
//!
//! Entries go first, then manifests, then the rest: cut off at any point, nothing names what is gone. What takes long to
//! remove is moved to the trash, which is emptied at the end, without the lock.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use rustix::fs::FlockOperation;

use crate::manifest::Node;
use crate::store::{Form, ObjectName, Stamp, Store, StoreError, YOUNG, is_held, lock, object_names, remove_tree};

/// What gc must not take.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Entries, by key.
    pub keys: HashSet<Digest>,
    /// Objects.
    pub artifacts: HashSet<Artifact>,
    /// Everything used in this time.
    pub unused_for: Duration,
}

/// What gc took, or would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Entries of actions.
    pub entries: u64,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories of runs that are dead.
    pub runs: u64,
    /// Entries that stay.
    pub kept_entries: u64,
    /// Objects that stay.
    pub kept_objects: u64,
}

/// Removes what `keep` does not cover, as of `now`. With `dry_run` it only counts.
pub fn gc(store: &Store, keep: &Keep, now: SystemTime, dry_run: bool) -> Result<GcReport, StoreError> {
    let lock = lock(store.root(), FlockOperation::LockExclusive)?;
    let (dead, oldest) = runs(store, now)?;
    let mut collector = Collector {
        store,
        keep,
        since: nanos(now - keep.unused_for).min(oldest.map_or(i64::MAX, |at| nanos(at - YOUNG))),
        marked: HashSet::new(),
        report: GcReport { runs: dead.len() as u64, ..GcReport::default() },
        condemned: dead,
    };
    collector.entries()?;
    collector.objects()?;
    let Collector { report, condemned, .. } = collector;
    if dry_run {
        return Ok(report);
    }
    for Condemned { path, small } in &condemned {
        let gone = if *small {
            fs::remove_file(path).map_err(StoreError::io("remove", path))
        } else {
            store.discard(path).map(drop)
        };
        match gone {
            // Found damaged and moved away meanwhile.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    drop(lock);
    sweep(store, now)?;
    Ok(report)
}

struct Collector<'a> {
    store: &'a Store,
    keep: &'a Keep,
    /// What was used before this may go.
    since: i64,
    marked: HashSet<ObjectName>,
    report: GcReport,
    /// In the order in which they go.
    condemned: Vec<Condemned>,
}

/// What is to go.
struct Condemned {
    path: PathBuf,
    /// A file that takes no longer to remove than to move.
    small: bool,
}

/// Removing a larger file takes the time to free its blocks.
const SMALL: u64 = 1 << 20;

impl Collector<'_> {
    fn entries(&mut self) -> Result<(), StoreError> {
        for (name, path) in sharded(&self.store.root().join("actions"))? {
            let Ok(key) = name.parse::<Digest>() else { continue };
            let Some(stamp) = stamp(&path)? else { continue };
            if stamp.mtime < self.since && !self.keep.keys.contains(&key) {
                self.report.entries += 1;
                self.condemned.push(Condemned { path, small: true });
                continue;
            }
            self.report.kept_entries += 1;
            if let Some(entry) = self.store.peek(&key) {
                self.marked.extend(object_names(&entry.result));
            }
        }
        Ok(())
    }

    fn objects(&mut self) -> Result<(), StoreError> {
        for artifact in &self.keep.artifacts {
            self.marked.insert(ObjectName::of(artifact));
            if artifact.kind == ArtifactKind::Directory {
                self.marked.insert(ObjectName::manifest(artifact.digest));
            }
        }
        let mut objects = Vec::new();
        for (name, path) in sharded(&self.store.root().join("objects"))? {
            let Some(name) = ObjectName::parse(&name) else { continue };
            let Some(stamp) = stamp(&path)? else { continue };
            if stamp.ctime >= self.since {
                self.marked.insert(name);
            }
            objects.push((name, path, stamp.size));
        }
        // A manifest that stays may be a source tree's.
        for (name, ..) in objects.iter().filter(|(name, ..)| name.form == Form::Manifest) {
            if self.marked.contains(name) {
                self.mark_files(name.digest);
            }
        }
        objects.retain(|(name, ..)| !self.marked.contains(name));
        self.report.kept_objects = self.marked.len() as u64;
        objects.sort_by_key(|(name, ..)| name.form != Form::Manifest);
        for (name, path, size) in objects {
            self.report.objects += 1;
            let directory = name.form == Form::Directory;
            self.report.bytes += if directory { self.directory_size(name.digest) } else { size };
            self.condemned.push(Condemned { path, small: !directory && size < SMALL });
        }
        Ok(())
    }

    fn mark_files(&mut self, manifest: Digest) {
        // One that is damaged has been moved away by looking at it, and holds nothing.
        let Ok(manifest) = self.store.manifest(&manifest) else { return };
        self.marked.extend(manifest.entries().iter().filter_map(|entry| match entry.node {
            Node::File { digest, executable, .. } => Some(ObjectName::file(digest, executable)),
            _ => None,
        }));
    }

    fn directory_size(&self, digest: Digest) -> u64 {
        self.store.manifest(&digest).map_or(0, |manifest| manifest.size())
    }
}

/// The directories of dead runs, and when the oldest that is alive began.
fn runs(store: &Store, now: SystemTime) -> Result<(Vec<Condemned>, Option<SystemTime>), StoreError> {
    let (mut dead, mut oldest) = (Vec::new(), None);
    for (_, path) in list(&store.root().join("runs"))? {
        let lease = path.join("lease");
        if is_held(&lease) {
            let start = fs::metadata(&lease).and_then(|m| m.modified()).map_err(StoreError::io("read", &lease))?;
            let start = start.min(now);
            oldest = Some(oldest.map_or(start, |o: SystemTime| o.min(start)));
        } else {
            dead.push(Condemned { path, small: false });
        }
    }
    Ok((dead, oldest))
}

/// Empties the trash, and removes what writers that were killed left in `tmp`.
fn sweep(store: &Store, now: SystemTime) -> Result<(), StoreError> {
    for (_, path) in list(&store.root().join("trash"))? {
        remove_tree(&path).map_err(StoreError::io("remove", &path))?;
    }
    for (_, path) in list(&store.root().join("tmp"))? {
        if stamp(&path)?.is_some_and(|stamp| stamp.ctime < nanos(now - YOUNG)) {
            remove_tree(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn sharded(root: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let mut all = Vec::new();
    for (_, shard) in list(root)? {
        if shard.is_dir() {
            all.append(&mut list(&shard)?);
        }
    }
    Ok(all)
}

fn list(directory: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let error = StoreError::io("read", directory);
    let entries: Result<Vec<_>, _> = fs::read_dir(directory).and_then(Iterator::collect);
    let entries = entries.map_err(error)?;
    Ok(entries.into_iter().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect())
}

fn stamp(path: &Path) -> Result<Option<Stamp>, StoreError> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(Stamp::from(&stat))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(e) => Err(StoreError::io("read", path)(e)),
    }
}

fn nanos(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}
