//! Making a directory once, however many threads and processes want it at the same time.
//!
//! A virtual environment holds its own path, so it cannot be made elsewhere and renamed. Each attempt is therefore made
//! in place under a name of its own, and *published* by renaming a link to it. A maker that is killed leaves a
//! directory that no link names; what its orphans still write lands there too, never in the next maker's.
//!
//! Whoever uses what was made holds a shared lock on `used` until its process ends: gc takes nothing that is in use.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::CommandError;

const PUBLISHED: &str = "ready";
/// Locked by users, and by gc; its time is that of the last use.
pub(super) const USED: &str = "used";

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
    let failed = |error: io::Error| CommandError::missing(format!("cannot use {}", place.display())).because(&error);
    // Kept open, and so locked, for the rest of this process.
    std::mem::forget(lease(place).map_err(failed)?);
    if let Some(directory) = published(place, &whole) {
        return Ok(directory);
    }
    let _lock = exclusive(place, waiting).map_err(failed)?;
    if let Some(directory) = published(place, &whole) {
        return Ok(directory);
    }
    let name = unique_name();
    discard_others(place, &name);
    make(&place.join(&name))?;
    publish(place, &name).map_err(failed)?;
    discard_others(place, &name);
    Ok(place.join(name))
}

/// Says that `place` is used from now on, and keeps gc away from it.
pub(super) fn lease(place: &Path) -> io::Result<File> {
    loop {
        fs::create_dir_all(place)?;
        let path = place.join(USED);
        let file = File::options().create(true).append(true).open(&path)?;
        file.lock_shared()?;
        // Gc may have moved the place away between opening and locking.
        if fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino())) {
            file.set_modified(SystemTime::now())?;
            return Ok(file);
        }
    }
}

/// Held until dropped; the system releases it when a holder dies.
fn exclusive(place: &Path, waiting: impl FnOnce()) -> io::Result<File> {
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
fn discard_others(place: &Path, name: &str) {
    for entry in place.read_dir().into_iter().flatten().flatten() {
        let own = [name, PUBLISHED].map(OsStr::new).contains(&entry.file_name().as_os_str());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !own => drop(fs::remove_dir_all(entry.path())),
            Ok(kind) if kind.is_symlink() && !own => drop(fs::remove_file(entry.path())),
            _ => {}
        }
    }
}

fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn whole(directory: &Path) -> bool {
        directory.join("done").exists()
    }

    fn done(directory: &Path) -> Result<(), CommandError> {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("done"), "").unwrap();
        Ok(())
    }

    fn names(place: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            place.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn many_threads_make_it_once() {
        let place = tempfile::tempdir().unwrap();
        let (makers, waiters) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = || {
            let waiting = || {
                waiters.fetch_add(1, Ordering::Relaxed);
            };
            make(place.path(), whole, waiting, |directory| {
                makers.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
                done(directory)
            })
            .unwrap()
        };
        let made: Vec<PathBuf> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(makers.into_inner(), 1);
        assert!(waiters.into_inner() > 0);
        assert!(made.iter().all(|directory| *directory == made[0] && whole(directory)));
        assert_eq!(published(place.path(), whole), Some(made[0].clone()));
    }

    #[test]
    fn what_a_failed_or_killed_maker_left_is_not_trusted() {
        let place = tempfile::tempdir().unwrap();
        let failing = |directory: &Path| {
            done(directory).unwrap();
            Err(CommandError::missing("no"))
        };
        make(place.path(), whole, || {}, failing).unwrap_err();
        assert_eq!(published(place.path(), whole), None);
        // Killed between making the link and publishing it.
        symlink("elsewhere", place.path().join("ready.elsewhere")).unwrap();
        let made = make(place.path(), whole, || {}, done).unwrap();
        let own = made.file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = vec![own, "lock".to_owned(), "ready".to_owned(), USED.to_owned()];
        expected.sort();
        assert_eq!(names(place.path()), expected);
    }

    #[test]
    fn what_is_no_longer_whole_is_made_again() {
        let place = tempfile::tempdir().unwrap();
        let first = make(place.path(), whole, || {}, done).unwrap();
        fs::remove_file(first.join("done")).unwrap();
        let second = make(place.path(), whole, || {}, done).unwrap();
        assert_ne!(first, second);
        assert!(!first.exists());
        assert_eq!(make(place.path(), whole, || {}, |_| unreachable!("it is there")).unwrap(), second);
    }
}
