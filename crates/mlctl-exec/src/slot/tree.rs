//! A directory tree as it was made, to see what an attempt changed in it.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::store::remove_tree;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, fstat, openat, statat, utimensat,
};

/// The modification time of all sources, the same in every slot: 2000-01-01. Besides, a write shows as a change of it
/// however coarse the file system's clock is, and later than this it always is.
const MODIFIED: Timespec = Timespec { tv_sec: 946_684_800, tv_nsec: 0 };

/// A recorded tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// Parents first.
    directories: Vec<Directory>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    inode: u64,
    mode: u32,
    /// By name.
    entries: Vec<(CString, Entry)>,
}

#[derive(Debug)]
enum Entry {
    Directory,
    /// A file or link.
    Leaf(Stamp),
}

/// What shows that a file was written, replaced, linked or given other permissions.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            mode: stat.st_mode,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Tree {
    /// Records what is at `root`.
    pub(super) fn record(root: &Path) -> io::Result<Self> {
        let mut directories = Vec::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(path) = waiting.pop() {
            let fd = open_directory(&path)?;
            let mut entries = Vec::new();
            each_name(&fd, |name| entries.push(name.to_owned()))?;
            entries.sort_unstable();
            let entries = entries.into_iter().map(|name| {
                let mut stat = statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    waiting.push(path.join(OsStr::from_bytes(name.as_bytes())));
                    return Ok((name, Entry::Directory));
                }
                let times = Timestamps { last_access: MODIFIED, last_modification: MODIFIED };
                utimensat(&fd, &name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                stat = statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok((name, Entry::Leaf(Stamp::of(&stat))))
            });
            let entries = entries.collect::<io::Result<_>>()?;
            let stat = fstat(&fd)?;
            directories.push(Directory { path, inode: stat.st_ino, mode: stat.st_mode, entries });
        }
        Ok(Self { directories })
    }

    /// Removes what was added. `false`: something was changed or removed, and only a new tree will do.
    pub(super) fn restore(&self) -> io::Result<bool> {
        for directory in &self.directories {
            let fd = open_directory(&directory.path)?;
            let stat = fstat(&fd)?;
            if (stat.st_ino, stat.st_mode) != (directory.inode, directory.mode) {
                return Ok(false);
            }
            let mut found = 0;
            let mut added = Vec::new();
            each_name(&fd, |name| match directory.entries.binary_search_by(|(known, _)| known.as_c_str().cmp(name)) {
                Ok(_) => found += 1,
                Err(_) => added.push(name.to_owned()),
            })?;
            if found != directory.entries.len() || !directory.leaves_are_unchanged(&fd) {
                return Ok(false);
            }
            for name in added {
                remove_tree(&directory.path.join(OsStr::from_bytes(name.as_bytes())))?;
            }
        }
        Ok(true)
    }
}

impl Directory {
    fn leaves_are_unchanged(&self, fd: &OwnedFd) -> bool {
        self.entries.iter().all(|(name, entry)| match entry {
            // Opened in its own turn.
            Entry::Directory => true,
            Entry::Leaf(stamp) => {
                statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| Stamp::of(&stat) == *stamp)
            }
        })
    }
}

/// Removes everything in the directory at `path`, which must not be a link.
pub(super) fn empty(path: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    each_name(&open_directory(path)?, |name| names.push(name.to_owned()))?;
    names.iter().try_for_each(|name| remove_tree(&path.join(OsStr::from_bytes(name.as_bytes()))))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

fn each_name(directory: impl AsFd, mut visit: impl FnMut(&CStr)) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            visit(entry.file_name());
        }
    }
    Ok(())
}
