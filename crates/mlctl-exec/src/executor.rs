//! Runs one attempt of a step: fetch, exec, store.

mod environ;
mod inputs;
mod outputs;
mod render;
mod value;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mlctl_core::action::{ActionResult, StepFailure, Task};
use mlctl_core::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::family::{Families, Family};
use crate::slot::{Slot, Slots};
use crate::spawn::{self, Ending, Invocation, Limits};
use crate::store::{Entry, Provenance, Store};

/// How an environment is entered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Realised {
    /// Prepended to PATH.
    pub path: Vec<PathBuf>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
}

/// Where and under which circumstances a task runs: nothing of this is part of its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// Where bundles are made: on the store's file system, and better a short path.
    pub work: PathBuf,
    /// The attempt's log: made if missing, appended to.
    pub log: PathBuf,
    /// The step's environment.
    pub environment: Realised,
    /// The values of the task's secrets.
    pub secrets: BTreeMap<String, String>,
    /// Holds the directories of `caches`, one a name.
    pub caches: PathBuf,
    /// The directory of `checkpoint`.
    pub checkpoint: PathBuf,
    /// Whether to confine writing to the attempt's own directories, where the system can.
    pub sandbox: bool,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// The digests of what went into the task's key: recorded with its result.
    pub components: BTreeMap<String, Digest>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// What it produced, or why it failed.
    pub result: Result<Arc<ActionResult>, StepFailure>,
    /// Wall time of the command; 0 if it was not started.
    pub millis: u64,
}

/// Runs attempts. Many threads may use one.
#[derive(Debug)]
pub struct Executor {
    store: Arc<Store>,
    slots: Slots,
    families: Arc<Families>,
    /// Marks the processes of this executor; each attempt adds its number.
    nonce: String,
    attempts: AtomicU64,
}

impl Executor {
    /// One over `store`. From now on this process inherits the orphans of its children, and its umask is 022, which
    /// its children inherit.
    pub fn new(store: Arc<Store>) -> Self {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        Self {
            store,
            slots: Slots::default(),
            families: Arc::new(Families::adopt()),
            nonce: random_name(),
            attempts: AtomicU64::new(0),
        }
    }

    /// Runs `task`. `started` is called once its command runs. Blocks until the command and everything it started is
    /// gone, and what it produced is stored.
    pub fn run(&self, task: &Task, place: &Place, cancel: &Cancel, started: &mut dyn FnMut()) -> Report {
        if cancel.is_cancelled() {
            return Report { result: Err(StepFailure::Cancelled), millis: 0 };
        }
        let slot = match self.slots.take(&self.store, &place.work, task.sources) {
            Ok(slot) => slot,
            Err(error) => {
                let reason = format!("cannot make the working directory: {error}");
                return Report { result: Err(StepFailure::Executor { reason }), millis: 0 };
            }
        };
        let mut attempt = Attempt { executor: self, task, place, cancel, slot: &slot, millis: 0, dirty: false };
        let result = attempt.run(started);
        let (millis, dirty) = (attempt.millis, attempt.dirty);
        if dirty || result.is_err() {
            slot.discard();
        } else {
            self.slots.give_back(slot);
        }
        Report { result, millis }
    }
}

/// One attempt on its way.
struct Attempt<'a> {
    executor: &'a Executor,
    task: &'a Task,
    place: &'a Place,
    cancel: &'a Cancel,
    slot: &'a Slot,
    millis: u64,
    /// Whether its directory may not be used again.
    dirty: bool,
}

impl Attempt<'_> {
    fn run(&mut self, started: &mut dyn FnMut()) -> Result<Arc<ActionResult>, StepFailure> {
        let bundle = &self.slot.bundle;
        let number = self.executor.attempts.fetch_add(1, Ordering::Relaxed);
        let nonce = format!("{}.{number}.", self.executor.nonce);
        let paths = inputs::place(self.task, &self.executor.store, bundle)?;
        let env = environ::build(self.task, self.place, bundle, &paths, &nonce)?;
        let argv = self.task.command.iter().map(|argument| render::template(argument, &paths)).collect();
        let invocation = Invocation { argv, env };
        self.exec(&invocation, nonce, started)?;
        if !bundle.is_intact() {
            self.dirty = true;
            return Err(StepFailure::Executor { reason: "the step replaced its own working directory".to_owned() });
        }
        let result = outputs::collect(self.task, self.place, &self.executor.store, bundle, &paths, self.millis)?;
        self.record(Arc::new(result))
    }

    /// Of two that computed the same, the first one's result counts: what comes after then has one input, not two.
    fn record(&self, result: Arc<ActionResult>) -> Result<Arc<ActionResult>, StepFailure> {
        let Some(key) = &self.task.key else { return Ok(result) };
        let provenance = Provenance {
            run: self.task.run.clone(),
            instance: self.task.instance.clone(),
            attempt: self.task.attempt,
            finished: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
        };
        let entry = Entry { result, components: self.place.components.clone(), provenance };
        let recorded = self.executor.store.record(key, entry);
        recorded.map(|entry| entry.result).map_err(|error| StepFailure::Executor { reason: chain(&error) })
    }

    fn exec(&mut self, invocation: &Invocation, nonce: String, started: &mut dyn FnMut()) -> Result<(), StepFailure> {
        let work = &self.slot.bundle.work;
        let log = open_log(&self.place.log)
            .map_err(|error| failed(&format!("cannot write the log `{}`", self.place.log.display()), &error))?;
        let running = spawn::spawn(invocation, work, &log).map_err(|reason| StepFailure::NotStarted { reason })?;
        started();
        let since = running.since();
        let family = Family::new(self.executor.families.clone(), nonce);
        let limits = Limits { timeout: self.task.timeout, grace: self.place.grace, cancel: self.cancel };
        let ending = running.wait(&limits, &family);
        self.millis = millis(since.elapsed());
        let (ending, left_some) = ending.map_err(|error| failed("cannot wait for the command", &error))?;
        self.dirty |= left_some;
        match ending {
            Ending::Cancelled => Err(StepFailure::Cancelled),
            Ending::TimedOut(limit) => Err(StepFailure::TimedOut { limit_millis: millis(limit) }),
            Ending::Exited(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(0), _) => Ok(()),
                (Some(code), _) => Err(StepFailure::Exit { code }),
                (None, signal) => Err(StepFailure::Signal { signal: signal.unwrap_or_default() }),
            },
        }
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            open()
        }
        (opened, _) => opened,
    }
}

fn failed(what: &str, error: &io::Error) -> StepFailure {
    StepFailure::Executor { reason: format!("{what}: {error}") }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 16 hexadecimal digits that no other process has: std seeds its hashers from the system's randomness.
fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one((std::process::id(), Instant::now())))
}
