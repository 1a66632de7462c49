//! What ended, and what follows from it.

use std::sync::Arc;

use super::{Cause, Command, GroupState, Node, Phase, Scheduler, State};
use crate::action::{ActionResult, StepFailure};
use crate::condition::{self, EvalError};
use crate::event::{Event, Outcome, Reason, Status};
use crate::gate::{Decision, Need, Summary, Upstream, gate};
use crate::graph::{Dep, GroupIx, InstanceIx};
use crate::plan::{Origin, matrix};
use crate::value::Value;
use crate::workflow::{Expr, StepIx};

impl Scheduler {
    pub(super) fn begin(&mut self, out: &mut Vec<Command>) {
        if self.phase != Phase::Replaying {
            return;
        }
        self.phase = Phase::Main;
        if !self.recorded.started {
            let instances = self.plan.instances().count() as u64;
            out.push(Command::Record(Event::RunStarted { run: self.options.run.clone(), instances }));
        }
    }

    /// Follows up everything, until only answers from outside can change anything.
    pub(super) fn settle(&mut self, out: &mut Vec<Command>) {
        if self.phase == Phase::Replaying {
            return;
        }
        self.drain(out);
        if self.phase == Phase::Main && self.remaining[0] == 0 {
            self.phase = Phase::Finally;
            self.status = Some(self.outcome());
            self.release_finally(out);
            self.drain(out);
        }
        self.launch(out);
        if self.phase == Phase::Finally && self.remaining == [0; 2] {
            self.phase = Phase::Done;
            let outcome = self.outcome();
            if !self.recorded.finished {
                out.push(Command::Record(Event::RunFinished { outcome }));
            }
            out.push(Command::Done(outcome));
        }
    }

    /// Asks the gate about every instance whose turn it is.
    pub(super) fn drain(&mut self, out: &mut Vec<Command>) {
        while let Some(ix) = self.due.pop_front() {
            if self.node(ix).state == State::Waiting {
                self.decide(ix, out);
            }
        }
    }

    /// `finally` steps wait for one thing more than what they depend on: that all others have ended.
    fn release_finally(&mut self, out: &mut Vec<Command>) {
        let cancelled = self.stop.cancelled.filter(|_| self.stop.finally);
        for ix in (0..self.nodes.len()).filter_map(|ix| u32::try_from(ix).ok()).map(InstanceIx) {
            if !self.step_of(ix).finally || self.node(ix).state != State::Waiting {
                continue;
            }
            match cancelled {
                Some(cause) => self.finish(ix, Status::Cancelled, cause, None, out),
                None => self.dependency_ended(ix),
            }
        }
    }

    /// Takes up what the graph has grown by.
    pub(super) fn grow(&mut self) {
        let first_group = self.groups.len();
        for group in (first_group..self.plan.graph.groups()).filter_map(|ix| u32::try_from(ix).ok()).map(GroupIx) {
            let group = self.plan.graph.group(group);
            let pending = group.members.len() + usize::from(group.open);
            let pending = u32::try_from(pending).unwrap_or(u32::MAX);
            self.groups.push(GroupState { pending, summary: Summary::default() });
        }
        let first = self.nodes.len();
        for ix in (first..self.plan.graph.len()).filter_map(|ix| u32::try_from(ix).ok()).map(InstanceIx) {
            let finally = self.step_of(ix).finally;
            let ended = |dep: &&Dep| match **dep {
                Dep::None => true,
                Dep::Instance(on) => {
                    self.nodes.get(on.0 as usize).is_some_and(|node| matches!(node.state, State::Finished(_)))
                }
                Dep::Group(group) => self.groups[group.0 as usize].pending == 0,
            };
            let deps = self.plan.graph.deps(ix);
            let pending = deps.len() - deps.iter().filter(ended).count() + usize::from(finally);
            // Running `finally` steps of a run whose other steps have ended wait for no more than their inputs.
            let pending = pending - usize::from(finally && self.phase >= Phase::Finally);
            let pending = u32::try_from(pending).unwrap_or(u32::MAX);
            if pending == 0 {
                self.due.push_back(ix);
            }
            self.remaining[usize::from(finally)] += 1;
            self.nodes.push(Node {
                state: State::Waiting,
                cause: Cause::None,
                pending,
                attempt: 0,
                started: 0,
                failures: 0,
                key: None,
                result: None,
            });
        }
    }

    /// Asks the gate about an instance, and does as it says.
    fn decide(&mut self, ix: InstanceIx, out: &mut Vec<Command>) {
        let decision = self.gate(ix);
        if self.adopt(ix, &decision, out) {
            return;
        }
        match decision {
            Ok(Decision::Run) if self.plan.graph.is_placeholder(ix) => self.expand(ix, out),
            Ok(Decision::Run) => self.prepare(ix, out),
            // What a `finally` step is made for was not made: so is it not.
            Ok(Decision::Missing(place)) if self.step_of(ix).finally => {
                let cause = Cause::SkippedStep(self.producer(ix, place));
                self.finish(ix, Status::Skipped, cause, None, out);
            }
            Ok(Decision::Missing(place)) => {
                let failure = self.missing(ix, place);
                self.fail(ix, failure, out);
            }
            Err(failure) => self.fail(ix, failure, out),
            Ok(decision) => {
                if let Some((status, cause)) = self.ending(ix, decision) {
                    self.finish(ix, status, cause, None, out);
                }
            }
        }
    }

    /// How an instance ends by the gate's word alone.
    pub(super) fn ending(&self, ix: InstanceIx, decision: Decision) -> Option<(Status, Cause)> {
        match decision {
            Decision::Run | Decision::Missing(_) => None,
            Decision::Skip(because) => Some((Status::Skipped, Cause::Skipped(because))),
            Decision::SkipNone(place) => Some((Status::Skipped, Cause::SkippedStep(self.producer(ix, place)))),
            Decision::SkipWhen => Some((Status::Skipped, Cause::When)),
            Decision::Cancel { because, allowed } => Some((Status::Cancelled, Cause::Failed { because, allowed })),
        }
    }

    /// What the gate says of an instance that depends on nothing unfinished.
    pub(super) fn gate(&self, ix: InstanceIx) -> Result<Decision, StepFailure> {
        let step = self.step_of(ix);
        let deps = self.plan.graph.deps(ix);
        if self.plan.graph.is_placeholder(ix) {
            let sources = deps.iter().map(|&dep| (Need::One, self.summary(dep)));
            return gate(sources, false, || Ok(true));
        }
        let needs = &self.plan.steps[self.plan.graph.step(ix).0 as usize].needs;
        let summaries = needs.iter().map(|need| {
            let all = deps[need.edges.clone()].iter().map(|&dep| self.summary(dep));
            (need.need, all.fold(Summary::default(), Summary::and))
        });
        gate(summaries, step.finally, || self.when(ix))
    }

    fn when(&self, ix: InstanceIx) -> Result<bool, StepFailure> {
        let Some(when) = &self.step_of(ix).when else { return Ok(true) };
        let known = |name: &Expr| match name {
            Expr::Output(index) => self.output_value(ix, *index).cloned(),
            Expr::RunStatus => Some(Value::String(self.run_status().to_owned())),
            _ => self.plan.constant(ix, name),
        };
        match condition::eval(&when.expr, &known) {
            Ok(holds) => Ok(holds),
            // A `finally` step takes what there is: a comparison with what was not made does not hold.
            Err(EvalError::Unknown(_)) if self.step_of(ix).finally => Ok(false),
            Err(error) => Err(StepFailure::BadInput { input: "when".to_owned(), reason: error.to_string() }),
        }
    }

    /// The value of a reference of `when`.
    fn output_value(&self, ix: InstanceIx, index: usize) -> Option<&Value> {
        let step = self.plan.graph.step(ix);
        let from = self.plan.step(step).when.as_ref()?.refs.get(index)?;
        let edge = self.plan.edges_of(step, Origin::When(index)).start;
        let producer = self.only(self.plan.graph.deps(ix)[edge])?;
        let name = &self.plan.step(from.step).outputs[from.output].name;
        self.node(producer).result.as_ref()?.values.get(name)
    }

    /// `run.status`, as `finally` steps see it: a run whose deadline passed has failed.
    pub(super) fn run_status(&self) -> &'static str {
        match self.status {
            None | Some(Outcome::Succeeded) => "succeeded",
            Some(Outcome::Failed | Outcome::TimedOut) => "failed",
            Some(Outcome::Cancelled | Outcome::Interrupted) => "cancelled",
        }
    }

    /// The one instance that an edge leads to.
    pub(super) fn only(&self, dep: Dep) -> Option<InstanceIx> {
        match dep {
            Dep::Instance(ix) => Some(ix),
            Dep::Group(group) => self.plan.graph.group(group).members.first().copied(),
            Dep::None => None,
        }
    }

    pub(super) fn summary(&self, dep: Dep) -> Summary {
        match dep {
            Dep::Instance(ix) => self.upstream(ix).map(|upstream| Summary::of(ix, upstream)).unwrap_or_default(),
            Dep::Group(group) => self.groups[group.0 as usize].summary,
            Dep::None => Summary::default(),
        }
    }

    /// How an instance that has ended counts for what depends on it.
    pub(crate) fn upstream(&self, ix: InstanceIx) -> Option<Upstream> {
        let node = self.node(ix);
        let State::Finished(status) = node.state else { return None };
        Some(match status {
            Status::Succeeded | Status::Cached => Upstream::Produced,
            Status::Skipped => Upstream::Skipped,
            Status::Failed => Upstream::Failed { allowed: node.cause == Cause::FailureAllowed },
            Status::Cancelled => {
                Upstream::Failed { allowed: matches!(node.cause, Cause::Failed { allowed: true, .. }) }
            }
        })
    }

    /// The step that the need at this place of an instance is about.
    fn producer(&self, ix: InstanceIx, place: usize) -> StepIx {
        let step = self.plan.graph.step(ix);
        let found = if self.plan.graph.is_placeholder(ix) {
            matrix::sources(&self.plan.workflow, step).nth(place).map(|from| from.step)
        } else {
            let edges = self.plan.steps[step.0 as usize].needs[place].edges.clone();
            self.plan.graph.edges(step)[edges].first().map(|edge| edge.producer)
        };
        found.unwrap_or(step)
    }

    fn missing(&self, ix: InstanceIx, place: usize) -> StepFailure {
        let step = self.plan.step(self.plan.graph.step(ix));
        let need = self.plan.steps[self.plan.graph.step(ix).0 as usize].needs.get(place).map(|need| need.origin);
        let input = match need {
            _ if self.plan.graph.is_placeholder(ix) => "matrix".to_owned(),
            Some(Origin::Input(index)) => step.inputs[index].name.clone(),
            Some(Origin::When(_)) | None => "when".to_owned(),
            Some(Origin::Needs(_)) => "needs".to_owned(),
        };
        let producer = &self.plan.step(self.producer(ix, place)).name;
        let reason = format!("no instance of `{producer}` matches `{}`", self.plan.graph.id(ix));
        StepFailure::BadInput { input, reason }
    }

    /// Gets an instance that runs its key, its result, or its turn.
    pub(super) fn prepare(&mut self, ix: InstanceIx, out: &mut Vec<Command>) {
        let step = self.plan.graph.step(ix);
        if !self.facts.sources.contains_key(&step) {
            let reason = "the digest of its sources is not known".to_owned();
            return self.fail(ix, StepFailure::Executor { reason }, out);
        }
        match self.key(ix) {
            Ok(Some(key)) => {
                self.node_mut(ix).key = Some(key);
                if self.plan.forces(ix) {
                    self.make_ready(ix);
                } else {
                    self.node_mut(ix).state = State::LookingUp;
                    out.push(Command::LookUp { ix, key });
                }
            }
            Ok(None) => self.make_ready(ix),
            Err(unbound) => self.unbound(ix, unbound, out),
        }
    }

    pub(super) fn looked_up(&mut self, ix: InstanceIx, result: Option<Arc<ActionResult>>, out: &mut Vec<Command>) {
        if self.nodes.get(ix.0 as usize).is_none_or(|node| node.state != State::LookingUp) {
            return;
        }
        match result {
            Some(result) => {
                self.node_mut(ix).result = Some(result);
                self.finish(ix, Status::Cached, Cause::None, None, out);
            }
            None => self.make_ready(ix),
        }
    }

    /// An instance ended: records it, and tells what waits for it.
    pub(super) fn finish(
        &mut self,
        ix: InstanceIx,
        status: Status,
        cause: Cause,
        failure: Option<StepFailure>,
        out: &mut Vec<Command>,
    ) {
        self.settle_node(ix, status, cause);
        let node = self.node(ix);
        let ran = node.attempt > 0;
        out.push(Command::Record(Event::InstanceFinished {
            instance: self.plan.graph.id(ix),
            status,
            reason: self.reason(cause),
            attempts: node.attempt,
            key: node.key,
            // Those of a reused result are kept with it.
            components: if ran { self.components(ix) } else { Default::default() },
            result: node.result.clone(),
            failure,
        }));
    }

    /// Ends an instance without recording it.
    pub(super) fn settle_node(&mut self, ix: InstanceIx, status: Status, cause: Cause) {
        let node = self.node_mut(ix);
        node.state = State::Finished(status);
        node.cause = cause;
        self.last_failures.remove(&ix);
        let finally = self.step_of(ix).finally;
        self.remaining[usize::from(finally)] -= 1;
        if self.plan.graph.is_placeholder(ix) {
            for group in self.plan.graph.stand_in(ix) {
                // The placeholder took the place of what was open.
                self.groups[group.0 as usize].pending = 1;
            }
        }
        let dependents: Vec<InstanceIx> = self.plan.graph.dependents(ix).collect();
        dependents.into_iter().for_each(|dependent| self.dependency_ended(dependent));
        let groups: Vec<GroupIx> = self.plan.graph.groups_of(ix).collect();
        groups.into_iter().for_each(|group| self.group_shrank(group));
    }

    /// One thing that a group waits for ended.
    pub(super) fn group_shrank(&mut self, group: GroupIx) {
        let state = &mut self.groups[group.0 as usize];
        state.pending -= 1;
        if state.pending > 0 {
            return;
        }
        let members = &self.plan.graph.group(group).members;
        let each = members.iter().filter_map(|&ix| self.upstream(ix).map(|upstream| Summary::of(ix, upstream)));
        self.groups[group.0 as usize].summary = each.fold(Summary::default(), Summary::and);
        let waiting: Vec<InstanceIx> = self.plan.graph.waiting_for(group).collect();
        waiting.into_iter().for_each(|dependent| self.dependency_ended(dependent));
    }

    pub(super) fn dependency_ended(&mut self, ix: InstanceIx) {
        let node = self.node_mut(ix);
        node.pending -= 1;
        if node.pending == 0 {
            self.due.push_back(ix);
        }
    }

    pub(super) fn reason(&self, cause: Cause) -> Option<Reason> {
        let id = |ix: InstanceIx| self.plan.graph.id(ix);
        Some(match cause {
            Cause::None => return None,
            Cause::When => Reason::When,
            Cause::Skipped(because) => Reason::DependencySkipped { instance: id(because) },
            Cause::SkippedStep(step) => Reason::DependencySkipped { instance: self.plan.step(step).name.clone() },
            Cause::Failed { because, allowed } => Reason::DependencyFailed { instance: id(because), allowed },
            Cause::FailureAllowed => Reason::FailureAllowed,
            Cause::FailFast => Reason::FailFast,
            Cause::Cancelled => Reason::Cancelled,
            Cause::DeadlinePassed => Reason::DeadlinePassed,
            Cause::Interrupted => Reason::Interrupted,
        })
    }

    /// How the run stands: what it ends with, or what `finally` steps are told.
    pub(super) fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::Succeeded;
        for node in &self.nodes {
            let State::Finished(status) = node.state else { continue };
            match (status, node.cause) {
                (_, Cause::Cancelled) => return Outcome::Cancelled,
                (_, Cause::Interrupted) => return Outcome::Interrupted,
                (_, Cause::DeadlinePassed) => return Outcome::TimedOut,
                (Status::Failed, Cause::None) => outcome = Outcome::Failed,
                _ => {}
            }
        }
        outcome
    }
}
