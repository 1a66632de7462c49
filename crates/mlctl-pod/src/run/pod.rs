//! The scheduler of a pod, and what it asks for, done.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mlctl_core::action::{ActionResult, StepFailure};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Reason, Recorded, Status};
use mlctl_core::forecast::{Known, answer};
use mlctl_core::graph::InstanceIx;
use mlctl_core::records::{self, CANCEL, Cancel, FAILED, Mark};
use mlctl_core::scheduler::{Command, Input, Options, Scheduler, State};
use mlctl_exec::Place;

use super::attempt::{Attempt, Outcome, now};
use super::history::{self, Past};
use super::{Unit, WORK, report, upstream};
use crate::connection::unexpected;
use crate::protocol::{Answer, Request, Trouble, Will};

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether the run was cancelled while an attempt runs: mostly TERM tells of it first.
const TICK: Duration = Duration::from_secs(10);
/// The most records that are asked for at once.
const AT_ONCE: usize = 1000;

/// What happens while a pod works.
#[derive(Debug)]
pub(crate) enum News {
    /// The command of the attempt that runs was started.
    Started,
    /// The attempt ended.
    Ended(Outcome),
    /// This process is asked to end.
    Terminate,
}

/// How working through a unit ended.
#[derive(Debug)]
pub(super) enum End {
    /// With this exit code.
    Code(u8),
    /// Another pod was faster with an instance, and all that followed here is to be done with what it made.
    Overtaken,
}

/// A pod at work.
pub(super) struct Pod<'a> {
    unit: Arc<Unit>,
    scheduler: Scheduler,
    sender: Sender<News>,
    news: &'a Receiver<News>,
    /// Whose records were asked for.
    asked: HashSet<InstanceIx>,
    /// Who depends on nothing unknown and has no record though it is run elsewhere, or was.
    without: HashSet<InstanceIx>,
    lookups: VecDeque<(InstanceIx, Digest)>,
    launch: Option<(InstanceIx, u32)>,
    running: Option<(InstanceIx, u32)>,
    timers: Vec<(Instant, InstanceIx)>,
    /// Of instances of this pod, what earlier ones did with them.
    histories: HashMap<InstanceIx, BTreeMap<u32, Past>>,
    /// Attempts that failed.
    failures: HashMap<InstanceIx, u32>,
    cancelled: Option<Reason>,
    /// Whether the pod is to end, and another one will take its place.
    drained: bool,
    overtaken: bool,
}

impl<'a> Pod<'a> {
    pub(super) fn new(unit: Arc<Unit>, sender: Sender<News>, news: &'a Receiver<News>) -> Self {
        let options = Options {
            run: unit.submission.run.clone(),
            jobs: 1,
            fail_fast: unit.submission.fail_fast,
            share: Some(unit.share.clone()),
            ..Options::default()
        };
        Self {
            scheduler: Scheduler::new(unit.plan.clone(), unit.facts.clone(), options),
            unit,
            sender,
            news,
            asked: HashSet::new(),
            without: HashSet::new(),
            lookups: VecDeque::new(),
            launch: None,
            running: None,
            timers: Vec::new(),
            histories: HashMap::new(),
            failures: HashMap::new(),
            cancelled: None,
            drained: false,
            overtaken: false,
        }
    }

    /// Works until the unit's instances have ended.
    pub(super) fn work(mut self) -> Result<End, Trouble> {
        self.learn()?;
        self.apply(Input::Begin)?;
        loop {
            self.follow_up()?;
            if self.overtaken && self.running.is_none() {
                return Ok(End::Overtaken);
            }
            if self.running.is_none() && (self.drained || self.is_done()) {
                break;
            }
            self.wait()?;
        }
        report::write(&self.unit, &self.scheduler)?;
        Ok(End::Code(self.code()))
    }

    /// Does all that can be done now without waiting.
    fn follow_up(&mut self) -> Result<(), Trouble> {
        loop {
            self.learn()?;
            if self.drained || self.overtaken {
                return Ok(());
            }
            if let Some((ix, key)) = self.lookups.pop_front() {
                self.look_up(ix, key)?;
            } else if let Some((ix, attempt)) = self.launch.take() {
                self.launch(ix, attempt)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Asks for the records of what the unit depends on, as far as that is known by now, and of its own instances.
    fn learn(&mut self) -> Result<(), Trouble> {
        loop {
            let needed = upstream::needed(self.scheduler.plan(), &self.unit.share, &self.unit.part.reports);
            let new: Vec<InstanceIx> = needed.into_iter().filter(|ix| self.asked.insert(*ix)).collect();
            for some in new.chunks(AT_ONCE) {
                self.ask(some)?;
            }
            let lost: Vec<InstanceIx> = self.without.iter().copied().filter(|ix| self.is_lost(*ix)).collect();
            for ix in &lost {
                self.without.remove(ix);
                self.lose(*ix)?;
            }
            if new.is_empty() && lost.is_empty() {
                return Ok(());
            }
        }
    }

    fn ask(&mut self, instances: &[InstanceIx]) -> Result<(), Trouble> {
        let names = instances.iter().map(|ix| Mark::Finished.name(&self.scheduler.graph().id(*ix))).collect();
        let found = self.unit.connection.records(names)?;
        for (ix, text) in instances.iter().zip(found) {
            match text {
                Some(text) => {
                    let recorded = records::decode_event(text.as_bytes());
                    let recorded = recorded.map_err(|error| Trouble::once(format!("cannot read a record: {error}")))?;
                    self.apply(Input::Replay(recorded.event))?;
                }
                None if !self.is_own(*ix) => drop(self.without.insert(*ix)),
                None => {}
            }
        }
        Ok(())
    }

    /// Whether something ran elsewhere, by all that is known, and nobody recorded what became of it.
    fn is_lost(&self, ix: InstanceIx) -> bool {
        let waits = self.lookups.iter().any(|(waiting, _)| *waiting == ix);
        !waits && matches!(self.scheduler.instance(ix).state(), State::Ready)
    }

    /// Whoever ran it is gone: it was in its turn before this pod.
    fn lose(&mut self, ix: InstanceIx) -> Result<(), Trouble> {
        let instance = self.scheduler.instance(ix);
        let allowed = instance.step().allow_failure.then_some(Reason::FailureAllowed);
        let (status, reason) = match self.cancel_wish()? {
            Some(reason) => (Status::Cancelled, Some(reason)),
            None => (Status::Failed, allowed),
        };
        let failure =
            (status == Status::Failed).then(|| StepFailure::Executor { reason: "its pod was lost".to_owned() });
        self.apply(Input::Replay(Event::InstanceFinished {
            instance: self.scheduler.instance(ix).id(),
            status,
            reason,
            attempts: 0,
            key: None,
            components: BTreeMap::new(),
            result: None,
            failure,
        }))
    }

    fn is_own(&self, ix: InstanceIx) -> bool {
        self.unit.share.has(self.scheduler.graph(), ix)
    }

    fn is_done(&self) -> bool {
        let graph = self.scheduler.graph();
        let ended =
            |ix: InstanceIx| matches!(self.scheduler.instance(ix).state(), State::Finished(_) | State::Dissolved);
        let counted = upstream::counted(graph, &self.unit.part.reports);
        self.unit.share.instances(graph).into_iter().chain(counted).all(ended)
    }

    /// Tells the scheduler and does what it asks for, but for what takes long.
    fn apply(&mut self, input: Input) -> Result<(), Trouble> {
        let mut inputs = VecDeque::from([input]);
        let mut commands = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.scheduler.step(input, &mut commands);
            for command in std::mem::take(&mut commands) {
                inputs.extend(self.carry_out(command)?);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, command: Command) -> Result<Option<Input>, Trouble> {
        match command {
            Command::LookUp { ix, key } => self.lookups.push_back((ix, key)),
            Command::ListEntries { .. } | Command::ResolveEntry { .. } | Command::Digest { .. } => {
                let mut stored = Stored { unit: &self.unit, trouble: None };
                let input = answer(&command, &mut stored);
                return stored.trouble.map_or(Ok(input), Err);
            }
            Command::Launch { ix, attempt } => self.launch = Some((ix, attempt)),
            Command::RetryAfter { ix, delay } => {
                // What earlier pods waited for is over.
                let attempts = self.histories.get(&ix).and_then(|history| history.keys().last()).copied();
                let is_past = attempts.is_some_and(|last| last > self.failures.get(&ix).copied().unwrap_or(0));
                let delay = if is_past { Duration::ZERO } else { delay };
                self.timers.push((Instant::now() + delay, ix));
            }
            Command::Kill { .. } => self.unit.cancel.cancel(),
            Command::Record(event) => self.record(event)?,
            Command::Done(_) => {}
        }
        Ok(None)
    }

    /// Records what happened here.
    fn record(&mut self, event: Event) -> Result<(), Trouble> {
        let (instance, mark) = match &event {
            Event::InstanceRetrying { instance, attempt, failure: Some(_), .. } => (instance, Mark::Failed(*attempt)),
            Event::InstanceFinished { instance, .. } => (instance, Mark::Finished),
            _ => return Ok(()),
        };
        let Some(ix) = self.scheduler.find(instance).filter(|ix| self.is_own(*ix)) else { return Ok(()) };
        let name = mark.name(instance);
        match &event {
            Event::InstanceRetrying { .. } => *self.failures.entry(ix).or_default() += 1,
            Event::InstanceFinished { status: Status::Failed, reason: None, .. }
                if self.unit.submission.fail_fast && !self.unit.is_finally() =>
            {
                self.unit.connection.put(FAILED.to_owned(), instance.clone())?;
            }
            _ => {}
        }
        let text = encode(&Recorded { at: now(), event })?;
        let there = self.unit.connection.put(name, text.clone())?;
        // An attempt of an earlier pod is recorded already.
        self.overtaken |= mark == Mark::Finished && there.is_some_and(|there| there != text);
        Ok(())
    }

    fn look_up(&mut self, ix: InstanceIx, key: Digest) -> Result<(), Trouble> {
        if self.scheduler.instance(ix).state() != State::LookingUp {
            return Ok(());
        }
        let known = self.unit.submission.results.get(&key).cloned();
        let result = match known {
            None if self.is_own(ix) => self.stored_result(key)?,
            known => known,
        };
        self.apply(Input::LookedUp { ix, result })
    }

    fn stored_result(&self, key: Digest) -> Result<Option<Arc<ActionResult>>, Trouble> {
        if self.unit.shares_store {
            return Ok(self.unit.store.lookup(&key).map(|entry| entry.result));
        }
        self.unit.connection.look_up(key)
    }

    /// Begins an attempt, unless earlier pods did or something keeps it from starting.
    fn launch(&mut self, ix: InstanceIx, attempt: u32) -> Result<(), Trouble> {
        // A record may have overtaken it.
        if self.scheduler.instance(ix).state() != State::Running {
            return Ok(());
        }
        if !self.histories.contains_key(&ix) {
            let history = history::of(&self.unit, &self.scheduler.instance(ix).id())?;
            self.histories.insert(ix, history);
        }
        if let Some(past) = self.histories[&ix].get(&attempt).cloned() {
            self.apply(Input::Started { ix, attempt })?;
            return self.apply(match past {
                Past::Failed(failure) => Input::Finished { ix, attempt, result: Err(failure) },
                Past::Lost => Input::Lost { ix, attempt },
            });
        }
        if self.look_for_marks()? {
            return self.apply(Input::NotBegun { ix, attempt });
        }
        let begun = self.attempt(ix, attempt);
        let (unit, news) = (self.unit.clone(), self.sender.clone());
        std::thread::spawn(move || {
            let outcome = begun.run(&unit, &mut || drop(news.send(News::Started)));
            // Nobody listens any more where the pod is ending.
            let _ = news.send(News::Ended(outcome));
        });
        self.running = Some((ix, attempt));
        Ok(())
    }

    fn attempt(&self, ix: InstanceIx, attempt: u32) -> Attempt {
        let unit = &self.unit;
        let task = self.scheduler.task(ix, attempt);
        let root = unit.store.root();
        let checkpoint = task.key.unwrap_or_else(|| Digest::of(task.instance.as_bytes()));
        let place = Place {
            work: unit.lease.path().join(WORK),
            log: unit.at.join(records::log_parts(&task.instance, attempt)),
            partial: None,
            environment: unit.surroundings.realised(),
            authorities: None,
            secrets: unit.surroundings.secrets(&task),
            caches: root.join("caches"),
            checkpoint: root.join("checkpoints").join(checkpoint.to_hex()),
            replace: self.scheduler.instance(ix).forced(),
            sandbox: true,
            grace: GRACE,
            components: self.scheduler.components(ix),
        };
        Attempt { will: self.will(ix, attempt), task, place }
    }

    /// What is recorded if the attempt ends with its container: hardly anything but want of memory does that.
    fn will(&self, ix: InstanceIx, attempt: u32) -> Will {
        let (instance, step) = (self.scheduler.instance(ix), self.scheduler.instance(ix).step());
        let failures = self.failures.get(&ix).copied().unwrap_or(0) + 1;
        let (mark, event) = if failures > step.retry.limit {
            let event = Event::InstanceFinished {
                instance: instance.id(),
                status: Status::Failed,
                reason: step.allow_failure.then_some(Reason::FailureAllowed),
                attempts: attempt,
                key: instance.key(),
                components: self.scheduler.components(ix),
                result: None,
                failure: Some(StepFailure::OutOfMemory { limit: step.resources.memory }),
            };
            (Mark::Finished, event)
        } else {
            let event = Event::InstanceRetrying {
                instance: instance.id(),
                attempt,
                failure: Some(StepFailure::OutOfMemory { limit: step.resources.memory }),
                delay_millis: 0,
            };
            (Mark::Failed(attempt), event)
        };
        Will { name: mark.name(&instance.id()), record: Recorded { at: now(), event } }
    }

    /// Looks whether the run is to end or, with `--fail-fast`, something failed elsewhere, and tells the scheduler.
    fn look_for_marks(&mut self) -> Result<bool, Trouble> {
        let names = [CANCEL, FAILED].map(str::to_owned).to_vec();
        let found: [Option<String>; 2] = self.unit.connection.records(names)?.try_into().unwrap_or_default();
        let [cancel, failed] = found;
        let (is_cancelled, is_finally) = (cancel.is_some(), self.unit.is_finally());
        if let Some(text) = cancel.filter(|_| !is_finally) {
            self.cancel(reason(&text))?;
        }
        let stops = failed.is_some() && self.unit.submission.fail_fast && !is_finally;
        if stops {
            self.apply(Input::FailFast)?;
        }
        Ok(stops || is_cancelled && !is_finally)
    }

    /// Why somebody wants the run to end.
    fn cancel_wish(&self) -> Result<Option<Reason>, Trouble> {
        let found = self.unit.connection.records(vec![CANCEL.to_owned()])?;
        Ok(found.into_iter().next().flatten().map(|text| reason(&text)))
    }

    fn cancel(&mut self, reason: Reason) -> Result<(), Trouble> {
        if self.cancelled.is_some() {
            return Ok(());
        }
        self.cancelled = Some(reason.clone());
        self.apply(Input::Cancel(reason))
    }

    fn wait(&mut self) -> Result<(), Trouble> {
        let next = self.timers.iter().map(|(due, _)| *due).min();
        let pause = next.map_or(TICK, |due| TICK.min(due.saturating_duration_since(Instant::now())));
        match self.news.recv_timeout(pause) {
            Ok(News::Started) => {
                if let Some((ix, attempt)) = self.running {
                    self.apply(Input::Started { ix, attempt })?;
                }
            }
            Ok(News::Ended(outcome)) => self.ended(outcome)?,
            Ok(News::Terminate) => self.terminate()?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if next.is_none() {
                    self.look_for_marks()?;
                }
            }
        }
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.timers).into_iter().partition(|(due, _)| *due <= now);
        self.timers = later;
        let due: Vec<(Instant, InstanceIx)> = due;
        due.into_iter().try_for_each(|(_, ix)| self.apply(Input::RetryDue { ix }))
    }

    fn ended(&mut self, outcome: Outcome) -> Result<(), Trouble> {
        let Some((ix, attempt)) = self.running.take() else { return Ok(()) };
        match outcome {
            Outcome::Trouble(trouble) => Err(trouble),
            Outcome::Taken => self.apply(Input::Lost { ix, attempt }),
            // It was ended for no fault of its own, and is run again in another pod.
            Outcome::Ended(Err(_)) if self.drained => Ok(()),
            Outcome::Ended(result) => self.apply(Input::Finished { ix, attempt, result }),
        }
    }

    /// Either the run is cancelled, or this pod is to be replaced by another one.
    fn terminate(&mut self) -> Result<(), Trouble> {
        match self.cancel_wish() {
            Ok(Some(reason)) => self.cancel(reason),
            Ok(None) | Err(_) => {
                self.drained = true;
                self.unit.cancel.cancel();
                Ok(())
            }
        }
    }

    /// The exit code: what a cluster's engine may start again, and what others wait for, depends on it.
    fn code(&self) -> u8 {
        const FAILED: u8 = 1;
        const TIMED_OUT: u8 = 4;
        const CANCELLED: u8 = 5;
        const DRAINED: u8 = 143;
        if !self.is_done() {
            return DRAINED;
        }
        let own = self.unit.share.instances(self.scheduler.graph());
        let ends: Vec<_> = own.iter().map(|ix| self.scheduler.instance(*ix)).collect();
        let because =
            |reasons: &[Reason]| ends.iter().any(|end| end.reason().is_some_and(|why| reasons.contains(&why)));
        if because(&[Reason::DeadlinePassed]) {
            TIMED_OUT
        } else if because(&[Reason::Cancelled, Reason::Interrupted]) {
            CANCELLED
        } else {
            u8::from(ends.iter().any(|end| end.status() == Some(Status::Failed))) * FAILED
        }
    }
}

fn encode(record: &Recorded) -> Result<String, Trouble> {
    let bytes = records::encode(record).map_err(Trouble::once)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn reason(text: &str) -> Reason {
    serde_json::from_str::<Cancel>(text).map_or(Reason::Cancelled, |cancel| cancel.reason)
}

/// What is stored, for the questions of the scheduler.
struct Stored<'a> {
    unit: &'a Unit,
    /// The store cannot be used.
    trouble: Option<Trouble>,
}

impl Stored<'_> {
    /// Asks, and tells what cannot be had apart from a store that cannot be used.
    fn ask<T>(&mut self, request: Request, take: fn(Answer) -> Result<T, Answer>) -> Result<T, String> {
        let answer = self.unit.connection.call(request);
        answer.and_then(|answer| take(answer).map_err(|other| unexpected(&other))).map_err(|trouble| {
            let reason = trouble.reason.clone();
            self.trouble = Some(trouble).filter(|trouble| trouble.lasting);
            reason
        })
    }
}

impl Known for Stored<'_> {
    fn result(&mut self, _: &Digest) -> Option<Arc<ActionResult>> {
        None
    }

    fn entries(&mut self, directory: &mlctl_core::action::Artifact) -> Result<Vec<String>, String> {
        if self.unit.shares_store {
            return self.unit.store.entries(directory).map_err(|error| error.to_string());
        }
        self.ask(Request::Entries(*directory), |answer| match answer {
            Answer::Names(names) => Ok(names),
            other => Err(other),
        })
    }

    fn entry(
        &mut self,
        directory: &mlctl_core::action::Artifact,
        path: &str,
    ) -> Result<mlctl_core::action::Artifact, String> {
        if self.unit.shares_store {
            return self.unit.store.sub(directory, path).map_err(|error| error.to_string());
        }
        self.ask(Request::Entry(*directory, path.to_owned()), |answer| match answer {
            Answer::Artifact(artifact) => Ok(artifact),
            other => Err(other),
        })
    }

    fn file(&mut self, path: &str) -> Result<mlctl_core::action::Artifact, String> {
        Err(format!("`{path}` was not stored when the run was submitted"))
    }
}
