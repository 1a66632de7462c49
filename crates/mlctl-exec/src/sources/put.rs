//! Source trees in the store: a manifest, and a file object for each file.
//!
//! The manifest is written last, and gc removes it first: where it is, the files are. What a power loss may have torn is
//! checked once in each boot; what was damaged otherwise is found when the tree is checked out.

use std::path::Path;

use super::SourceTree;
use crate::hash;
use crate::manifest::Node;
use crate::store::{ObjectName, Stamp, Store, StoreError};

impl Store {
    /// Stores what the tree holds and is not there yet. A file that has changed since the snapshot is an error: what
    /// would be stored is not what was keyed.
    pub fn put_sources(&self, tree: &SourceTree) -> Result<(), StoreError> {
        let name = ObjectName::manifest(tree.digest);
        if self.has_tree(&name)? {
            return Ok(());
        }
        // Not while gc decides: it could take files that are here already before the manifest names them.
        let _lock = self.lock_gc()?;
        let files: Vec<_> = tree
            .manifest
            .entries()
            .iter()
            .filter_map(|e| match e.node {
                Node::File { digest, executable, .. } => Some((&e.path, ObjectName::file(digest, executable))),
                _ => None,
            })
            .collect();
        hash::on_threads(files.len(), |index| {
            let (path, name) = files[index];
            self.put_source(&tree.root.join(path), &name)
        })?;
        self.put_manifest(&tree.manifest.encode(), tree.digest)?;
        self.touch(&name)
    }

    fn has_tree(&self, manifest: &ObjectName) -> Result<bool, StoreError> {
        let Some(stat) = self.stat(manifest)? else { return Ok(false) };
        let stamp = Stamp::from(&stat);
        Ok(self.is_of_this_boot(stamp.ctime) && self.keep(manifest, stamp)?.is_some())
    }

    fn put_source(&self, path: &Path, name: &ObjectName) -> Result<(), StoreError> {
        if let Some(stat) = self.stat(name)?
            && (self.is_of_this_boot(Stamp::from(&stat).ctime) || self.vouch(name)?.is_some())
        {
            return Ok(());
        }
        let artifact = self.put_copy(path)?;
        if ObjectName::of(&artifact) == *name { Ok(()) } else { Err(StoreError::Changed { path: path.to_owned() }) }
    }
}
