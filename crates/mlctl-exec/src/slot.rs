//! Slots: bundles whose working directory already holds a step's sources. Making one costs as much as the sources
//! have files; so they are used again, reset, by the next attempt with the same sources.

mod tree;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mlctl_core::action::Task;
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
    /// Empty directories of inputs that earlier attempts had: making and removing them for each attempt is dear.
    pub(crate) input_directories: Vec<String>,
}

impl Slot {
    fn make(store: &Store, (number, bundle): (u64, Bundle), known: (PathBuf, Digest)) -> io::Result<Self> {
        let fill = || {
            let sources = store.manifest(&known.1).map_err(io::Error::other)?;
            store.checkout(&sources, &bundle.work).map_err(io::Error::other)?;
            Tree::record(&bundle.work)
        };
        match fill() {
            Ok(pristine) => {
                Ok(Self { bundle, known, number, starter: Starter::default(), pristine, input_directories: Vec::new() })
            }
            Err(error) => {
                let _ = remove_tree(&bundle.root);
                Err(error)
            }
        }
    }

    /// Undoes what an attempt at `task` did. `confined`: it could put nothing among its inputs itself. `false`: that is
    /// not possible, make a new one.
    fn reset(&mut self, task: &Task, confined: bool) -> bool {
        let Bundle { inputs, outputs, home, temporary, params, .. } = &self.bundle;
        let inputs_are_reset = if confined {
            let had = |name: &&String| task.inputs[*name].has_directory();
            self.input_directories = task.inputs.keys().filter(had).cloned().collect();
            self.input_directories.iter().all(|name| tree::empty(&inputs.join(name)).is_ok())
                && (task.params.is_empty() || fs::remove_file(params).is_ok())
        } else {
            self.input_directories.clear();
            tree::empty(inputs).is_ok()
        };
        inputs_are_reset
            && [outputs, home, temporary].into_iter().all(|directory| tree::empty(directory).is_ok())
            && self.pristine.restore().unwrap_or(false)
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

    /// Resets `slot` after an attempt at `task` for the next one. What may not be used again is removed. `confined`: the
    /// attempt could put nothing among its inputs itself.
    pub(crate) fn give_back(&self, mut slot: Slot, task: &Task, confined: bool) {
        if !slot.reset(task, confined) {
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
