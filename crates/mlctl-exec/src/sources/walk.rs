//! The walk of a project: names and stamps, nothing is read.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ignore::{DirEntry, ParallelVisitor, ParallelVisitorBuilder, WalkBuilder, WalkState};

use crate::hash;
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
    File {
        stamp: Stamp,
        executable: bool,
    },
    Link(String),
    /// What is wrong with it. It may be a directory.
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
    let mut found = std::mem::take(&mut *hash::lock(&collected));
    found.sort_unstable_by(|a: &Found, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What mlctl and git keep in the project for themselves.
fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let anywhere = [".git", ".mlctl", ".mlctlignore"].map(OsStr::new);
    let in_root = ["mlctl.toml", "mlctl.local.toml", "mlctl.lock"].map(OsStr::new);
    entry.depth() > 0 && (anywhere.contains(&name) || (entry.depth() == 1 && in_root.contains(&name)))
}

struct Visitors<'a> {
    root: &'a Path,
    collected: &'a Mutex<Vec<Found>>,
}

struct Visitor<'a> {
    root: &'a Path,
    collected: &'a Mutex<Vec<Found>>,
    found: Vec<Found>,
}

impl<'a> ParallelVisitorBuilder<'a> for Visitors<'a> {
    fn build(&mut self) -> Box<dyn ParallelVisitor + 'a> {
        Box::new(Visitor { root: self.root, collected: self.collected, found: Vec::new() })
    }
}

impl ParallelVisitor for Visitor<'_> {
    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> WalkState {
        match entry {
            Ok(entry) => self.found.extend(look(self.root, &entry)),
            Err(e) => self.found.extend(unreadable(self.root, e)),
        }
        WalkState::Continue
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        hash::lock(self.collected).append(&mut self.found);
    }
}

fn look(root: &Path, entry: &DirEntry) -> Option<Found> {
    let kind = entry.file_type()?;
    if kind.is_dir() && entry.path().to_str().is_some() {
        return None;
    }
    let relative = entry.path().strip_prefix(root).ok()?;
    let unfit = |problem: String| Some(found(relative, What::Unfit(problem)));
    if relative.to_str().is_none() {
        return unfit(Unfit::NotUtf8.to_string());
    }
    let what = if kind.is_file() {
        match entry.path().symlink_metadata() {
            Ok(metadata) => What::File { stamp: Stamp::from(&metadata), executable: metadata.mode() & 0o111 != 0 },
            // It was removed since its directory was read.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            Err(e) => return unfit(format!("cannot be read: {e}")),
        }
    } else if kind.is_symlink() {
        match fs::read_link(entry.path()).map(|target| target.into_os_string().into_string()) {
            Ok(Ok(target)) => What::Link(target),
            Ok(Err(_)) => return unfit(Unfit::NotUtf8.to_string()),
            Err(e) => return unfit(format!("cannot be read: {e}")),
        }
    } else {
        return unfit(Unfit::Special(special_type(kind)).to_string());
    };
    Some(found(relative, what))
}

fn found(relative: &Path, what: What) -> Found {
    Found { path: relative.to_string_lossy().into_owned(), what }
}

/// A directory that cannot be read. What is wrong with an ignore file does not come here.
fn unreadable(root: &Path, mut error: ignore::Error) -> Option<Found> {
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
                return Some(found(relative, What::Unfit(format!("cannot be read: {other}"))));
            }
        }
    }
}
