//! Leases: a run holds one for as long as it lives, and the kernel lets go of it when the process ends, however.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Store, StoreError};

/// Held while a run lives. Letting go of it is dropping it.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    _file: File,
}

impl Lease {
    /// The run's directory in the store: for its slots, and removed by gc once the run is dead.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// Takes the lease of a run. While it is held, gc takes nothing that the run may rely on.
    pub fn lease(&self, run: &str) -> Result<Lease, StoreError> {
        /// A look whether a run lives holds its lease for a moment.
        const TRIES: u32 = 100;
        // Not while gc decides: it has read which runs live.
        let _lock = self.lock_gc()?;
        let path = self.run_path(run);
        fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        let lease = path.join("lease");
        let file =
            OpenOptions::new().create(true).append(true).open(&lease).map_err(StoreError::io("create", &lease))?;
        for _ in 0..TRIES {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    // The start of the run, as gc sees it.
                    file.set_modified(std::time::SystemTime::now()).map_err(StoreError::io("write", &lease))?;
                    return Ok(Lease { path, _file: file });
                }
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(1)),
                Err(e) => return Err(StoreError::io("lock", &lease)(e)),
            }
        }
        Err(StoreError::Leased { run: run.to_owned() })
    }

    /// Keeps gc from deciding while something comes to rely on what may be old. Dropped with the file.
    pub(crate) fn lock_gc(&self) -> Result<File, StoreError> {
        lock(&self.root, FlockOperation::LockShared)
    }

    /// Whether some process holds the lease of this run.
    pub fn is_alive(&self, run: &str) -> bool {
        is_held(&self.run_path(run).join("lease"))
    }
}

/// Whether another open file holds a lock on this one.
pub(crate) fn is_held(lease: &Path) -> bool {
    File::open(lease)
        .is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// The lock that gc holds exclusively while it decides and moves. Dropped with the file.
pub(crate) fn lock(root: &Path, operation: FlockOperation) -> Result<File, StoreError> {
    let path = root.join("gc.lock");
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(StoreError::io("open", &path))?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(e) => return Err(StoreError::io("lock", &path)(e)),
        }
    }
}
