//! What comes from another store: nothing of it is taken for what its name says before it has been hashed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;

use super::put::set_read_only;
use super::scan::{self, Scan};
use super::{ObjectName, Store, StoreError};
use crate::hash;
use crate::manifest::{Manifest, Node};

impl Store {
    /// Stores the content of a file that has come whole.
    pub fn receive_bytes(&self, bytes: &[u8], artifact: &Artifact) -> Result<(), StoreError> {
        if Digest::of(bytes) != artifact.digest {
            return Err(StoreError::Damaged { digest: artifact.digest });
        }
        self.put_bytes_as(bytes, ObjectName::of(artifact))
    }

    /// Stores a file that has come to `path`, on the store's file system, and takes it away. It was hashed while it came: to
    /// `found`.
    pub fn receive_file(&self, path: &Path, found: Digest, artifact: &Artifact) -> Result<(), StoreError> {
        if found != artifact.digest {
            return Err(StoreError::Damaged { digest: artifact.digest });
        }
        let (file, _) = hash::open(path)?;
        self.install(path, &file, ObjectName::of(artifact))
    }

    /// A path for a file on its way, which nothing else uses.
    pub fn spare_path(&self) -> PathBuf {
        self.temporary()
    }

    /// Begins to store a directory whose files come one by one.
    pub fn receive_directory(self: &Arc<Self>, manifest: Manifest) -> Result<Incoming, StoreError> {
        let path = self.temporary();
        fs::create_dir(&path).map_err(StoreError::io("create", &path))?;
        let scan = Scan::of_manifest(&manifest);
        let incoming = Incoming { store: self.clone(), manifest, scan, path, written: AtomicUsize::new(0) };
        incoming.scan.recreate(&incoming.path)?;
        Ok(incoming)
    }

    /// Stores the manifest of a source tree, whose files have come before it.
    pub fn receive_sources(&self, tree: &Manifest) -> Result<(), StoreError> {
        for entry in tree.entries() {
            if let Some(file) = entry.node.as_file()
                && !self.is_right(&file)?
            {
                return Err(StoreError::Missing { digest: file.digest });
            }
        }
        let bytes = tree.encode();
        self.put_manifest(&bytes, Digest::of(&bytes))
    }
}

/// A directory that is not complete yet. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    store: Arc<Store>,
    manifest: Manifest,
    scan: Scan,
    path: PathBuf,
    written: AtomicUsize,
}

impl Incoming {
    /// What it will hold.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes the file at `path` of the manifest. Bytes that are not its content are an error.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let (digest, executable) = self.file(path)?;
        if Digest::of(bytes) != digest {
            return Err(StoreError::Damaged { digest });
        }
        let to = self.path.join(path);
        let mode = if executable { 0o555 } else { 0o444 };
        let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(&to);
        let mut file = open.map_err(StoreError::io("create", &to))?;
        file.write_all(bytes).map_err(StoreError::io("write", &to))?;
        self.complete(&file, executable, &to)
    }

    /// The same with a file that has come to `from`, on the store's file system, and was hashed meanwhile: it is taken away.
    pub fn take(&self, path: &str, from: &Path, found: Digest) -> Result<(), StoreError> {
        let (digest, executable) = self.file(path)?;
        if found != digest {
            return Err(StoreError::Damaged { digest });
        }
        let (file, _) = hash::open(from)?;
        let to = self.path.join(path);
        fs::rename(from, &to).map_err(StoreError::io("write", &to))?;
        self.complete(&file, executable, &to)
    }

    /// Gives the directory its name in the store. Every file of the manifest must have been written.
    pub fn finish(self) -> Result<Artifact, StoreError> {
        let files = self.manifest.entries().iter().filter(|entry| entry.node.as_file().is_some()).count();
        if self.written.load(Ordering::Relaxed) != files {
            return Err(StoreError::Missing { digest: self.manifest.artifact().digest });
        }
        self.store.install_directory(&self.path, &self.scan, &self.manifest)
    }

    fn file(&self, path: &str) -> Result<(Digest, bool), StoreError> {
        match self.manifest.get(path).map(|entry| &entry.node) {
            Some(Node::File { digest, executable, .. }) => Ok((*digest, *executable)),
            _ => Err(StoreError::NoEntry { digest: self.manifest.artifact().digest, entry: path.to_owned() }),
        }
    }

    fn complete(&self, file: &fs::File, executable: bool, path: &Path) -> Result<(), StoreError> {
        set_read_only(file, executable, path)?;
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Where it was finished there is nothing.
        let _ = scan::remove_tree(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use mlctl_core::action::ArtifactKind;

    use super::*;

    fn store() -> (tempfile::TempDir, Arc<Store>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
        (dir, store)
    }

    #[test]
    fn a_received_directory_is_the_one_that_was_stored() {
        let ((dir, there), (_here_dir, here)) = (store(), store());
        let source = dir.path().join("source");
        fs::create_dir_all(source.join("sub/empty")).unwrap();
        fs::write(source.join("sub/a"), "a").unwrap();
        fs::write(source.join("b"), "b").unwrap();
        std::os::unix::fs::symlink("sub/a", source.join("link")).unwrap();
        let artifact = there.put_copy(&source).unwrap();

        let incoming = here.receive_directory(there.manifest(&artifact.digest).unwrap()).unwrap();
        assert!(matches!(incoming.write("b", b"other"), Err(StoreError::Damaged { .. })));
        incoming.write("b", b"b").unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "a").unwrap();
        assert!(matches!(incoming.take("sub/a", &file, Digest::of(b"b")), Err(StoreError::Damaged { .. })));
        incoming.take("sub/a", &file, Digest::of(b"a")).unwrap();
        assert_eq!(incoming.finish().unwrap(), artifact);
        here.verify(&artifact).unwrap();
    }

    #[test]
    fn an_incomplete_directory_is_none() {
        let ((dir, there), (here_dir, here)) = (store(), store());
        fs::create_dir(dir.path().join("source")).unwrap();
        fs::write(dir.path().join("source/a"), "a").unwrap();
        let artifact = there.put_copy(&dir.path().join("source")).unwrap();
        let incoming = here.receive_directory(there.manifest(&artifact.digest).unwrap()).unwrap();
        assert!(matches!(incoming.finish(), Err(StoreError::Missing { .. })));
        assert!(!here.contains(&artifact));
        assert_eq!(fs::read_dir(here_dir.path().join("store/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_not_what_was_asked_for_is_refused() {
        let (dir, here) = store();
        let artifact = Artifact { kind: ArtifactKind::File, digest: Digest::of(b"right"), size: 5 };
        assert!(here.receive_bytes(b"wrong", &artifact).is_err());
        let path = dir.path().join("file");
        fs::write(&path, "wrong").unwrap();
        let found = Digest::of(b"wrong");
        assert!(matches!(here.receive_file(&path, found, &artifact), Err(StoreError::Damaged { .. })));
        assert!(!here.contains(&artifact));
        fs::write(&path, "right").unwrap();
        here.receive_file(&path, artifact.digest, &artifact).unwrap();
        here.verify(&artifact).unwrap();
    }
}
