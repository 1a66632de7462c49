//! Folding a journal: what an earlier scheduler of the same run recorded.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Cause, Command, Phase, Scheduler, State};
use crate::action::{ActionResult, StepFailure};
use crate::digest::Digest;
use crate::event::{Event, Reason, Status};
use crate::gate::Decision;
use crate::graph::InstanceIx;

/// What is recorded of an instance.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The last attempt that was started.
    attempt: u32,
    /// The attempts that failed.
    failed: BTreeSet<u32>,
    end: Option<End>,
}

/// How it ended.
#[derive(Debug)]
struct End {
    status: Status,
    reason: Option<Reason>,
    key: Option<Digest>,
    result: Option<Arc<ActionResult>>,
}

impl Scheduler {
    /// The instance or placeholder with this id, if it is known by now.
    pub fn find(&mut self, id: &str) -> Option<InstanceIx> {
        let new = self.by_id.len()..self.plan.graph.len();
        let new = new.filter_map(|ix| u32::try_from(ix).ok()).map(InstanceIx);
        self.by_id.extend(new.map(|ix| (self.plan.graph.id(ix), ix)));
        self.by_id.get(id).copied()
    }

    pub(super) fn replay(&mut self, event: Event, out: &mut Vec<Command>) {
        let of = |replayed: &mut HashMap<String, Replayed>, instance: String, attempt: u32, failed: bool| {
            let known = replayed.entry(instance).or_default();
            known.attempt = known.attempt.max(attempt);
            if failed {
                known.failed.insert(attempt);
            }
        };
        match event {
            Event::RunStarted { .. } => self.recorded.started = true,
            Event::RunFinished { .. } => self.recorded.finished = true,
            Event::GraphExpanded { step, .. } => {
                self.replayed_expansions.insert(step);
            }
            Event::InstanceStarted { instance, attempt, .. } => of(&mut self.replayed, instance, attempt, false),
            Event::InstanceRetrying { instance, attempt, failure, .. } => {
                of(&mut self.replayed, instance, attempt, failure.is_some());
            }
            Event::InstanceFinished { instance, status, reason, attempts, key, result, .. } => {
                let ix = if self.phase == Phase::Replaying { None } else { self.find(&instance) };
                let known = self.replayed.entry(instance).or_default();
                known.attempt = known.attempt.max(attempts);
                known.end.get_or_insert(End { status, reason, key, result });
                if let Some(ix) = ix {
                    self.overtake(ix, out);
                }
            }
        }
    }

    /// Takes over a record of an instance that is past the gate: its attempts run elsewhere, and are told of so.
    fn overtake(&mut self, ix: InstanceIx, out: &mut Vec<Command>) {
        match self.node(ix).state {
            State::Waiting | State::Finished(_) | State::Dissolved => return,
            State::Running => self.release(ix),
            State::Resolving | State::LookingUp | State::Ready | State::Backoff => {}
        }
        let decision = self.gate(ix);
        self.adopt(ix, &decision, out);
    }

    /// Takes over what is recorded of an instance whose turn at the gate it is; tells whether it had ended.
    pub(super) fn adopt(
        &mut self,
        ix: InstanceIx,
        decision: &Result<Decision, StepFailure>,
        out: &mut Vec<Command>,
    ) -> bool {
        if self.replayed.is_empty() {
            return false;
        }
        let Some(recorded) = self.replayed.remove(&self.plan.graph.id(ix)) else { return false };
        let node = self.node_mut(ix);
        node.attempt = recorded.attempt;
        node.failures = u32::try_from(recorded.failed.len()).unwrap_or(u32::MAX);
        let Some(end) = recorded.end else { return false };
        node.key = end.key;
        node.result = end.result;
        let cause = match end.reason {
            None => Cause::None,
            Some(Reason::When) => Cause::When,
            Some(Reason::FailureAllowed) => Cause::FailureAllowed,
            Some(Reason::FailFast) => Cause::FailFast,
            Some(Reason::Cancelled) => Cause::Cancelled,
            Some(Reason::DeadlinePassed) => Cause::DeadlinePassed,
            Some(Reason::Interrupted) => Cause::Interrupted,
            // Whose fault it was follows from the graph.
            Some(Reason::DependencySkipped { .. } | Reason::DependencyFailed { .. }) => {
                let ending = decision.as_ref().ok().and_then(|&decision| self.ending(ix, decision));
                ending.map_or(Cause::None, |(_, cause)| cause)
            }
        };
        self.settle_node(ix, end.status, cause);
        if end.status == Status::Failed && cause == Cause::None && self.options.fail_fast && !self.step_of(ix).finally {
            self.stop_rest(out);
        }
        true
    }
}
