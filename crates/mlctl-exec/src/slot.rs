//! Slots: bundles whose working directory already holds a step's sources. Making one costs as much as the sources
//! have files; so they are used again, reset, by the next attempt with the same sources.

mod tree;

use std::collections::VecDeque;
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

/// As many slots are kept that nobody uses, or twice as many as ever were in use at once.
const KEPT: usize = 16;

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
        let fill = || {
            let sources = store.manifest(&known.1).map_err(io::Error::other)?;
            store.checkout(&sources, &bundle.work).map_err(io::Error::other)?;
            Tree::record(&bundle.work)
        };
        match fill() {
            Ok(pristine) => Ok(Self { bundle, known, number, starter: Starter::default(), pristine }),
            Err(error) => {
                let _ = remove_tree(&bundle.root);
                Err(error)
            }
        }
    }

    /// Undoes what an attempt did. `false`: that is not possible, make a new one.
    fn reset(&self, had_inputs: bool) -> bool {
        let Bundle { inputs, outputs, home, temporary, .. } = &self.bundle;
        let emptied = had_inputs.then_some(inputs).into_iter().chain([outputs, home, temporary]);
        emptied.into_iter().all(|directory| tree::empty(directory).is_ok()) && self.pristine.restore().unwrap_or(false)
    }

    /// Removes it, as far as that is possible: its name is never used again.
    fn remove(self) {
        let _ = remove_tree(&self.bundle.root);
    }
}

/// All slots of an executor.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pool: Mutex<Pool>,
    /// The number of the next one: its name.
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Pool {
    /// Those that nobody uses now, the one longest unused first.
    idle: VecDeque<Slot>,
    used: usize,
    most_used: usize,
}

impl Slots {
    /// A slot with `sources` below `directory`. It has to come back, by [`Slots::give_back`] or [`Slots::discard`].
    pub(crate) fn take(&self, store: &Store, directory: &Path, sources: Digest) -> io::Result<Slot> {
        let mut pool = self.pool();
        let fits = |slot: &Slot| slot.known.1 == sources && slot.known.0 == directory;
        let found = pool.idle.iter().rposition(fits).and_then(|at| pool.idle.remove(at));
        let slot = match found {
            Some(slot) => slot,
            None => {
                drop(pool);
                let slot = Slot::make(store, self.new_bundle(directory)?, (directory.to_owned(), sources))?;
                pool = self.pool();
                slot
            }
        };
        pool.used += 1;
        pool.most_used = pool.most_used.max(pool.used);
        Ok(slot)
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

    /// Resets `slot` for the next attempt. What may not be used again is removed. `had_inputs`: whether there can be
    /// anything among its inputs.
    pub(crate) fn give_back(&self, slot: Slot, had_inputs: bool) {
        if !slot.reset(had_inputs) {
            return self.discard(slot);
        }
        let mut pool = self.pool();
        pool.used -= 1;
        pool.idle.push_back(slot);
        let kept = KEPT.max(2 * pool.most_used);
        let surplus = if pool.idle.len() > kept { pool.idle.pop_front() } else { None };
        drop(pool);
        surplus.into_iter().for_each(Slot::remove);
    }

    /// Removes `slot`, of which nobody can tell what still happens in it.
    pub(crate) fn discard(&self, slot: Slot) {
        self.pool().used -= 1;
        slot.remove();
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
