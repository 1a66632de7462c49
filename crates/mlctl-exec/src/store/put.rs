//! Putting: what a step made is renamed in, what the user owns is copied in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use rustix::fs::{CWD, FileType, Mode, Stat};
use rustix::io::Errno;

use super::objects::Form;
use super::scan::{self, Scan};
use super::{ObjectName, Stamp, Store, StoreError, Unfit};
use crate::hash;
use crate::manifest::{Manifest, Node};

/// Until it is complete.
const WRITABLE: u32 = 0o644;

impl Store {
    /// Stores what a step made, and takes it away: hashed, made read-only, renamed. Nothing may write to it any more.
    /// It is copied only if it lies on another file system, or if it is a file that has other names (hard links), since
    /// through those it could still be changed.
    pub fn put_output(&self, path: &Path) -> Result<Artifact, StoreError> {
        let stat = rustix::fs::lstat(path).map_err(StoreError::io("read", path))?;
        let adopted = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_nlink > 1 => None,
            FileType::RegularFile => elsewhere(self.adopt_file(path))?,
            FileType::Directory => elsewhere(self.adopt_directory(path))?,
            _ => return Err(unfit(path, &stat)),
        };
        if let Some(artifact) = adopted {
            return Ok(artifact);
        }
        let artifact = self.put_copy(path)?;
        scan::remove_tree(path).map_err(StoreError::io("remove", path))?;
        Ok(artifact)
    }

    /// Stores a copy of a file or directory that stays where it is. File systems that can share the blocks do.
    pub fn put_copy(&self, path: &Path) -> Result<Artifact, StoreError> {
        let stat = rustix::fs::lstat(path).map_err(StoreError::io("read", path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.copy_in_file(path),
            FileType::Directory => self.copy_in_directory(path),
            _ => Err(unfit(path, &stat)),
        }
    }

    /// Stores these bytes as a file.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Artifact, StoreError> {
        let artifact = Artifact { kind: ArtifactKind::File, digest: Digest::of(bytes), size: bytes.len() as u64 };
        self.put_bytes_as(bytes, ObjectName::of(&artifact))?;
        Ok(artifact)
    }

    pub(crate) fn put_manifest(&self, bytes: &[u8], digest: Digest) -> Result<(), StoreError> {
        self.put_bytes_as(bytes, ObjectName::manifest(digest))
    }

    pub(super) fn put_bytes_as(&self, bytes: &[u8], name: ObjectName) -> Result<(), StoreError> {
        if self.holds(&name)? {
            return Ok(());
        }
        let temporary = self.temporary();
        let write = || {
            let mut file = create(&temporary, WRITABLE)?;
            file.write_all(bytes).map_err(StoreError::io("write", &temporary))?;
            self.install(&temporary, &file, name)
        };
        write().inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Whether the object is there, right, and safe from gc.
    pub(crate) fn holds(&self, name: &ObjectName) -> Result<bool, StoreError> {
        match self.vouch(name)? {
            Some(stamp) => Ok(self.keep(name, stamp)?.is_some()),
            None => Ok(false),
        }
    }

    fn adopt_file(&self, path: &Path) -> Result<Artifact, StoreError> {
        let (file, stat) = hash::open(path)?;
        let digest = hash::contents(&file, &stat, path, None)?;
        let artifact = file_artifact(&stat, digest);
        let name = ObjectName::of(&artifact);
        let known = hash::lock(&self.verified).contains_key(&name);
        if known && self.holds(&name)? {
            fs::remove_file(path).map_err(StoreError::io("remove", path))?;
        } else {
            self.install(path, &file, name)?;
        }
        Ok(artifact)
    }

    fn copy_in_file(&self, path: &Path) -> Result<Artifact, StoreError> {
        let temporary = self.temporary();
        let copy = || {
            let (stat, digest, file) = copy_file(path, &temporary, WRITABLE)?;
            let artifact = file_artifact(&stat, digest);
            self.install(&temporary, &file, ObjectName::of(&artifact))?;
            Ok(artifact)
        };
        copy().inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    fn adopt_directory(&self, path: &Path) -> Result<Artifact, StoreError> {
        let scan = Scan::of(path)?;
        let file = |index: usize| path.join(&scan.files[index]);
        let nodes = hash::on_threads(scan.files.len(), |index| self.freeze(&file(index)))?;
        // One after the other: to take a file from its other names changes its stamp, under whoever reads it by those.
        let linked = |(index, node): (usize, Option<Node>)| node.map_or_else(|| self.part(&file(index)), Ok);
        let nodes = nodes.into_iter().enumerate().map(linked).collect::<Result<Vec<_>, _>>()?;
        let manifest = scan.manifest(path, nodes)?;
        self.install_directory(path, &scan, &manifest)
    }

    /// Hashes a file in a directory that is about to be stored and makes it read-only. `None`: it has other names.
    fn freeze(&self, path: &Path) -> Result<Option<Node>, StoreError> {
        let (file, stat) = hash::open(path)?;
        if stat.st_nlink > 1 {
            return Ok(None);
        }
        let digest = hash::contents(&file, &stat, path, None)?;
        set_read_only(&file, stat.st_mode & 0o111 != 0, path)?;
        Ok(Some(scan::node(&stat, digest)))
    }

    /// The same for a file that has other names: a copy, which has none, takes its place.
    fn part(&self, path: &Path) -> Result<Node, StoreError> {
        let temporary = self.temporary();
        let copy = || {
            let (stat, digest, copy) = copy_file(path, &temporary, WRITABLE)?;
            set_read_only(&copy, stat.st_mode & 0o111 != 0, path)?;
            fs::rename(&temporary, path).map_err(StoreError::io("write", path))?;
            Ok(scan::node(&stat, digest))
        };
        copy().inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    fn copy_in_directory(&self, path: &Path) -> Result<Artifact, StoreError> {
        let temporary = self.temporary();
        fs::create_dir(&temporary).map_err(StoreError::io("create", &temporary))?;
        let copy = || {
            let scan = Scan::of(path)?;
            scan.recreate(&temporary)?;
            let nodes = hash::on_threads(scan.files.len(), |index| {
                let (from, to) = (path.join(&scan.files[index]), temporary.join(&scan.files[index]));
                let (stat, digest, file) = copy_file(&from, &to, WRITABLE)?;
                set_read_only(&file, stat.st_mode & 0o111 != 0, &to)?;
                Ok::<_, StoreError>(scan::node(&stat, digest))
            })?;
            let manifest = scan.manifest(path, nodes)?;
            self.install_directory(&temporary, &scan, &manifest)
        };
        copy().inspect_err(|_| drop(scan::remove_tree(&temporary)))
    }

    /// Gives a file its final name, or drops it if the store already has it.
    pub(super) fn install(&self, path: &Path, file: &File, name: ObjectName) -> Result<(), StoreError> {
        set_read_only(file, name.form == Form::Executable, path)?;
        loop {
            if self.rename_in(path, &name)? {
                let stat = rustix::fs::fstat(file).map_err(StoreError::io("read", path))?;
                self.mark_verified(name, Stamp::from(&stat));
                return Ok(());
            }
            // What is there already may be damaged, and is then moved away.
            if self.holds(&name)? {
                return fs::remove_file(path).map_err(StoreError::io("remove", path));
            }
        }
    }

    /// The manifest first: a directory without one would be of no use.
    pub(super) fn install_directory(
        &self,
        path: &Path,
        scan: &Scan,
        manifest: &Manifest,
    ) -> Result<Artifact, StoreError> {
        let bytes = manifest.encode();
        let artifact = Artifact { kind: ArtifactKind::Directory, digest: Digest::of(&bytes), size: manifest.size() };
        let name = ObjectName::of(&artifact);
        self.put_manifest(&bytes, artifact.digest)?;
        for directory in &scan.directories {
            let path = path.join(directory);
            rustix::fs::chmod(&path, name.mode()).map_err(StoreError::io("change the mode of", &path))?;
        }
        // To move a directory its owner needs write permission on it.
        rustix::fs::chmod(path, Mode::RWXU).map_err(StoreError::io("change the mode of", path))?;
        loop {
            if self.rename_in(path, &name)? {
                break;
            }
            if self.holds(&name)? {
                scan::remove_tree(path).map_err(StoreError::io("remove", path))?;
                return Ok(artifact);
            }
        }
        let path = self.path_of(&name);
        rustix::fs::chmod(&path, name.mode()).map_err(StoreError::io("change the mode of", &path))?;
        if let Some(stat) = self.stat(&name)? {
            self.mark_verified(name, Stamp::from(&stat));
        }
        Ok(artifact)
    }

    /// Whether it got the name; `false`: something else has it.
    fn rename_in(&self, path: &Path, name: &ObjectName) -> Result<bool, StoreError> {
        let target = name.path();
        let error = |e: Errno| StoreError::io("move into the store", path)(e);
        let mut shard_made = false;
        loop {
            match rename_new(path, &self.objects, &target) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST | Errno::NOTEMPTY) => return Ok(false),
                // The first of its shard.
                Err(Errno::NOENT) if !shard_made => {
                    shard_made = true;
                    match rustix::fs::mkdirat(&self.objects, &target[..2], Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(error(e)),
                    }
                }
                Err(e) => return Err(error(e)),
            }
        }
    }
}

/// `None` for what cannot be renamed into the store because it lies on another file system.
fn elsewhere(adopted: Result<Artifact, StoreError>) -> Result<Option<Artifact>, StoreError> {
    match adopted {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => Ok(None),
        other => other.map(Some),
    }
}

fn unfit(path: &Path, stat: &Stat) -> StoreError {
    let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    StoreError::unfit(path, if link { Unfit::IsLink } else { Unfit::Special(scan::special(stat)) })
}

/// Renames unless the name is taken. On file systems that cannot do that (NFS, some FUSE) it takes the place of what is
/// there, which is the same content.
fn rename_new(path: &Path, directory: impl rustix::fd::AsFd, target: &str) -> Result<(), Errno> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    match rustix::fs::renameat_with(CWD, path, &directory, target, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return result,
    }
    rustix::fs::renameat(CWD, path, &directory, target)
}

/// Copies a file while hashing it, to one that does not exist yet.
pub(super) fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<(Stat, Digest, File), StoreError> {
    let (file, stat) = hash::open(from)?;
    let copy = create(to, mode)?;
    let digest = if share_blocks(&file, &copy, stat.st_size as u64) {
        // The copy can no longer change under us: it is what the digest must be of.
        let cloned = rustix::fs::fstat(&copy).map_err(StoreError::io("read", to))?;
        if cloned.st_size != stat.st_size {
            return Err(StoreError::Changed { path: from.to_owned() });
        }
        hash::contents(&copy, &cloned, to, None)?
    } else {
        hash::contents(&file, &stat, from, Some(&copy))?
    };
    Ok((stat, digest, copy))
}

/// Lets the copy share the blocks of the file, where the file system can.
fn share_blocks(file: &File, copy: &File, size: u64) -> bool {
    /// Below this copying is no dearer than asking.
    const WORTH_ASKING: u64 = 64 * 1024;
    #[cfg(target_os = "linux")]
    return size >= WORTH_ASKING && rustix::fs::ioctl_ficlone(copy, file).is_ok();
    #[cfg(not(target_os = "linux"))]
    return false;
}

fn create(path: &Path, mode: u32) -> Result<File, StoreError> {
    let open = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path);
    open.map_err(StoreError::io("create", path))
}

pub(super) fn set_read_only(file: &File, executable: bool, path: &Path) -> Result<(), StoreError> {
    let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
    rustix::fs::fchmod(file, mode).map_err(StoreError::io("change the mode of", path))
}

const fn file_artifact(stat: &Stat, digest: Digest) -> Artifact {
    let kind = if stat.st_mode & 0o111 == 0 { ArtifactKind::File } else { ArtifactKind::Executable };
    Artifact { kind, digest, size: stat.st_size as u64 }
}
