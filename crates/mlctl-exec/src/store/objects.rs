//! Names of objects, and whether an object is what its name says.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use rustix::fs::{AtFlags, Mode, Stat};
use rustix::io::Errno;

use super::{Stamp, Store, StoreError, boot, scan};
use crate::hash;
use crate::manifest::Manifest;

/// What lies under one name in `objects/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectName {
    pub(crate) digest: Digest,
    pub(crate) form: Form,
}

/// The forms of an object, and the suffixes of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Form {
    File,
    Executable,
    Directory,
    Manifest,
}

/// Whatever is older than this when something starts to rely on it is made young under the lock that gc takes: so gc
/// may take what is older (see `gc`).
pub(crate) const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);

impl ObjectName {
    pub(crate) const fn new(digest: Digest, form: Form) -> Self {
        Self { digest, form }
    }

    pub(crate) const fn of(artifact: &Artifact) -> Self {
        let form = match artifact.kind {
            ArtifactKind::File => Form::File,
            ArtifactKind::Executable => Form::Executable,
            ArtifactKind::Directory => Form::Directory,
        };
        Self::new(artifact.digest, form)
    }

    pub(crate) const fn file(digest: Digest, executable: bool) -> Self {
        Self::new(digest, if executable { Form::Executable } else { Form::File })
    }

    pub(crate) const fn manifest(digest: Digest) -> Self {
        Self::new(digest, Form::Manifest)
    }

    /// The path below `objects/`.
    pub(crate) fn path(self) -> String {
        let hex = self.digest.to_hex();
        let suffix = match self.form {
            Form::File => "",
            Form::Executable => ".x",
            Form::Directory => ".d",
            Form::Manifest => ".m",
        };
        [&hex[..2], "/", &hex, suffix].concat()
    }

    /// The name that a file's name in a shard stands for.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (digest, form) = match name.split_once('.') {
            None => (name, Form::File),
            Some((digest, "x")) => (digest, Form::Executable),
            Some((digest, "d")) => (digest, Form::Directory),
            Some((digest, "m")) => (digest, Form::Manifest),
            Some(_) => return None,
        };
        Some(Self::new(digest.parse().ok()?, form))
    }

    pub(crate) const fn mode(self) -> Mode {
        match self.form {
            Form::File | Form::Manifest => Mode::from_raw_mode(0o444),
            Form::Executable | Form::Directory => Mode::from_raw_mode(0o555),
        }
    }
}

impl Store {
    /// Whether the object is there. Its content is not looked at, and gc may take it: see [`Store::has`].
    pub fn contains(&self, artifact: &Artifact) -> bool {
        self.stat(&ObjectName::of(artifact)).is_ok_and(|stat| stat.is_some())
    }

    /// Whether the object is there and right, as far as its stamp tells; where that is not the one it had when it was last
    /// known to be right it is rehashed. One that is damaged is moved away.
    pub fn is_right(&self, artifact: &Artifact) -> Result<bool, StoreError> {
        Ok(self.vouch(&ObjectName::of(artifact))?.is_some())
    }

    /// Rehashes the object: all of it, whatever its stamp. One that is not what its name says is moved away.
    pub fn verify(&self, artifact: &Artifact) -> Result<(), StoreError> {
        let name = ObjectName::of(artifact);
        match self.rehash(&name)? {
            Some(_) => Ok(()),
            None => Err(StoreError::Damaged { digest: name.digest }),
        }
    }

    pub(crate) fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        match rustix::fs::statat(&self.objects, name.path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(StoreError::io("read", &self.path_of(name))(e)),
        }
    }

    /// The stamp of an object that exists, after making sure that its content is right: by its stamp where this process
    /// has seen it before, else by hashing it. `None`: it is not there, or was damaged and has been moved away.
    pub(crate) fn vouch(&self, name: &ObjectName) -> Result<Option<Stamp>, StoreError> {
        let Some(stat) = self.stat(name)? else { return Ok(None) };
        let stamp = Stamp::from(&stat);
        if self.is_verified(name, &stamp) {
            return Ok(Some(stamp));
        }
        self.rehash(name)
    }

    pub(crate) fn is_verified(&self, name: &ObjectName, stamp: &Stamp) -> bool {
        hash::lock(&self.verified).get(name) == Some(stamp)
    }

    pub(crate) fn mark_verified(&self, name: ObjectName, stamp: Stamp) {
        hash::lock(&self.verified).insert(name, stamp);
    }

    fn rehash(&self, name: &ObjectName) -> Result<Option<Stamp>, StoreError> {
        let path = self.path_of(name);
        let Some(stat) = self.stat(name)? else { return Ok(None) };
        let right = match name.form {
            Form::Directory => self.directory_is_right(&path, name.digest)?,
            Form::File | Form::Executable | Form::Manifest => match hash::file(&path) {
                Ok((digest, _)) => digest == name.digest,
                Err(e) if e.is_content() => false,
                Err(e) => return Err(e),
            },
        };
        if !right {
            self.remove(name)?;
            return Ok(None);
        }
        let stamp = Stamp::from(&stat);
        self.mark_verified(*name, stamp);
        Ok(Some(stamp))
    }

    fn directory_is_right(&self, path: &Path, digest: Digest) -> Result<bool, StoreError> {
        match scan::digest_directory(path) {
            Ok(manifest) => Ok(manifest.artifact().digest == digest),
            Err(e) if e.is_content() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Moves a damaged object away.
    pub(crate) fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        hash::lock(&self.verified).remove(name);
        let path = self.path_of(name);
        match self.discard(&path) {
            Ok(trash) => remove_quietly(&trash),
            // Somebody else was faster.
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Something now relies on an object that was already here. If it is old, gc could be about to take it: under the
    /// lock that gc takes it is made young, by setting the mode that it has. (Entries that name it find another stamp then,
    /// and rehash it once.) `None`: gc was faster.
    pub(crate) fn keep(&self, name: &ObjectName, stamp: Stamp) -> Result<Option<Stamp>, StoreError> {
        if is_young(stamp.ctime) {
            return Ok(Some(stamp));
        }
        let _lock = self.lock_gc()?;
        match self.touch(name) {
            Err(StoreError::Missing { .. }) => return Ok(None),
            other => other?,
        }
        let Some(stat) = self.stat(name)? else { return Ok(None) };
        let young = Stamp::from(&stat);
        // Only the ctime may differ from what was vouched for.
        if (Stamp { ctime: stamp.ctime, ..young }) != stamp {
            return self.rehash(name);
        }
        self.mark_verified(*name, young);
        Ok(Some(young))
    }

    /// Makes an object young without changing it: sets the mode that it has.
    pub(crate) fn touch(&self, name: &ObjectName) -> Result<(), StoreError> {
        match rustix::fs::chmodat(&self.objects, name.path(), name.mode(), AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(StoreError::Missing { digest: name.digest }),
            Err(e) => Err(StoreError::io("touch", &self.path_of(name))(e)),
        }
    }

    /// Whether something that had its last change then was certainly written in this boot.
    pub(crate) fn is_of_this_boot(&self, ctime: i64) -> bool {
        ctime >= now() - boot::uptime() as i64
    }

    /// The manifest of a stored directory or source tree.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let name = ObjectName::manifest(*digest);
        let path = self.path_of(&name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::Missing { digest: *digest }),
            Err(e) => return Err(StoreError::io("read", &path)(e)),
        };
        if Digest::of(&bytes) == *digest
            && let Ok(manifest) = Manifest::decode(&bytes)
        {
            return Ok(manifest);
        }
        self.remove(&name)?;
        Err(StoreError::Damaged { digest: *digest })
    }

    /// The names of what is directly in a stored directory.
    pub fn entries(&self, directory: &Artifact) -> Result<Vec<String>, StoreError> {
        Ok(self.manifest(&directory.digest)?.names().into_iter().map(str::to_owned).collect())
    }

    /// The artifact that an entry of a stored directory is. Mostly all entries of one are asked for in a row.
    pub fn sub(&self, directory: &Artifact, entry: &str) -> Result<Artifact, StoreError> {
        let digest = directory.digest;
        let latest = hash::lock(&self.latest_manifest).clone().filter(|(of, _)| *of == digest);
        let manifest = match latest {
            Some((_, manifest)) => manifest,
            None => {
                let manifest = Arc::new(self.manifest(&digest)?);
                *hash::lock(&self.latest_manifest) = Some((digest, manifest.clone()));
                manifest
            }
        };
        manifest.sub(entry).ok_or_else(|| StoreError::NoEntry { digest, entry: entry.to_owned() })
    }
}

/// What remains in the trash is removed by the next gc.
fn remove_quietly(trash: &Path) {
    let _ = scan::remove_tree(trash);
}

/// A time from a stamp. One in the future counts as young: the clock went back.
pub(crate) fn is_young(ctime: i64) -> bool {
    ctime > now() - YOUNG.as_nanos() as i64
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}
