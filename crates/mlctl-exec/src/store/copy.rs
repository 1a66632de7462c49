//! Copies out of the store: real files that may be written. What is copied is hashed on the way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;

use super::put::copy_file;
use super::{ObjectName, Store, StoreError};
use crate::hash;
use crate::manifest::{Manifest, Node};

impl Store {
    /// Makes a source tree as real, writable files in `into`, an existing directory in which nothing of it exists yet.
    /// If one of its files is missing or damaged, the tree is forgotten: the next [`Store::put_sources`] stores it anew.
    pub fn checkout(&self, tree: &Manifest, into: &Path) -> Result<(), StoreError> {
        let copy = |_: &str, digest, executable, to: &Path| {
            let name = ObjectName::file(digest, executable);
            copy_checked(&self.path_of(&name), digest, executable, to).inspect_err(|e| {
                if matches!(e, StoreError::Damaged { .. }) {
                    let _ = self.remove(&name);
                }
            })
        };
        materialise(tree, into, &copy).inspect_err(|e| {
            if matches!(e, StoreError::Missing { .. } | StoreError::Damaged { .. }) {
                let _ = self.remove(&ObjectName::manifest(tree.artifact().digest));
            }
        })
    }

    /// Copies an artifact, or an entry of a directory, to `to`, which does not exist yet. An object that turns out to be
    /// damaged is moved away.
    pub fn copy_out(&self, artifact: &Artifact, entry: Option<&str>, to: &Path) -> Result<(), StoreError> {
        self.copy_part(artifact, entry.unwrap_or_default(), to).map_err(|e| match e {
            StoreError::Damaged { .. } => {
                let _ = self.remove(&ObjectName::of(artifact));
                StoreError::Damaged { digest: artifact.digest }
            }
            StoreError::Missing { .. } => StoreError::Missing { digest: artifact.digest },
            other => other,
        })
    }

    fn copy_part(&self, artifact: &Artifact, entry: &str, to: &Path) -> Result<(), StoreError> {
        let object = self.object_path(artifact);
        let whole = Node::of(artifact);
        let (object, node, below) = if whole == Node::Directory {
            let manifest = self.manifest(&artifact.digest)?;
            let (path, node) = manifest
                .resolve(entry)
                .ok_or_else(|| StoreError::NoEntry { digest: artifact.digest, entry: entry.to_owned() })?;
            (object.join(&path), node, manifest.below(&path))
        } else {
            (object, whole, Manifest::default())
        };
        if let Node::File { digest, executable, .. } = node {
            return copy_checked(&object, digest, executable, to);
        }
        fs::create_dir(to).map_err(StoreError::io("create", to))?;
        materialise(&below, to, &|path, digest, executable, to| {
            copy_checked(&object.join(path), digest, executable, to)
        })
    }
}

/// Makes what a manifest says, with `copy` making each file.
fn materialise(
    manifest: &Manifest,
    into: &Path,
    copy: &(impl Fn(&str, Digest, bool, &Path) -> Result<(), StoreError> + Sync),
) -> Result<(), StoreError> {
    let mut files = Vec::new();
    // Directories sort before what they hold.
    for entry in manifest.entries() {
        let path = || -> PathBuf { into.join(&entry.path) };
        match &entry.node {
            Node::Directory => fs::create_dir(path()).map_err(StoreError::io("create", &path()))?,
            Node::Link { target } => {
                std::os::unix::fs::symlink(target, path()).map_err(StoreError::io("create", &path()))?;
            }
            Node::File { digest, executable, .. } => files.push((&entry.path, *digest, *executable)),
        }
    }
    hash::on_threads(files.len(), |index| {
        let (path, digest, executable) = files[index];
        copy(path, digest, executable, &into.join(path))
    })?;
    Ok(())
}

/// Copies a file that must have this digest; if it does not, the copy is removed.
fn copy_checked(object: &Path, digest: Digest, executable: bool, to: &Path) -> Result<(), StoreError> {
    let mode = if executable { 0o755 } else { 0o644 };
    let copied = match copy_file(object, to, mode) {
        Ok((_, found, _)) if found == digest => return Ok(()),
        Ok(_) | Err(StoreError::Changed { .. }) => Err(StoreError::Damaged { digest }),
        Err(StoreError::Io { path, source, .. }) if path == object && source.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Missing { digest });
        }
        Err(e) => Err(e),
    };
    let exists_already =
        matches!(&copied, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists);
    if !exists_already {
        let _ = fs::remove_file(to);
    }
    copied
}
