//! The scheduler of a pod, and what it asks for, done.

mod begin;
mod learn;
mod stored;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Reason, Recorded, Status};
use mlctl_core::forecast::answer;
use mlctl_core::graph::InstanceIx;
use mlctl_core::records::{self, FAILED, Mark};
use mlctl_core::scheduler::{Command, Input, Options, Scheduler, State};

use super::attempt::{Outcome, now};
use super::history::Past;
use super::marks::Marks;
use super::{Unit, report};
use crate::protocol::Trouble;
use stored::Stored;

/// There is always something before that.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What happens while a pod works.
#[derive(Debug)]
pub(crate) enum News {
    /// The command of the attempt that runs was started.
    Started,
    /// The attempt ended.
    Ended(Outcome),
    /// What others want of the run, as far as is known.
    Marks(Marks),
    /// This process is asked to end, with the run for this reason or alone.
    Terminate(Option<Reason>),
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
    /// Whether what is told to the scheduler is over: nobody waits for the next attempt.
    past: bool,
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
            past: false,
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

    fn is_own(&self, ix: InstanceIx) -> bool {
        self.unit.share.has(self.scheduler.graph(), ix)
    }

    fn is_done(&self) -> bool {
        let ended = |ix| matches!(self.scheduler.instance(ix).state(), State::Finished(_) | State::Dissolved);
        self.unit.share.is_done(self.scheduler.graph(), &self.unit.part.reports, ended)
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
                let mut stored = Stored::of(&self.unit);
                let input = answer(&command, &mut stored);
                return stored.trouble.map_or(Ok(input), Err);
            }
            Command::Launch { ix, attempt } => self.launch = Some((ix, attempt)),
            Command::RetryAfter { ix, delay } => {
                let delay = if self.past { Duration::ZERO } else { delay };
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
            end => self.stop_others(end)?,
        }
        let text = encode(&Recorded { at: now(), event })?;
        let there = self.unit.connection.put(name, text.clone())?;
        // An attempt of an earlier pod is recorded already.
        self.overtaken |= mark == Mark::Finished && there.is_some_and(|there| there != text);
        Ok(())
    }

    /// With `--fail-fast` nothing new starts anywhere once an instance failed.
    fn stop_others(&self, end: &Event) -> Result<(), Trouble> {
        let Event::InstanceFinished { instance, status: Status::Failed, reason: None, .. } = end else { return Ok(()) };
        if self.unit.submission.fail_fast && !self.unit.is_finally() {
            self.unit.connection.put(FAILED.to_owned(), instance.clone())?;
        }
        Ok(())
    }

    fn look_up(&mut self, ix: InstanceIx, key: Digest) -> Result<(), Trouble> {
        if self.scheduler.instance(ix).state() != State::LookingUp {
            return Ok(());
        }
        let known = self.unit.submission.results.get(&key).cloned();
        let result = match known {
            None if self.is_own(ix) => Stored::of(&self.unit).result_of(key)?,
            known => known,
        };
        self.apply(Input::LookedUp { ix, result })
    }

    fn cancel(&mut self, reason: Reason) -> Result<(), Trouble> {
        if self.cancelled.is_some() {
            return Ok(());
        }
        self.cancelled = Some(reason.clone());
        self.apply(Input::Cancel(reason))
    }

    /// Tells the scheduler what others want. Steps that run after all others run after a cancelled run too. Tells whether
    /// that keeps anything from starting.
    fn heed(&mut self, marks: Marks) -> Result<bool, Trouble> {
        if self.unit.is_finally() {
            return Ok(false);
        }
        let is_cancelled = marks.cancel.is_some();
        if let Some(reason) = marks.cancel {
            self.cancel(reason)?;
        }
        let stops = marks.failed && self.unit.submission.fail_fast;
        if stops {
            self.apply(Input::FailFast)?;
        }
        Ok(stops || is_cancelled)
    }

    fn wait(&mut self) -> Result<(), Trouble> {
        let next = self.timers.iter().map(|(due, _)| *due).min();
        let pause = next.map_or(FOR_EVER, |due| due.saturating_duration_since(Instant::now()));
        match self.news.recv_timeout(pause) {
            Ok(News::Started) => {
                if let Some((ix, attempt)) = self.running {
                    self.apply(Input::Started { ix, attempt })?;
                }
            }
            Ok(News::Ended(outcome)) => self.ended(outcome)?,
            Ok(News::Marks(marks)) => drop(self.heed(marks)?),
            Ok(News::Terminate(reason)) => self.told_to_end(reason)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.timers).into_iter().partition(|(due, _)| *due <= now);
        self.timers = later;
        due.into_iter().try_for_each(|(_, ix)| self.apply(Input::RetryDue { ix }))
    }

    /// Either the run is to end, or this pod is, and another one takes its place.
    fn told_to_end(&mut self, reason: Option<Reason>) -> Result<(), Trouble> {
        self.drained |= reason.is_none();
        reason.map_or(Ok(()), |reason| self.cancel(reason))
    }

    fn ended(&mut self, outcome: Outcome) -> Result<(), Trouble> {
        let Some((ix, attempt)) = self.running.take() else { return Ok(()) };
        let is_known = self.drained || self.cancelled.is_some();
        if matches!(outcome, Outcome::Ended(Err(_))) && self.unit.cancel.is_cancelled() && !is_known {
            // It ended sooner than what TERM means was found out.
            self.told_to_end(Marks::ask_soon(&self.unit.connection).cancel)?;
        }
        match outcome {
            Outcome::Trouble(trouble) => Err(trouble),
            Outcome::Taken => self.apply(Input::Lost { ix, attempt }),
            // It was ended for no fault of its own, and is run again in another pod.
            Outcome::Ended(Err(_)) if self.drained => Ok(()),
            Outcome::Ended(result) => self.apply(Input::Finished { ix, attempt, result }),
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
