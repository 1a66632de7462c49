//! Runs one attempt of a step: fetch, exec, store.

mod environ;
mod inputs;
mod outputs;
mod render;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mlctl_core::action::{ActionResult, StepFailure, Task};
use mlctl_core::digest::Digest;

use crate::bundle::Bundle;
use crate::cancel::Cancel;
use crate::family::{Families, Family};
use crate::logs::{Copier, Log};
use crate::memory;
use crate::redact;
use crate::sandbox::{self, Writable};
use crate::slot::{Slot, Slots};
use crate::spawn::{Ending, Invocation, Limits};
use crate::store::{Entry, Provenance, Store};
use crate::warden::Warden;

/// How an environment is entered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Realised {
    /// Variables that are there already, an image's: what every step has goes over them. PATH is the standard one where
    /// it is not among them.
    pub base: BTreeMap<String, String>,
    /// Prepended to PATH.
    pub path: Vec<PathBuf>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
}

/// Where and under which circumstances a task runs: nothing of this is part of its key.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where bundles are made: on the store's file system, and better a short path.
    pub work: PathBuf,
    /// The attempt's log: appended to; made for the first output.
    pub log: PathBuf,
    /// Where the outputs that a failed attempt leaves are moved, each by its name, on the file system of `work`;
    /// `None`: they are removed.
    pub partial: Option<PathBuf>,
    /// The step's environment.
    pub environment: Realised,
    /// The certificate authorities that the step is to trust, in a file; `None`: those that this process was told of.
    pub authorities: Option<PathBuf>,
    /// The values of the task's secrets.
    pub secrets: BTreeMap<String, String>,
    /// Holds the directories of `caches`, one a name.
    pub caches: PathBuf,
    /// The directory of `checkpoint`.
    pub checkpoint: PathBuf,
    /// `--force`: the result takes the place of one that is there.
    pub replace: bool,
    /// Whether to confine writing to the attempt's own directories, where the system can.
    pub sandbox: bool,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// The digests of what went into the task's key: recorded with its result.
    pub components: BTreeMap<String, Digest>,
}

impl Place {
    /// The directories outside the bundle in which `task` may write: what outlives its attempts.
    pub fn kept(&self, task: &Task) -> Vec<PathBuf> {
        let mut directories: Vec<PathBuf> = task.caches.iter().map(|name| self.caches.join(name)).collect();
        directories.extend(task.checkpoint.then(|| self.checkpoint.clone()));
        directories
    }

    /// What is outside of the bundle and the store, and named by a variable of each step: files and directories with
    /// certificates.
    pub fn certificates(&self) -> BTreeSet<PathBuf> {
        let own = || environ::passed().into_iter().filter(|(name, _)| environ::is_of_certificates(name));
        match &self.authorities {
            Some(file) => BTreeSet::from([file.clone()]),
            None => own().map(|(_, path)| PathBuf::from(path)).filter(|path| path.exists()).collect(),
        }
    }
}

/// A command that is ready to be run, and all there is to know about it. It holds secrets, so it is not `Debug`.
pub struct Launch<'a> {
    /// What to run.
    pub argv: Vec<OsString>,
    /// All variables; of a name that comes twice the last counts.
    pub env: Vec<(OsString, OsString)>,
    /// Whose command it is.
    pub task: &'a Task,
    /// Where it runs.
    pub place: &'a Place,
    /// Its directories: all are there.
    pub bundle: &'a Bundle,
    /// Ends it.
    pub cancel: &'a Cancel,
    /// Takes what it writes.
    pub log: &'a mut Log,
}

/// How a [`Launch`] ended.
#[derive(Debug)]
pub struct Ended {
    /// What is wrong, if the command did not end well.
    pub result: Result<(), StepFailure>,
    /// How long the command ran; 0 if it was not started.
    pub time: Duration,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
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
    warden: Option<Warden>,
    /// Whether it runs in a container with a limit of memory, which commands share with it.
    contained: bool,
    /// Marks the processes of this executor; each attempt adds its number.
    nonce: String,
    attempts: AtomicU64,
    /// Variables of this process that steps receive.
    passed: Vec<(&'static str, OsString)>,
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
            warden: None,
            contained: false,
            nonce: random_name(),
            attempts: AtomicU64::new(0),
            passed: environ::passed(),
        }
    }

    /// With a warden, that ends what is left of the attempts when this process is killed.
    #[must_use]
    pub fn guarded_by(mut self, warden: Warden) -> Self {
        self.warden = Some(warden);
        self
    }

    /// In the container of the step: what the system ends there for want of memory was short of it, and is the command
    /// rather than this process.
    #[must_use]
    pub fn contained(mut self) -> Self {
        self.contained = true;
        self
    }

    /// Runs `task` as a process of this machine. `started` is called once its command runs. Blocks until the command
    /// and everything it started is gone, and what it produced is stored.
    pub fn run(&self, task: &Task, place: &Place, cancel: &Cancel, started: &mut dyn FnMut()) -> Report {
        self.attempt(task, place, cancel, |attempt, invocation, nonce| attempt.spawn(invocation, nonce, started))
    }

    /// Runs `task`, whose command somebody else runs: `launch` returns when the command and everything it started is
    /// gone. All the rest is done here, as for [`Executor::run`].
    pub fn run_by(
        &self,
        launch: impl FnOnce(Launch<'_>) -> Ended,
        task: &Task,
        place: &Place,
        cancel: &Cancel,
    ) -> Report {
        self.attempt(task, place, cancel, |attempt, Invocation { argv, env }, _| {
            let mut log = Log::at(&place.log, &place.secrets);
            let ended = launch(Launch { argv, env, task, place, bundle: &attempt.slot.bundle, cancel, log: &mut log });
            log.finish();
            attempt.millis = millis(ended.time);
            ended.result
        })
    }

    fn attempt(
        &self,
        task: &Task,
        place: &Place,
        cancel: &Cancel,
        exec: impl FnOnce(&mut Attempt<'_>, Invocation, String) -> Result<(), StepFailure>,
    ) -> Report {
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
        let mut attempt =
            Attempt { executor: self, task, place, cancel, slot, millis: 0, dirty: false, confined: false };
        let result = attempt.run(exec);
        let Attempt { slot, millis, dirty, confined, .. } = attempt;
        if dirty || result.is_err() {
            self.slots.discard(slot);
        } else {
            self.slots.give_back(slot, task, confined);
        }
        Report { result: result.map_err(|failure| without_secrets(failure, place)), millis }
    }
}

/// One attempt on its way.
struct Attempt<'a> {
    executor: &'a Executor,
    task: &'a Task,
    place: &'a Place,
    cancel: &'a Cancel,
    slot: Slot,
    millis: u64,
    /// Whether its directory may not be used again.
    dirty: bool,
    /// Whether it cannot write what of its bundle is not its own.
    confined: bool,
}

impl Attempt<'_> {
    fn run(
        &mut self,
        exec: impl FnOnce(&mut Self, Invocation, String) -> Result<(), StepFailure>,
    ) -> Result<Arc<ActionResult>, StepFailure> {
        let Self { executor, task, place, .. } = *self;
        let number = executor.attempts.fetch_add(1, Ordering::Relaxed);
        let nonce = format!("{}.{number}.", executor.nonce);
        let paths = inputs::place(task, &executor.store, &self.slot)?;
        let env = environ::build(task, place, &self.slot.bundle, &paths, &executor.passed, &nonce)?;
        let argv = task.command.iter().map(|argument| render::template(argument, &paths)).collect();
        let ended = exec(self, Invocation { argv, env }, nonce);
        let bundle = &self.slot.bundle;
        if !self.confined && !bundle.is_intact() {
            return Err(StepFailure::Executor { reason: "the step replaced its own directories".to_owned() });
        }
        let result = ended.and_then(|()| outputs::collect(task, place, &executor.store, bundle, &paths, self.millis));
        if let (Err(_), Some(partial)) = (&result, &place.partial) {
            outputs::keep(task, bundle, &paths, partial);
        }
        self.record(Arc::new(result?))
    }

    /// Of two that computed the same, the first one's result counts: what comes after then has one input, not two.
    /// Unless it was forced.
    fn record(&self, result: Arc<ActionResult>) -> Result<Arc<ActionResult>, StepFailure> {
        let Some(key) = &self.task.key else { return Ok(result) };
        let provenance = Provenance {
            run: self.task.run.clone(),
            instance: self.task.instance.clone(),
            attempt: self.task.attempt,
            finished: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
        };
        let entry = Entry { result, components: self.place.components.clone(), provenance };
        let store = &self.executor.store;
        let recorded =
            if self.place.replace { store.replace(key, &entry).map(|()| entry) } else { store.record(key, entry) };
        recorded.map(|entry| entry.result).map_err(|error| StepFailure::Executor { reason: chain(&error) })
    }

    fn spawn(&mut self, invocation: Invocation, nonce: String, started: &mut dyn FnMut()) -> Result<(), StepFailure> {
        let Executor { families, warden, .. } = self.executor;
        if let Some(pid) = warden.as_ref().and_then(|warden| warden.start(&self.executor.nonce)) {
            families.except(pid);
        }
        let note = |slot, group| warden.iter().for_each(|warden| warden.note(slot, group));
        let mut log = Log::at(&self.place.log, &self.place.secrets);
        let (mut copier, output) = Copier::new(&mut log).map_err(|error| failed("cannot make a pipe", &error))?;
        let (writable, work) = (self.writable(), self.slot.bundle.work.clone());
        self.confined = writable.is_some() && sandbox::protects(&self.slot.bundle.root);
        let contained = self.executor.contained;
        let kills = if contained { memory::kills() } else { 0 };
        let running = self.slot.starter.start(invocation, work, output, writable);
        let running = running.map_err(|reason| StepFailure::NotStarted { reason })?;
        note(self.slot.number, Some(running.pid()));
        if contained {
            memory::offer(running.pid());
        }
        started();
        let since = running.since();
        let family = Family::new(families.clone(), nonce);
        let limits = Limits { timeout: self.task.timeout, grace: self.place.grace, cancel: self.cancel };
        let ending = running.wait(&limits, &family, &mut copier);
        self.millis = millis(since.elapsed());
        note(self.slot.number, None);
        copier.finish();
        log.finish();
        let (ending, left_some) = ending.map_err(|error| failed("cannot wait for the command", &error))?;
        self.dirty |= left_some;
        match ending {
            Ending::Cancelled => Err(StepFailure::Cancelled),
            Ending::TimedOut(limit) => Err(StepFailure::TimedOut { limit_millis: millis(limit) }),
            Ending::Exited(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(0), _) => Ok(()),
                _ if contained && memory::kills() > kills => {
                    Err(StepFailure::OutOfMemory { limit: self.task.resources.memory })
                }
                (Some(code), _) => Err(StepFailure::Exit { code }),
                (None, signal) => Err(StepFailure::Signal { signal: signal.unwrap_or_default() }),
            },
        }
    }

    fn writable(&self) -> Option<Writable> {
        if !self.place.sandbox || !sandbox::is_available() {
            return None;
        }
        let bundle = &self.slot.bundle;
        let own = [&bundle.work, &bundle.outputs, &bundle.home, &bundle.temporary];
        let mut trees: Vec<PathBuf> = own.into_iter().cloned().collect();
        trees.extend(self.place.kept(self.task));
        Some(Writable(trees))
    }
}

/// A reason may quote what the step wrote.
fn without_secrets(failure: StepFailure, place: &Place) -> StepFailure {
    let clean = |reason| redact::text(&place.secrets, reason);
    match failure {
        StepFailure::NotStarted { reason } => StepFailure::NotStarted { reason: clean(reason) },
        StepFailure::BadOutput { output, reason } => StepFailure::BadOutput { output, reason: clean(reason) },
        StepFailure::BadInput { input, reason } => StepFailure::BadInput { input, reason: clean(reason) },
        StepFailure::Executor { reason } => StepFailure::Executor { reason: clean(reason) },
        other => other,
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
        // Some errors say their source themselves.
        if !text.ends_with(&error.to_string()) {
            text = format!("{text}: {error}");
        }
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
