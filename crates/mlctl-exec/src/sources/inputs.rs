//! Inputs from the project: files and directories that steps name by path. Unlike sources they are copied into the
//! store as one object each, ignore files do not apply, and empty directories are kept.

use std::fs;
use std::path::{Component, Path, PathBuf};

use mlctl_core::action::Artifact;
use rustix::fs::{FileType, Stat};

use crate::hash;
use crate::manifest::Node;
use crate::stamps::Stamps;
use crate::store::{Scan, Stamp, Store, StoreError, Unfit, node, special};

/// The inputs of a project, with a cache of their digests like that of [`super::Snapshot`].
#[derive(Debug)]
pub struct Inputs {
    root: PathBuf,
    stamps: Stamps,
}

impl Inputs {
    /// Of the project; `stamps` is the file of the cache.
    pub fn of(project: &Path, stamps: &Path) -> Result<Self, StoreError> {
        let root = fs::canonicalize(project).map_err(StoreError::io("read", project))?;
        Ok(Self { root, stamps: Stamps::at(stamps) })
    }

    /// What is at this path of the project. Nothing is stored. A file whose stamp is known is not read.
    pub fn digest(&self, path: &str) -> Result<Artifact, StoreError> {
        let (full, stat) = self.locate(path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(&full),
            FileType::RegularFile => match self.file(&full)?.as_file() {
                Some(artifact) => Ok(artifact),
                None => Err(StoreError::Changed { path: full }),
            },
            _ => Err(StoreError::unfit(&full, Unfit::Special(special(&stat)))),
        }
    }

    /// The same, and stores a copy unless the store has it.
    pub fn put(&self, path: &str, store: &Store) -> Result<Artifact, StoreError> {
        let artifact = self.digest(path)?;
        if store.has(&artifact)? {
            return Ok(artifact);
        }
        let (full, _) = self.locate(path)?;
        let stored = store.put_copy(&full)?;
        if stored == artifact && store.has(&artifact)? { Ok(artifact) } else { Err(StoreError::Changed { path: full }) }
    }

    /// Remembers what was hashed for the next time. An error matters little: the next time then takes longer.
    pub fn save(&self) -> Result<(), StoreError> {
        self.stamps.save(|path| self.root.join(path).symlink_metadata().is_ok())
    }

    /// Where it really is: a link may lead to it, but not out of the project.
    fn locate(&self, path: &str) -> Result<(PathBuf, Stat), StoreError> {
        let given = self.root.join(path);
        // A path with params in it is only known now.
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(StoreError::unfit(Path::new(path), Unfit::NotRelative));
        }
        let full = fs::canonicalize(&given).map_err(StoreError::io("read", &given))?;
        let Ok(inside) = full.strip_prefix(&self.root) else {
            return Err(StoreError::unfit(&given, Unfit::Outside(full)));
        };
        if inside.components().next().is_none_or(|first| [".mlctl", ".git"].iter().any(|own| first.as_os_str() == *own))
        {
            return Err(StoreError::unfit(&given, Unfit::Reserved));
        }
        let stat = rustix::fs::lstat(&full).map_err(StoreError::io("read", &full))?;
        Ok((full, stat))
    }

    fn directory(&self, full: &Path) -> Result<Artifact, StoreError> {
        let scan = Scan::of(full)?;
        let nodes = hash::on_threads(scan.files.len(), |index| self.file(&full.join(&scan.files[index])))?;
        Ok(scan.manifest(full, nodes)?.artifact())
    }

    fn file(&self, full: &Path) -> Result<Node, StoreError> {
        let name = full.strip_prefix(&self.root).ok().and_then(Path::to_str);
        let name = name.ok_or_else(|| StoreError::unfit(full, Unfit::NotUtf8))?;
        if self.stamps.knows(name) {
            let stat = rustix::fs::lstat(full).map_err(StoreError::io("read", full))?;
            if let Some(digest) = self.stamps.get(name, Stamp::from(&stat)) {
                return Ok(node(&stat, digest));
            }
        }
        self.stamps.hash(name, full)
    }
}
