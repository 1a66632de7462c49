//! Copies out of the store: real files that may be written. What is copied is hashed on the way.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;

use super::objects::Form;
use super::put::create;
use super::{ObjectName, Store, StoreError};
use crate::hash;
use crate::manifest::{Entry, Manifest, Node};

impl Store {
    /// Makes a source tree as real, writable files in `into`, an existing directory in which nothing of it exists yet.
    pub fn checkout(&self, tree: &Manifest, into: &Path) -> Result<(), StoreError> {
        // Directories sort before what they hold.
        for entry in tree.entries().iter().filter(|e| !matches!(e.node, Node::File { .. })) {
            self.checkout_entry(entry, into)?;
        }
        let files: Vec<&Entry> = tree.entries().iter().filter(|e| matches!(e.node, Node::File { .. })).collect();
        hash::on_threads(files.len(), |index| self.checkout_entry(files[index], into))?;
        Ok(())
    }

    /// Makes one entry of a source tree in `into`; its parent exists and it does not.
    pub fn checkout_entry(&self, entry: &Entry, into: &Path) -> Result<(), StoreError> {
        let path = into.join(&entry.path);
        match &entry.node {
            Node::Directory => fs::create_dir(&path).map_err(StoreError::io("create", &path)),
            Node::Link { target } => std::os::unix::fs::symlink(target, &path).map_err(StoreError::io("create", &path)),
            Node::File { digest, executable, .. } => {
                let form = if *executable { Form::Executable } else { Form::File };
                let name = ObjectName::new(*digest, form);
                if self.copy_out_file(&self.path_of(&name), *digest, *executable, &path)? {
                    return Ok(());
                }
                self.remove(&name)?;
                Err(StoreError::Damaged { digest: *digest })
            }
        }
    }

    /// Copies an artifact, or an entry of a directory, to `to`, which does not exist yet.
    pub fn copy_out(&self, artifact: &Artifact, entry: Option<&str>, to: &Path) -> Result<(), StoreError> {
        let (wanted, object) = match entry {
            None => (*artifact, self.object_path(artifact)),
            Some(entry) => (self.sub(artifact, entry)?, self.object_path(artifact).join(entry)),
        };
        let whole = match wanted.kind {
            ArtifactKind::Directory => {
                let manifest = self.manifest(&artifact.digest)?;
                // Links on the way to the entry lead to real directories inside the object.
                let object = fs::canonicalize(&object).map_err(|e| missing(e, artifact.digest, &object))?;
                let root = fs::canonicalize(self.object_path(artifact)).map_err(StoreError::io("read", &object))?;
                let below = object.strip_prefix(&root).ok().and_then(Path::to_str).unwrap_or_default();
                self.copy_out_directory(&manifest.below(below), &object, to)?
            }
            kind => {
                let object = fs::canonicalize(&object).map_err(|e| missing(e, artifact.digest, &object))?;
                self.copy_out_file(&object, wanted.digest, kind == ArtifactKind::Executable, to)?
            }
        };
        if whole {
            return Ok(());
        }
        self.remove(&ObjectName::of(artifact))?;
        Err(StoreError::Damaged { digest: artifact.digest })
    }

    fn copy_out_directory(&self, manifest: &Manifest, object: &Path, to: &Path) -> Result<bool, StoreError> {
        fs::create_dir(to).map_err(StoreError::io("create", to))?;
        for entry in manifest.entries().iter().filter(|e| !matches!(e.node, Node::File { .. })) {
            self.checkout_entry(entry, to)?;
        }
        let files: Vec<_> = manifest
            .entries()
            .iter()
            .filter_map(|e| match e.node {
                Node::File { digest, executable, .. } => Some((&e.path, digest, executable)),
                _ => None,
            })
            .collect();
        let whole = hash::on_threads(files.len(), |index| {
            let (path, digest, executable) = files[index];
            self.copy_out_file(&object.join(path), digest, executable, &to.join(path))
        })?;
        Ok(whole.into_iter().all(|w| w))
    }

    /// `false`: the object is not what it should be; the copy is removed.
    fn copy_out_file(&self, object: &Path, digest: Digest, executable: bool, to: &Path) -> Result<bool, StoreError> {
        let (file, stat) = hash::open(object).map_err(|e| match e {
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                StoreError::Missing { digest }
            }
            e => e,
        })?;
        let copy = create(to)?;
        let result = hash::contents(&file, &stat, object, Some(&copy));
        match result {
            Ok(found) if found == digest => {}
            Ok(_) | Err(StoreError::Changed { .. }) => {
                fs::remove_file(to).map_err(StoreError::io("remove", to))?;
                return Ok(false);
            }
            Err(e) => {
                let _ = fs::remove_file(to);
                return Err(e);
            }
        }
        if executable {
            make_executable(&copy, to)?;
        }
        Ok(true)
    }
}

fn make_executable(file: &File, path: &Path) -> Result<(), StoreError> {
    file.set_permissions(Permissions::from_mode(0o755)).map_err(StoreError::io("change the mode of", path))
}

fn missing(e: std::io::Error, digest: Digest, path: &Path) -> StoreError {
    if e.kind() == std::io::ErrorKind::NotFound {
        StoreError::Missing { digest }
    } else {
        StoreError::io("read", path)(e)
    }
}
