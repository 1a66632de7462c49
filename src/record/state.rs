//! The state of a run, folded from its events.

use std::sync::Arc;

use indexmap::IndexMap;
use mlctl_core::action::{ActionResult, StepFailure};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Outcome, Reason, Recorded, Status};
use serde::{Deserialize, Serialize};

/// Where an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Not started.
    #[default]
    Pending,
    /// Its command runs.
    Running,
    /// An attempt failed; the next is to come.
    Retrying,
    /// It is done.
    Finished(Status),
}

impl Phase {
    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Finished(Status::Succeeded) => "succeeded",
            Self::Finished(Status::Cached) => "cached",
            Self::Finished(Status::Skipped) => "skipped",
            Self::Finished(Status::Failed) => "failed",
            Self::Finished(Status::Cancelled) => "cancelled",
        }
    }
}

/// What is known of one instance.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct InstanceState {
    /// Where it is.
    pub(crate) phase: Phase,
    /// Attempts started.
    pub(crate) attempts: u32,
    /// When its latest attempt started, in milliseconds since the Unix epoch.
    pub(crate) started: Option<u64>,
    /// When it was done.
    pub(crate) finished: Option<u64>,
    /// Why it was skipped or cancelled, or whether its failure is allowed.
    pub(crate) reason: Option<Reason>,
    /// Why its latest attempt failed.
    pub(crate) failure: Option<StepFailure>,
    /// The cache key.
    pub(crate) key: Option<Digest>,
    /// Digests of what went into the key, by component.
    pub(crate) components: std::collections::BTreeMap<String, Digest>,
    /// What it produced.
    pub(crate) result: Option<Arc<ActionResult>>,
}

impl InstanceState {
    /// How long its latest attempt took, in milliseconds: of one that succeeded its command alone, as a timeout measures
    /// it, without what an engine needs before and after.
    pub(crate) fn took(&self, now: u64) -> Option<u64> {
        let started = self.started.filter(|_| self.attempts > 0)?;
        match (&self.phase, &self.result) {
            (Phase::Finished(_), Some(result)) => Some(result.millis),
            (Phase::Finished(_), None) => Some(self.finished?.saturating_sub(started)),
            _ => Some(now.saturating_sub(started)),
        }
    }
}

/// How many instances are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    /// Known so far.
    pub(crate) total: u64,
    /// Ran and succeeded.
    pub(crate) succeeded: u64,
    /// Reused.
    pub(crate) cached: u64,
    /// Not needed.
    pub(crate) skipped: u64,
    /// Failed.
    pub(crate) failed: u64,
    /// Never ran, or was ended.
    pub(crate) cancelled: u64,
}

impl Tally {
    /// Counts one more that is done.
    pub(crate) const fn count(&mut self, status: Status) {
        let place = match status {
            Status::Succeeded => &mut self.succeeded,
            Status::Cached => &mut self.cached,
            Status::Skipped => &mut self.skipped,
            Status::Failed => &mut self.failed,
            Status::Cancelled => &mut self.cancelled,
        };
        *place += 1;
    }

    /// Those that are done.
    pub(crate) const fn done(&self) -> u64 {
        self.succeeded + self.cached + self.skipped + self.failed + self.cancelled
    }
}

/// How many of these are where, also of those that are not done: `2 succeeded, 1 running, 4 pending`.
pub(crate) fn counts<'a>(instances: impl IntoIterator<Item = &'a InstanceState>) -> Vec<(u64, &'static str)> {
    const ORDER: [&str; 8] =
        ["succeeded", "cached", "skipped", "failed", "cancelled", "running", "retrying", "pending"];
    let mut counts = ORDER.map(|name| (0, name));
    for state in instances {
        let name = state.phase.name();
        counts.iter_mut().filter(|(_, of)| *of == name).for_each(|(number, _)| *number += 1);
    }
    counts.into_iter().filter(|(number, _)| *number > 0).collect()
}

/// A run as its events tell it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RunState {
    /// By id: in the plan's order, then as they became known.
    pub(crate) instances: IndexMap<String, InstanceState>,
    /// How it ended, and when.
    pub(crate) ended: Option<(Outcome, u64)>,
    /// When something happened last.
    pub(super) latest: u64,
}

impl RunState {
    /// A run of which nothing has happened yet.
    pub(crate) fn new(instances: impl IntoIterator<Item = String>) -> Self {
        let instances = instances.into_iter().map(|id| (id, InstanceState::default())).collect();
        Self { instances, ..Self::default() }
    }

    /// Takes in what happened.
    pub(crate) fn apply(&mut self, recorded: &Recorded) {
        self.latest = self.latest.max(recorded.at);
        match &recorded.event {
            Event::RunStarted { .. } => {}
            Event::GraphExpanded { instances, .. } => {
                for id in instances {
                    self.instances.entry(id.clone()).or_default();
                }
            }
            Event::InstanceStarted { instance, attempt, key } => {
                let state = self.instance(instance);
                state.phase = Phase::Running;
                state.attempts = *attempt;
                state.started = Some(recorded.at);
                state.key = *key;
            }
            Event::InstanceRetrying { instance, failure, .. } => {
                let state = self.instance(instance);
                state.phase = Phase::Retrying;
                state.failure.clone_from(failure);
            }
            Event::InstanceFinished { instance, status, reason, attempts, key, components, result, failure } => {
                let state = self.instance(instance);
                state.phase = Phase::Finished(*status);
                state.attempts = *attempts;
                state.finished = Some(recorded.at);
                state.reason.clone_from(reason);
                state.failure.clone_from(failure);
                state.key = key.or(state.key);
                state.components.clone_from(components);
                state.result.clone_from(result);
            }
            Event::RunFinished { outcome } => self.ended = Some((*outcome, recorded.at)),
        }
    }

    /// The same run again, with nothing left to do: what had succeeded is cached now.
    pub(super) fn reuse(&mut self, at: u64) {
        for state in self.instances.values_mut() {
            if state.phase == Phase::Finished(Status::Succeeded) {
                state.phase = Phase::Finished(Status::Cached);
                state.attempts = 0;
            }
            state.started = None;
            state.finished = Some(at);
        }
        self.ended = Some((Outcome::Succeeded, at));
    }

    /// How many instances are where.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally { total: self.instances.len() as u64, ..Tally::default() };
        for state in self.instances.values() {
            if let Phase::Finished(status) = state.phase {
                tally.count(status);
            }
        }
        tally
    }

    /// Those that are not done, with their last attempt.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (&str, u32)> {
        let unfinished = self.instances.iter().filter(|(_, state)| !matches!(state.phase, Phase::Finished(_)));
        unfinished.map(|(id, state)| (id.as_str(), state.attempts))
    }

    /// What is left to record of a run whose writer died: each instance that is not done was cancelled.
    pub(super) fn interrupted(&self) -> Vec<Event> {
        let mut events: Vec<Event> = self
            .unfinished()
            .map(|(id, attempts)| Event::InstanceFinished {
                instance: id.to_owned(),
                status: Status::Cancelled,
                reason: Some(Reason::Interrupted),
                attempts,
                key: self.instances[id].key,
                components: Default::default(),
                result: None,
                failure: None,
            })
            .collect();
        events.push(Event::RunFinished { outcome: Outcome::Interrupted });
        events
    }

    fn instance(&mut self, id: &str) -> &mut InstanceState {
        // Two look-ups, but no allocation for an id that is known.
        if !self.instances.contains_key(id) {
            self.instances.insert(id.to_owned(), InstanceState::default());
        }
        &mut self.instances[id]
    }
}
