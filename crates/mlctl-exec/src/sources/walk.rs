//! The walk of a project: names and stamps, nothing is read.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use ignore::{DirEntry, ParallelVisitor, ParallelVisitorBuilder, WalkBuilder, WalkState};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::hash;
use crate::manifest::Node;
use crate::store::{Stamp, StoreError, Unfit, special_type};

/// A file, link or misfit of the project.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) what: What,
}

/// What a [`Found`] is.
#[derive(Debug)]
pub(super) enum What {
    File(Box<FoundFile>),
    Link(String),
    /// What is wrong with it. It may be a directory.
    Unfit(String),
}

/// A file, as it was when the snapshot was taken.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) stamp: Stamp,
    pub(super) executable: bool,
    /// What it is, or why it cannot be a source, once that has been found out.
    pub(super) node: OnceLock<Result<Node, String>>,
}

/// What the walk itself sees of an entry.
enum Seen {
    File,
    Link,
    Unfit(String),
}

/// Everything that could be a source, sorted by path.
pub(super) fn walk(root: &Path) -> Result<Vec<Found>, StoreError> {
    fs::read_dir(root).map_err(StoreError::io("read", root))?;
    // Without a repository around it, a project is not subject to the `.gitignore` of, say, a home directory.
    let in_git = root.ancestors().any(|a| a.join(".git").exists());
    let mut builder = WalkBuilder::new(root);
    builder
        .threads(hash::threads())
        .follow_links(false)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(in_git)
        .parents(in_git)
        .add_custom_ignore_filename(".mlctlignore")
        .filter_entry(|entry| !is_ours(entry));
    let collected = Mutex::new(Vec::new());
    builder.build_parallel().visit(&mut Visitors { root, collected: &collected });
    let mut seen = std::mem::take(&mut *hash::lock(&collected));
    seen.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    look(root, seen)
}

/// What mlctl and git keep in the project for themselves.
fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let anywhere = [".git", ".gitignore", ".mlctl", ".mlctlignore"].map(OsStr::new);
    // Exports on their way, which a killed run left.
    let staged = [b".mlctl-new-", b".mlctl-old-"];
    let in_root = ["mlctl.toml", "mlctl.local.toml", "mlctl.lock"].map(OsStr::new);
    entry.depth() > 0
        && (anywhere.contains(&name)
            || staged.iter().any(|start| name.as_encoded_bytes().starts_with(*start))
            || (entry.depth() == 1 && in_root.contains(&name)))
}

/// Looks at what the walk has seen: relative to the root, which is a shorter way for the kernel.
fn look(root: &Path, seen: Vec<(String, Seen)>) -> Result<Vec<Found>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(root, flags, Mode::empty()).map_err(StoreError::io("read", root))?;
    let looked = hash::on_threads(seen.len(), |index| {
        let (path, seen) = &seen[index];
        Ok::<_, StoreError>(match seen {
            Seen::Unfit(problem) => Some(What::Unfit(problem.clone())),
            Seen::File => stat(&directory, path).unwrap_or_else(vanished),
            Seen::Link => target(&directory, path).unwrap_or_else(vanished),
        })
    })?;
    let found = seen.into_iter().zip(looked).filter_map(|((path, _), what)| Some(Found { path, what: what? }));
    Ok(found.collect())
}

fn stat(directory: &OwnedFd, path: &str) -> Result<Option<What>, Errno> {
    let stat = rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let (stamp, executable) = (Stamp::from(&stat), stat.st_mode & 0o111 != 0);
    Ok(Some(What::File(Box::new(FoundFile { stamp, executable, node: OnceLock::new() }))))
}

fn target(directory: &OwnedFd, path: &str) -> Result<Option<What>, Errno> {
    let target = rustix::fs::readlinkat(directory, path, Vec::new())?;
    Ok(Some(target.into_string().map_or_else(|_| What::Unfit(Unfit::NotUtf8.to_string()), What::Link)))
}

/// What was removed since its directory was read is no source.
fn vanished(e: Errno) -> Option<What> {
    (e != Errno::NOENT).then(|| What::Unfit(format!("cannot be read: {e}")))
}

struct Visitors<'a> {
    root: &'a Path,
    collected: &'a Mutex<Vec<(String, Seen)>>,
}

struct Visitor<'a> {
    root: &'a Path,
    collected: &'a Mutex<Vec<(String, Seen)>>,
    seen: Vec<(String, Seen)>,
}

impl<'a> ParallelVisitorBuilder<'a> for Visitors<'a> {
    fn build(&mut self) -> Box<dyn ParallelVisitor + 'a> {
        Box::new(Visitor { root: self.root, collected: self.collected, seen: Vec::new() })
    }
}

impl ParallelVisitor for Visitor<'_> {
    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> WalkState {
        match entry {
            Ok(entry) => self.seen.extend(see(self.root, &entry)),
            Err(e) => self.seen.extend(unreadable(self.root, e)),
        }
        WalkState::Continue
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        hash::lock(self.collected).append(&mut self.seen);
    }
}

fn see(root: &Path, entry: &DirEntry) -> Option<(String, Seen)> {
    let kind = entry.file_type()?;
    let relative = entry.path().strip_prefix(root).ok()?;
    let seen = match relative.to_str() {
        None => Seen::Unfit(Unfit::NotUtf8.to_string()),
        Some(_) if kind.is_dir() => return None,
        Some(_) if kind.is_file() => Seen::File,
        Some(_) if kind.is_symlink() => Seen::Link,
        Some(_) => Seen::Unfit(Unfit::Special(special_type(kind)).to_string()),
    };
    Some((relative.to_string_lossy().into_owned(), seen))
}

/// A directory that cannot be read. What is wrong with an ignore file does not come here.
fn unreadable(root: &Path, mut error: ignore::Error) -> Option<(String, Seen)> {
    let mut path: Option<PathBuf> = None;
    loop {
        error = match error {
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => *err,
            ignore::Error::WithPath { path: at, err } => {
                path = Some(at);
                *err
            }
            ignore::Error::Io(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            other => {
                let path = path?;
                let relative = path.strip_prefix(root).ok()?;
                let problem = format!("cannot be read: {other}");
                return Some((relative.to_string_lossy().into_owned(), Seen::Unfit(problem)));
            }
        }
    }
}
