//! Making a directory once, however many threads and processes want it at the same time.
//!
//! A virtual environment holds its own path, so it cannot be made elsewhere and renamed. Each attempt is therefore made
//! in place under a name of its own, and *published* by renaming a link to it. A maker that is killed leaves a
//! directory that no link names; what its orphans still write lands there too, never in the next maker's.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::CommandError;

const PUBLISHED: &str = "ready";

/// The directory published under `place`, if there is one and it is `whole`.
pub(super) fn published(place: &Path, whole: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let directory = place.join(fs::read_link(place.join(PUBLISHED)).ok()?);
    whole(&directory).then_some(directory)
}

/// The directory published under `place`; if there is none, `make` makes it, while others wait.
pub(super) fn make(
    place: &Path,
    whole: impl Fn(&Path) -> bool,
    waiting: impl FnOnce(),
    make: impl FnOnce(&Path) -> Result<(), CommandError>,
) -> Result<PathBuf, CommandError> {
    if let Some(directory) = published(place, &whole) {
        return Ok(directory);
    }
    let failed = |error: io::Error| CommandError::missing(format!("cannot use {}", place.display())).because(&error);
    let _lock = exclusive(place, waiting).map_err(failed)?;
    if let Some(directory) = published(place, &whole) {
        return Ok(directory);
    }
    discard_leftovers(place);
    let name = unique_name();
    make(&place.join(&name))?;
    publish(place, &name).map_err(failed)?;
    Ok(place.join(name))
}

/// Held until dropped; the system releases it when a holder dies.
fn exclusive(place: &Path, waiting: impl FnOnce()) -> io::Result<File> {
    fs::create_dir_all(place)?;
    let file = File::options().create(true).append(true).open(place.join("lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            waiting();
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(file)
}

fn publish(place: &Path, name: &str) -> io::Result<()> {
    let link = place.join(format!("{PUBLISHED}.{name}"));
    symlink(name, &link)?;
    fs::rename(link, place.join(PUBLISHED))
}

/// Removes what killed makers left, and what was published but is no longer whole. Orphans may still write there: what
/// cannot be removed now, the next maker removes.
fn discard_leftovers(place: &Path) {
    for entry in place.read_dir().into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => drop(fs::remove_dir_all(entry.path())),
            Ok(kind) if kind.is_symlink() => drop(fs::remove_file(entry.path())),
            _ => {}
        }
    }
}

fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}
