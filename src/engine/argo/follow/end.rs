//! The end of a run on a cluster: what nobody recorded although nothing runs any more.

use mlctl_core::action::StepFailure;
use mlctl_core::event::{Event, Outcome, Reason, Recorded, Status};
use mlctl_core::graph::InstanceIx;
use mlctl_core::records::{self, Cancel, Mark};
use mlctl_core::scheduler::{Input, Instance, State};
use mlctl_core::submission::Submission;

use super::super::judge::Judgement;
use super::super::logs::Logs;
use super::Follow;
use crate::error::CommandError;
use crate::ui::time::now;

/// How an instance is ended.
pub(super) enum End {
    /// The run was, or `--fail-fast` kept it from starting.
    Cancelled(Reason),
    /// What ran it is gone, or never was.
    Failed(String),
}

impl Follow<'_, '_> {
    /// Nothing runs any more: what has no record is cancelled, if the run was, and else lost.
    pub(super) fn conclude(&mut self, judgement: &Judgement, ended: Option<&Recorded>) -> Result<(), CommandError> {
        let told = self.place.record(records::CANCEL)?;
        let told = told.and_then(|bytes| serde_json::from_slice::<Cancel>(&bytes).ok()).map(|cancel| cancel.reason);
        let outcome = ended.and_then(|ended| match &ended.event {
            Event::RunFinished { outcome: Outcome::Cancelled } => Some(Reason::Cancelled),
            Event::RunFinished { outcome: Outcome::Interrupted } => Some(Reason::Interrupted),
            Event::RunFinished { outcome: Outcome::TimedOut } => Some(Reason::DeadlinePassed),
            _ => None,
        });
        let late = judgement.passed_deadline().then_some(Reason::DeadlinePassed);
        match told.or(outcome).or(late) {
            Some(reason) => {
                // Once for what runs, and once for `finally` steps.
                for _ in 0..2 {
                    self.apply(Input::Cancel(reason.clone()))?;
                    self.end_due(&|_, _| Some(End::Cancelled(reason.clone())))?;
                }
            }
            None => self.lose(judgement)?,
        }
        if self.outcome.is_none() {
            return Err(CommandError::failed(format!("run `{}` is over, but not all of it has ended", self.place.run)));
        }
        Ok(())
    }

    /// Whose turn it was, and of which nobody recorded anything: their pods were lost, and what depends on them with them.
    fn lose(&mut self, judgement: &Judgement) -> Result<(), CommandError> {
        let stopped = self.submission.fail_fast && self.place.record(records::FAILED)?.is_some();
        let submission = self.submission;
        while self.outcome.is_none() {
            let ended = self.end_due(&|instance, attempts| {
                if stopped && attempts == 0 {
                    return Some(End::Cancelled(Reason::FailFast));
                }
                let (template, worker) = pod_of(submission, instance);
                Some(End::Failed(judgement.reason(&template, worker)))
            })?;
            if ended == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Ends the instances whose turn it is, as `how` says of each and of its attempts. Others are told of failures.
    pub(super) fn end_due(&mut self, how: &dyn Fn(Instance<'_>, u32) -> Option<End>) -> Result<usize, CommandError> {
        let due = |state| {
            matches!(state, State::Resolving | State::LookingUp | State::Ready | State::Running | State::Backoff)
        };
        let due: Vec<InstanceIx> =
            self.scheduler.instances().filter(|instance| due(instance.state())).map(|instance| instance.ix).collect();
        for &ix in &due {
            let instance = self.scheduler.instance(ix);
            let (id, key) = (instance.id(), instance.key());
            let attempts = self.told.get(&id).map_or(0, |told| told.started);
            let (status, reason, failure) = match how(instance, attempts) {
                None => continue,
                Some(End::Cancelled(reason)) => (Status::Cancelled, Some(reason), None),
                Some(End::Failed(reason)) => (Status::Failed, None, Some(StepFailure::Executor { reason })),
            };
            if attempts > 0 {
                // What it printed until then. Without it there is less to show.
                let _ = Logs::new(self.place, self.writer.dir()).fetch(&id, attempts);
            }
            let allowed = status == Status::Failed && instance.step().allow_failure;
            let event = Event::InstanceFinished {
                instance: id.clone(),
                status,
                reason: reason.or(allowed.then_some(Reason::FailureAllowed)),
                attempts,
                key,
                components: Default::default(),
                result: None,
                failure,
            };
            let mut recorded = Recorded { at: now(), event };
            if status == Status::Failed
                && let Some(there) = self.place.put(&Mark::Finished.name(&id), &recorded)?
            {
                recorded = records::decode_event(&there).unwrap_or(recorded);
            }
            self.happened(&recorded)?;
        }
        Ok(due.len())
    }
}

/// The template of the pod that an instance runs in, and the pod's number if there are several.
fn pod_of(submission: &Submission, instance: Instance<'_>) -> (String, Option<u32>) {
    let step = &instance.step().name;
    let Some((name, part)) = submission.units.iter().find(|(_, part)| part.steps.contains(step)) else {
        return (String::new(), None);
    };
    let row = instance.row();
    let worker = match (&part.rows, part.pods) {
        (Some(rows), Some(pods)) => {
            let mut all = rows.iter().flat_map(|&(first, last)| first..=last);
            let (count, place) = (all.clone().count(), all.position(|known| known == row));
            place.filter(|_| count > 1).map(|place| place as u32 % pods.max(1))
        }
        (None, Some(pods)) => Some(row % pods.max(1)),
        (_, None) => Some(row),
    };
    (name.replace('_', "-"), worker)
}
