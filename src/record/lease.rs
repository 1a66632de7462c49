//! The lease of a run: a file that is locked while the run's writer lives. The kernel frees the lock of whoever dies,
//! however it dies.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The file's name in a run directory.
pub(super) const FILE: &str = "lease";

/// A held lease: free when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    _locked: File,
}

impl Lease {
    /// Makes the lease of a new run, held by this process.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create_new(true).write(true).open(dir.join(FILE))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        write!(file, "{}", std::process::id())?;
        Ok(Self { _locked: file })
    }

    /// Takes the lease of a run whose writer died; `None`: somebody holds it.
    pub(super) fn take_over(dir: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).open(dir.join(FILE))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _locked: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether somebody holds the lease: the run is alive. A run without a lease is not.
pub(super) fn is_held(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(FILE)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// The process that holds the lease; `None`: nobody does.
pub(super) fn holder(dir: &Path) -> Option<i32> {
    if !is_held(dir) {
        return None;
    }
    let mut pid = String::new();
    File::open(dir.join(FILE)).ok()?.read_to_string(&mut pid).ok()?;
    pid.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_held(dir.path()));
        let lease = Lease::create(dir.path()).unwrap();
        assert!(is_held(dir.path()));
        assert_eq!(holder(dir.path()), Some(std::process::id() as i32));
        assert!(Lease::take_over(dir.path()).unwrap().is_none());
        drop(lease);
        // A process that another test is just starting holds a copy of the lease until its exec.
        while is_held(dir.path()) {}
        assert_eq!(holder(dir.path()), None);
        while Lease::take_over(dir.path()).unwrap().is_none() {}
    }
}
