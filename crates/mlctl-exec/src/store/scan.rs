//! Walks of directories that are about to be stored, or removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mlctl_core::digest::Digest;
use rustix::fs::{FileType, Stat};

use super::{StoreError, Unfit};
use crate::hash;
use crate::manifest::{Entry, Manifest, ManifestError, Node};

/// What a directory holds, not yet read.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Relative paths, parents before what they hold.
    pub(super) directories: Vec<String>,
    pub(crate) files: Vec<String>,
    links: Vec<(String, String)>,
}

impl Scan {
    /// Walks without following links. Anything that cannot be stored is an error.
    pub(crate) fn of(root: &Path) -> Result<Self, StoreError> {
        let mut scan = Self::default();
        let mut open = vec![String::new()];
        while let Some(directory) = open.pop() {
            let path = root.join(&directory);
            let entries = fs::read_dir(&path).map_err(StoreError::io("read", &path))?;
            for entry in entries {
                let entry = entry.map_err(StoreError::io("read", &path))?;
                if let Some(below) = scan.add(&directory, &entry)? {
                    open.push(below);
                }
            }
        }
        Ok(scan)
    }

    /// Adds one entry; a directory's path is returned, to be read too.
    fn add(&mut self, directory: &str, entry: &fs::DirEntry) -> Result<Option<String>, StoreError> {
        let full = entry.path();
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| StoreError::unfit(&full, Unfit::NotUtf8))?;
        let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        let kind = entry.file_type().map_err(StoreError::io("read", &full))?;
        if kind.is_dir() {
            self.directories.push(path.clone());
            return Ok(Some(path));
        } else if kind.is_file() {
            self.files.push(path);
        } else if kind.is_symlink() {
            let target = fs::read_link(&full).map_err(StoreError::io("read", &full))?;
            let target = target.into_os_string().into_string().map_err(|_| StoreError::unfit(&full, Unfit::NotUtf8))?;
            self.links.push((path, target));
        } else {
            return Err(StoreError::unfit(&full, Unfit::Special(special_type(kind))));
        }
        Ok(None)
    }

    /// The manifest, once the files have been read: their nodes in the order of `files`.
    pub(crate) fn manifest(&self, root: &Path, nodes: Vec<Node>) -> Result<Manifest, StoreError> {
        let directories = self.directories.iter().map(|path| Entry { path: path.clone(), node: Node::Directory });
        let files = self.files.iter().zip(nodes).map(|(path, node)| Entry { path: path.clone(), node });
        let links = self
            .links
            .iter()
            .map(|(path, target)| Entry { path: path.clone(), node: Node::Link { target: target.clone() } });
        Manifest::new(directories.chain(files).chain(links).collect()).map_err(|e| match e {
            ManifestError::Links(links) => match links.into_iter().next() {
                Some((path, why)) => StoreError::unfit(&root.join(path), why),
                None => StoreError::Changed { path: root.to_owned() },
            },
            ManifestError::Malformed => StoreError::Changed { path: root.to_owned() },
        })
    }

    /// What a directory with this manifest holds.
    pub(super) fn of_manifest(manifest: &Manifest) -> Self {
        let mut scan = Self::default();
        for Entry { path, node } in manifest.entries() {
            match node {
                Node::Directory => scan.directories.push(path.clone()),
                Node::File { .. } => scan.files.push(path.clone()),
                Node::Link { target } => scan.links.push((path.clone(), target.clone())),
            }
        }
        scan
    }

    /// Makes the same directories and links below `to`, which exists.
    pub(super) fn recreate(&self, to: &Path) -> Result<(), StoreError> {
        for directory in &self.directories {
            let path = to.join(directory);
            fs::create_dir(&path).map_err(StoreError::io("create", &path))?;
        }
        for (path, target) in &self.links {
            let path = to.join(path);
            std::os::unix::fs::symlink(target, &path).map_err(StoreError::io("create", &path))?;
        }
        Ok(())
    }
}

/// The node of a file with this `fstat` and digest.
pub(crate) const fn node(stat: &Stat, digest: Digest) -> Node {
    Node::File { digest, size: stat.st_size as u64, executable: stat.st_mode & 0o111 != 0 }
}

/// The manifest of a directory on disk.
pub(super) fn digest_directory(root: &Path) -> Result<Manifest, StoreError> {
    let scan = Scan::of(root)?;
    let nodes = hash::on_threads(scan.files.len(), |index| {
        let path = root.join(&scan.files[index]);
        let (file, stat) = hash::open(&path)?;
        Ok::<_, StoreError>(node(&stat, hash::contents(&file, &stat, &path, None)?))
    })?;
    scan.manifest(root, nodes)
}

/// The name of what is neither a file nor a directory nor a link.
pub(crate) fn special_type(kind: fs::FileType) -> &'static str {
    if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

/// The same for what `fstat` says.
pub(crate) const fn special(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        _ => "device",
    }
}

/// Removes a file or a whole directory, also one with directories that may not be written. That there is nothing is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_directory(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_writable(root: &Path) -> io::Result<()> {
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}
