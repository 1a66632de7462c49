//! Slots: bundles whose working directory already holds a step's sources. Making one costs as much as the sources
//! have files; so they are used again, reset, by the next attempt with the same sources.

mod tree;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mlctl_core::digest::Digest;

use crate::bundle::Bundle;
use crate::spawn::Starter;
use crate::store::{Store, remove_tree};
use tree::Tree;

/// A bundle with sources, for one attempt at a time.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) bundle: Bundle,
    /// The directory that was asked for, and the sources: who may have it next.
    known: (PathBuf, Digest),
    /// Its own among all slots that this process ever has.
    pub(crate) number: u64,
    /// Starts its commands.
    pub(crate) starter: Starter,
    /// The working directory as it was made.
    pristine: Tree,
}

impl Slot {
    fn make(store: &Store, (number, bundle): (u64, Bundle), known: (PathBuf, Digest)) -> io::Result<Self> {
        let sources = store.manifest(&known.1).map_err(io::Error::other)?;
        store.checkout(&sources, &bundle.work).map_err(io::Error::other)?;
        let pristine = Tree::record(&bundle.work)?;
        Ok(Self { bundle, known, number, starter: Starter::default(), pristine })
    }

    /// Undoes what an attempt did. `false`: that is not possible, make a new one.
    fn reset(&self) -> bool {
        let bundle = &self.bundle;
        let emptied = [&bundle.inputs, &bundle.outputs, &bundle.home, &bundle.temporary];
        emptied.into_iter().all(|directory| tree::empty(directory).is_ok()) && self.pristine.restore().unwrap_or(false)
    }

    /// Removes it, as far as that is possible: its name is never used again.
    pub(crate) fn discard(self) {
        let _ = remove_tree(&self.bundle.root);
    }
}

/// The slots that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    idle: Mutex<HashMap<(PathBuf, Digest), Vec<Slot>>>,
    /// The number of the next one: its name.
    next: AtomicU64,
}

impl Slots {
    /// A slot with `sources` below `directory`.
    pub(crate) fn take(&self, store: &Store, directory: &Path, sources: Digest) -> io::Result<Slot> {
        let known = (directory.to_owned(), sources);
        if let Some(slot) = self.idle().get_mut(&known).and_then(Vec::pop) {
            return Ok(slot);
        }
        Slot::make(store, self.new_bundle(directory)?, known)
    }

    /// An empty bundle with a name that was never used before.
    fn new_bundle(&self, directory: &Path) -> io::Result<(u64, Bundle)> {
        fs::create_dir_all(directory)?;
        let directory = fs::canonicalize(directory)?;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let bundle = Bundle::at(directory.join(number.to_string()));
            match bundle.create() {
                // Of a process that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created.map(|()| (number, bundle)),
            }
        }
    }

    /// Resets `slot` for the next attempt.
    pub(crate) fn give_back(&self, slot: Slot) {
        if slot.reset() {
            self.idle().entry(slot.known.clone()).or_default().push(slot);
        } else {
            slot.discard();
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<(PathBuf, Digest), Vec<Slot>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
