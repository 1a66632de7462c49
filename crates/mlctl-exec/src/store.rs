//! The content-addressed store: immutable objects named by their BLAKE3, and the results of actions by their key.
//!
//! ```text
//! format                       `mlctl store 1`
//! objects/ab/abcd...           a file, 0444; `.x` an executable, 0555; `.d` a directory; `.m` a manifest
//! actions/ab/abcd...           the entry of one key, created with O_EXCL
//! runs/<run>/                  `lease` (a flock held while the run lives), slots
//! tmp/, trash/                 what is being written, what is being removed
//! synced                       what survives a power loss (see `boot`)
//! gc.lock                      see `gc`
//! environments/ caches/ checkpoints/ remotes/    of the rest of mlctl
//! ```
//!
//! The 256 directories below `objects` and `actions` are made when they are first needed.
//!
//! An object comes to its final name by one rename, complete and read-only. Nothing is synced to disk for that: a
//! killed process loses nothing, and after a power loss what may be torn is rehashed (see `boot`).
//!
//! **What damage is noticed.** An entry holds a stamp of each object it names: of a file its own, of a directory those
//! of its root and of its manifest. A lookup compares them; an object whose stamp differs is rehashed, and if it is not
//! what its name says it is moved away and the lookup is a miss. So any change of a file object is noticed, and of a
//! directory what adds to, removes from or renames in its root, but not an edit of a file below by someone who first
//! made it writable. Modes (0444/0555) and Landlock keep steps from that; [`Store::verify`] finds it.

mod actions;
mod boot;
mod copy;
mod error;
mod lease;
mod objects;
mod put;
mod receive;
mod scan;
mod seal;
mod stamp;

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use rustix::fs::OFlags;

pub(crate) use actions::object_names;
pub use actions::{Entry, Provenance};
pub use boot::{SYNC, sync_main};
pub use error::{StoreError, Unfit};
pub use lease::Lease;
pub(crate) use lease::{is_held, lock};
pub(crate) use objects::{Form, ObjectName, YOUNG, now};
pub use receive::Incoming;
pub use scan::remove_tree;
pub(crate) use scan::{Scan, node, special, special_type};
pub use stamp::Stamp;

use crate::manifest::Manifest;

const FORMAT: &str = "mlctl store 1\n";

/// An open store. Any number of threads and processes may use one at once.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Paths below are opened relative to these: a short walk for the kernel.
    objects: OwnedFd,
    actions: OwnedFd,
    /// Objects whose content this process knows to be right, with the stamps they had then.
    verified: Mutex<HashMap<ObjectName, Stamp>>,
    /// The manifest in which an entry was last looked up.
    latest_manifest: Mutex<Option<(Digest, Arc<Manifest>)>>,
    boot: boot::Boot,
    /// Temporary names: of this process, and counted.
    nonce: u64,
    counter: AtomicU64,
}

impl Store {
    /// Opens the store at `root`, and makes it if there is none.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let format = root.join("format");
        match fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => {}
            Ok(text) => {
                let format = text.lines().next().unwrap_or_default().to_owned();
                return Err(StoreError::Newer { root: root.to_owned(), format });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(root)?,
            Err(e) => return Err(StoreError::io("open the store", root)(e)),
        }
        // Who needs space may delete only some of it.
        make_directories(root)?;
        // Links to objects are made from its paths.
        let root = &fs::canonicalize(root).map_err(StoreError::io("open the store", root))?;
        Ok(Self {
            objects: open_directory(&root.join("objects"))?,
            actions: open_directory(&root.join("actions"))?,
            verified: Mutex::default(),
            latest_manifest: Mutex::default(),
            boot: boot::Boot::read(root),
            nonce: RandomState::new().hash_one(std::process::id()),
            counter: AtomicU64::new(0),
            root: root.to_owned(),
        })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a run: its lease and its slots.
    pub fn run_path(&self, run: &str) -> PathBuf {
        self.root.join("runs").join(run)
    }

    /// Where the object of an artifact is, or would be.
    pub fn object_path(&self, artifact: &Artifact) -> PathBuf {
        self.path_of(&ObjectName::of(artifact))
    }

    fn path_of(&self, name: &ObjectName) -> PathBuf {
        self.root.join("objects").join(name.path())
    }

    /// A name that nothing else uses, on the store's file system.
    fn temporary(&self) -> PathBuf {
        self.unique("tmp")
    }

    /// Moves something out of the way for good.
    pub(crate) fn discard(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let trash = self.unique("trash");
        let moved = match fs::rename(path, &trash) {
            // To move a directory its owner needs write permission on it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                fs::set_permissions(path, fs::Permissions::from_mode(0o700)).and_then(|()| fs::rename(path, &trash))
            }
            other => other,
        };
        moved.map(|()| trash).map_err(StoreError::io("move away", path))
    }

    fn unique(&self, directory: &str) -> PathBuf {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        self.root.join(directory).join(format!("{:016x}-{count}", self.nonce))
    }
}

fn make_directories(root: &Path) -> Result<(), StoreError> {
    for name in ["objects", "actions", "runs", "tmp", "trash", "environments", "caches", "checkpoints"] {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(StoreError::io("create the store's directory", &path))?;
    }
    Ok(())
}

/// Makes the directories; the format last, so that a store cut off half-way is made complete the next time.
fn create(root: &Path) -> Result<(), StoreError> {
    make_directories(root)?;
    let path = root.join("format");
    let partial = root.join(format!("format.{}", std::process::id()));
    fs::write(&partial, FORMAT).map_err(StoreError::io("write", &partial))?;
    fs::rename(&partial, &path).map_err(StoreError::io("write", &path))
}

fn open_directory(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(StoreError::io("open the store's directory", path))
}
