//! Follows a run on a cluster: what its pods record becomes this machine's record of it, and is shown.
//!
//! The scheduler folds the records, as it does in each pod: so all see the same run. What nobody recorded although
//! nothing runs any more is decided here, and recorded for everybody.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use mlctl_core::event::{Event, Outcome, Recorded};
use mlctl_core::records::{self, Mark, Started};
use mlctl_core::scheduler::{Command, Input, Options, Scheduler, State};
use mlctl_core::submission::Submission;

use super::explain::Wait;
use super::judge::Judgement;
use super::logs::{Logs, Wanted};
use super::place::Place;
use super::poll::{News, Poller};
use super::waiting::Waiting;
use crate::error::CommandError;
use crate::record::RunWriter;
use crate::ui::Ui;
use crate::ui::run_view::RunView;
use crate::ui::time::now;

mod end;
mod turn;
mod watch;

use end::End;

/// What Ctrl-C means to who follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// The run is this command's: it ends the run, as on other engines.
    Owning,
    /// The run is the cluster's: it ends the watching.
    Watching,
}

/// Whoever follows a run.
pub(crate) struct Follow<'a, 'v> {
    place: &'a Place,
    submission: &'a Submission,
    scheduler: Scheduler,
    writer: RunWriter,
    view: Option<RunView<'v>>,
    /// Where there is no view: who is told what the run waits for.
    pub(crate) notes: Option<&'a Ui>,
    told: HashMap<String, Told>,
    /// What was recorded before its turn, as far as is known here.
    held: Vec<Recorded>,
    /// Which logs are wanted while steps run.
    pub(crate) logs: Wanted,
    waiting: Waiting,
    /// What is left waits in vain: the workflow is to end.
    given_up: bool,
    outcome: Option<Outcome>,
    /// When it ended, as is recorded for everybody.
    ended: Option<u64>,
}

/// What is left of a run that was followed to its end.
pub(crate) struct Followed<'v> {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// When.
    pub(crate) at: u64,
    /// What became of each instance.
    pub(crate) scheduler: Scheduler,
    /// To be finished.
    pub(crate) writer: RunWriter,
    /// To be finished.
    pub(crate) view: Option<RunView<'v>>,
}

/// What has been told of an instance.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    started: u32,
    failed: u32,
    finished: bool,
}

impl<'a, 'v> Follow<'a, 'v> {
    /// Begins, or goes on where an earlier one of this machine stopped: `known` is what that recorded.
    pub(crate) fn new(
        (place, submission): (&'a Place, &'a Submission),
        writer: RunWriter,
        view: Option<RunView<'v>>,
        known: &[Recorded],
    ) -> Result<Self, CommandError> {
        let (plan, facts) = submission
            .plan()
            .map_err(|why| CommandError::missing(format!("cannot read what run `{}` is", submission.run)).cause(why))?;
        let options = Options { run: submission.run.clone(), jobs: usize::MAX, ..Options::default() };
        let scheduler = Scheduler::new(plan, facts, options);
        let (told, logs, waiting) = (HashMap::new(), Wanted::Failed, Waiting::default());
        let mut follow = Self {
            place,
            submission,
            scheduler,
            writer,
            view,
            notes: None,
            told,
            held: Vec::new(),
            logs,
            waiting,
            given_up: false,
            outcome: None,
            ended: None,
        };
        for recorded in known {
            is_new(&mut follow.told, &recorded.event);
            if let Some(view) = &mut follow.view {
                view.event(recorded);
            }
            follow.apply(Input::Replay(recorded.event.clone()))?;
        }
        follow.apply(Input::Begin)?;
        Ok(follow)
    }

    /// Takes in what there is by now, and gives the run's end if it has one.
    pub(crate) fn refresh(&mut self, cluster: bool) -> Result<Option<Outcome>, CommandError> {
        let mut poller = self.poller();
        for news in poller.look(cluster) {
            match news {
                News::Trouble(error) => return Err(*error),
                news => self.take(news)?,
            }
        }
        self.writer.flush()?;
        Ok(self.outcome)
    }

    /// What is left when it has ended; `None`: it has not.
    pub(crate) fn into_parts(self) -> Option<Followed<'v>> {
        let (outcome, at) = (self.outcome?, self.ended.unwrap_or_else(now));
        Some(Followed { outcome, at, scheduler: self.scheduler, writer: self.writer, view: self.view })
    }

    fn poller(&self) -> Poller<'a> {
        let mut seen = HashSet::new();
        let mut running = BTreeMap::new();
        for (instance, told) in &self.told {
            seen.extend((1..=told.started).map(|attempt| Mark::Started(attempt).name(instance)));
            seen.extend((1..=told.failed).map(|attempt| Mark::Failed(attempt).name(instance)));
            if told.started > told.failed && !told.finished && self.logs.wants(instance) {
                running.insert(instance.clone(), told.started);
            }
            seen.extend(told.finished.then(|| Mark::Finished.name(instance)));
        }
        let logs = Logs::new(self.place, self.writer.dir()).wanting(self.logs.clone());
        Poller::new(self.place, logs, seen, running)
    }

    fn note(&mut self, text: &str) {
        match (&mut self.view, self.notes) {
            (Some(view), _) => view.note(text),
            (None, Some(ui)) => ui.note(text),
            (None, None) => {}
        }
    }

    /// Says what is to be said of what is waited for.
    fn say(&mut self, what: impl FnOnce(&mut Waiting, &mut dyn FnMut(&str))) {
        let mut waiting = std::mem::take(&mut self.waiting);
        what(&mut waiting, &mut |text| self.note(text));
        self.waiting = waiting;
    }

    fn take(&mut self, news: News) -> Result<(), CommandError> {
        match news {
            News::Records(records) => self.records(records)?,
            News::Ended(ended) => {
                self.tell_held(true)?;
                self.ended = Some(ended.at);
                if self.outcome.is_none() {
                    self.conclude(&Judgement::default(), Some(&ended))?;
                }
            }
            News::Over(judgement) => {
                self.tell_held(true)?;
                if self.outcome.is_none() {
                    self.conclude(&judgement, None)?;
                }
            }
            News::Waits { waits, taken_up, busy } => self.waits(&waits, taken_up, busy)?,
            News::Trouble(error) => self.say(|waiting, say| waiting.trouble(&error, say)),
        }
        if let (Some(outcome), None) = (self.outcome, self.ended) {
            let ended = Recorded { at: now(), event: Event::RunFinished { outcome } };
            let there = self.place.put(records::ENDED, &ended)?;
            let there = there.and_then(|bytes| records::decode_event(&bytes).ok());
            self.ended = Some(there.map_or(ended.at, |there| there.at));
        }
        Ok(())
    }

    /// Says what is waited for. What is waited for in vain fails, once nothing else goes on.
    fn waits(&mut self, waits: &[Wait], taken_up: bool, busy: bool) -> Result<(), CommandError> {
        let (submission, workflow) = (self.submission, self.scheduler.plan().workflow.clone());
        let namespace = self.place.context.merged.namespace.as_deref().unwrap_or("default");
        self.say(|waiting, say| {
            waiting.tell(waits, (submission, &workflow), say);
            waiting.taken_up(taken_up, namespace, say);
        });
        let in_vain = if busy { Vec::new() } else { self.waiting.in_vain() };
        if in_vain.is_empty() {
            return Ok(());
        }
        self.end_due(&|instance, _| {
            let wait = in_vain.iter().find(|wait| wait.steps.contains(&instance.step().name))?;
            Some(End::Failed(wait.what.clone()))
        })?;
        self.given_up = true;
        Ok(())
    }

    /// Takes in what pods recorded, in the order in which it happened.
    fn records(&mut self, records: Vec<(String, Bytes)>) -> Result<(), CommandError> {
        let mut events: Vec<(u64, Mark, Recorded)> = Vec::new();
        for (name, bytes) in &records {
            let Some((instance, mark)) = Mark::parse(name) else { continue };
            let recorded = match mark {
                Mark::Started(attempt) => serde_json::from_slice::<Started>(bytes).map(|started| Recorded {
                    at: started.at,
                    event: Event::InstanceStarted { instance: instance.to_owned(), attempt, key: started.key },
                }),
                Mark::Failed(_) | Mark::Finished => records::decode_event(bytes),
            };
            let recorded = recorded.map_err(|error| {
                CommandError::missing(format!("cannot read the record `{name}` of run `{}`", self.place.run))
                    .because(&error)
                    .hint("another version of mlctl has written it: use that, or a newer one")
            })?;
            events.push((recorded.at, mark, recorded));
        }
        events.sort_by_key(|(at, mark, _)| (*at, *mark));
        self.held.extend(events.into_iter().map(|(_, _, recorded)| recorded));
        self.tell_held(false)
    }

    /// Tells what was recorded and whose turn it is; of a run that is over `all`.
    fn tell_held(&mut self, all: bool) -> Result<(), CommandError> {
        let mut held = std::mem::take(&mut self.held);
        turn::in_turn(&mut held, |recorded| {
            let due = all || self.is_due(&recorded.event);
            if due {
                self.happened(recorded)?;
            }
            Ok(due)
        })?;
        self.held = held;
        Ok(())
    }

    /// Whether all has been told that an instance depends on.
    fn is_due(&mut self, event: &Event) -> bool {
        let (Event::InstanceStarted { instance, .. }
        | Event::InstanceRetrying { instance, .. }
        | Event::InstanceFinished { instance, .. }) = event
        else {
            return true;
        };
        let found = self.scheduler.find(instance);
        found.is_some_and(|ix| self.scheduler.instance(ix).state() != State::Waiting)
    }

    /// Takes in what happened elsewhere, unless it is known.
    fn happened(&mut self, recorded: &Recorded) -> Result<(), CommandError> {
        if !is_new(&mut self.told, &recorded.event) {
            return Ok(());
        }
        self.record(recorded)?;
        self.apply(Input::Replay(recorded.event.clone()))
    }

    fn record(&mut self, recorded: &Recorded) -> Result<(), CommandError> {
        if let Some(view) = &mut self.view {
            view.event(recorded);
        }
        self.writer.append(recorded)
    }

    fn apply(&mut self, input: Input) -> Result<(), CommandError> {
        let mut inputs = VecDeque::from([input]);
        let mut commands = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.scheduler.step(input, &mut commands);
            for command in commands.drain(..) {
                match command {
                    // What was there when the run was submitted; whatever else there is now, its pod will say.
                    Command::LookUp { ix, key } => {
                        let result = self.submission.results.get(&key).cloned();
                        inputs.extend(result.map(|result| Input::LookedUp { ix, result: Some(result) }));
                    }
                    Command::ListEntries { artifact } => {
                        let entries = self.place.entries(&artifact);
                        inputs.push_back(Input::Entries { artifact, entries });
                    }
                    Command::ResolveEntry { artifact, entry } => {
                        let result = self.place.entry(&artifact, &entry);
                        inputs.push_back(Input::EntryResolved { artifact, entry, result });
                    }
                    Command::Digest { path } => {
                        let result = Err(format!("`{path}` was not stored when the run was submitted"));
                        inputs.push_back(Input::Digested { path, result });
                    }
                    Command::Record(event) => {
                        if is_new(&mut self.told, &event) {
                            self.record(&Recorded { at: now(), event })?;
                        }
                    }
                    Command::Done(outcome) => self.outcome = Some(outcome),
                    Command::Launch { .. } | Command::RetryAfter { .. } | Command::Kill { .. } => {}
                }
            }
        }
        Ok(())
    }
}

/// Whether what happened has not been told yet. Each thing is told once, by whoever sees it first.
fn is_new(all: &mut HashMap<String, Told>, event: &Event) -> bool {
    let (instance, attempt) = match event {
        Event::InstanceStarted { instance, attempt, .. } | Event::InstanceRetrying { instance, attempt, .. } => {
            (instance, *attempt)
        }
        Event::InstanceFinished { instance, attempts, .. } => (instance, *attempts),
        _ => return true,
    };
    let told = all.entry(instance.clone()).or_default();
    if told.finished {
        return false;
    }
    match event {
        Event::InstanceStarted { .. } if told.started.max(told.failed) >= attempt => return false,
        Event::InstanceStarted { .. } => told.started = attempt,
        Event::InstanceRetrying { .. } if told.failed >= attempt => return false,
        Event::InstanceRetrying { .. } => told.failed = attempt,
        _ => told.finished = true,
    }
    true
}
