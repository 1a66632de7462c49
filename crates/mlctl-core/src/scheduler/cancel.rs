//! What keeps things from starting: cancelling, deadlines, `--fail-fast`.

use super::{Cause, Command, Phase, Scheduler, State};
use crate::action::StepFailure;
use crate::event::{Reason, Status};
use crate::graph::InstanceIx;

impl Scheduler {
    pub(super) fn cancel(&mut self, reason: &Reason, out: &mut Vec<Command>) {
        if self.phase == Phase::Done {
            return;
        }
        let cause = match reason {
            Reason::DeadlinePassed => Cause::DeadlinePassed,
            Reason::Interrupted => Cause::Interrupted,
            _ => Cause::Cancelled,
        };
        // Nothing but `finally` steps left, or told twice: then they are meant too.
        self.stop.finally |= self.phase == Phase::Finally || self.stop.cancelled.is_some();
        let cause = *self.stop.cancelled.get_or_insert(cause);
        for ix in (0..self.nodes.len()).filter_map(|ix| u32::try_from(ix).ok()).map(InstanceIx) {
            if self.cancelled(ix).is_none() {
                continue;
            }
            match self.node(ix).state {
                State::Running => out.push(Command::Kill { ix }),
                State::Finished(_) | State::Dissolved => {}
                _ => self.finish(ix, Status::Cancelled, cause, None, out),
            }
        }
    }

    /// Why an instance is cancelled, if the run is.
    pub(super) fn cancelled(&self, ix: InstanceIx) -> Option<Cause> {
        self.stop.cancelled.filter(|_| self.stop.finally || !self.step_of(ix).finally)
    }

    /// Whether `--fail-fast` keeps new attempts of an instance from starting.
    pub(super) fn stops(&self, ix: InstanceIx) -> bool {
        self.stop.fail_fast && !self.step_of(ix).finally
    }

    /// The last attempt of an instance failed, or it cannot be tried at all.
    pub(super) fn fail(&mut self, ix: InstanceIx, failure: StepFailure, out: &mut Vec<Command>) {
        // Who asks for an instance wants it made: that there is none is not a failure of the step's program.
        let is_target = || !self.plan.steps[self.plan.graph.step(ix).0 as usize].named.is_empty();
        let allowed = self.step_of(ix).allow_failure && !(self.plan.graph.is_placeholder(ix) && is_target());
        let cause = if allowed { Cause::FailureAllowed } else { Cause::None };
        self.finish(ix, Status::Failed, cause, Some(failure), out);
        if !allowed && self.options.fail_fast && !self.step_of(ix).finally {
            self.stop_rest(out);
        }
    }

    /// `--fail-fast`: ends whatever does not run.
    pub(super) fn stop_rest(&mut self, out: &mut Vec<Command>) {
        if std::mem::replace(&mut self.stop.fail_fast, true) {
            return;
        }
        // What is cancelled because of the failure itself should say so.
        self.drain(out);
        for ix in (0..self.nodes.len()).filter_map(|ix| u32::try_from(ix).ok()).map(InstanceIx) {
            if self.step_of(ix).finally {
                continue;
            }
            match self.node(ix).state {
                State::Running | State::Finished(_) | State::Dissolved => {}
                State::Backoff => {
                    if let Some(failure) = self.last_failures.remove(&ix) {
                        self.fail(ix, failure, out);
                    }
                }
                _ => self.finish(ix, Status::Cancelled, Cause::FailFast, None, out),
            }
        }
    }
}
