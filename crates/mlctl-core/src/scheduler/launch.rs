//! What may start, and the attempts of what has.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Cause, Command, Options, Scheduler, State};
use crate::action::{ActionResult, StepFailure};
use crate::event::{Event, Status};
use crate::graph::InstanceIx;
use crate::plan::Plan;
use crate::workflow::{Resources, StepIx};

/// What instances may use together; `None`: it is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capacity {
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// GPUs.
    pub gpu: Option<u32>,
}

/// What an instance takes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Demand {
    cpu_millis: u64,
    memory: u64,
    gpu: u64,
}

impl Demand {
    /// At most all there is: an engine refuses more than that before a run, and nothing may wait for ever.
    fn new(resources: &Resources, capacity: &Demand) -> Self {
        Self {
            cpu_millis: resources.cpu_millis.map_or(0, u64::from).min(capacity.cpu_millis),
            memory: resources.memory.unwrap_or(0).min(capacity.memory),
            gpu: resources.gpu.map_or(0, u64::from).min(capacity.gpu),
        }
    }

    fn fits(&self, free: &Self) -> bool {
        self.cpu_millis <= free.cpu_millis && self.memory <= free.memory && self.gpu <= free.gpu
    }

    fn less(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory: self.memory.saturating_sub(other.memory),
            gpu: self.gpu.saturating_sub(other.gpu),
        }
    }

    fn more(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory: self.memory.saturating_add(other.memory),
            gpu: self.gpu.saturating_add(other.gpu),
        }
    }
}

/// What waits for its turn, by what it asks for; and what is free.
#[derive(Debug)]
pub(super) struct Launcher {
    free: Demand,
    jobs: usize,
    classes: Vec<Class>,
    class_of: Vec<usize>,
}

#[derive(Debug)]
struct Class {
    demand: Demand,
    /// By place in the plan.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Launcher {
    pub(super) fn new(plan: &Plan, options: &Options) -> Self {
        let capacity = Demand {
            cpu_millis: options.capacity.cpu_millis.map_or(u64::MAX, u64::from),
            memory: options.capacity.memory.unwrap_or(u64::MAX),
            gpu: options.capacity.gpu.map_or(u64::MAX, u64::from),
        };
        let mut launcher =
            Self { free: capacity, jobs: options.jobs.max(1), classes: Vec::new(), class_of: Vec::new() };
        let mut known: HashMap<Demand, usize> = HashMap::new();
        for step in &plan.steps {
            let demand = Demand::new(&step.resources, &capacity);
            let class = *known.entry(demand).or_insert_with(|| {
                launcher.classes.push(Class { demand, waiting: BinaryHeap::new() });
                launcher.classes.len() - 1
            });
            launcher.class_of.push(class);
        }
        launcher
    }

    fn push(&mut self, step: StepIx, place: u64, ix: InstanceIx) {
        self.classes[self.class_of[step.0 as usize]].waiting.push(Reverse((place, ix.0)));
    }

    /// Takes the next that may start; `ready` tells whether one still wants to.
    fn pop(&mut self, ready: impl Fn(InstanceIx) -> bool) -> Option<InstanceIx> {
        if self.jobs == 0 {
            return None;
        }
        for class in &mut self.classes {
            while class.waiting.peek().is_some_and(|Reverse((_, ix))| !ready(InstanceIx(*ix))) {
                class.waiting.pop();
            }
        }
        let first = |classes: &[Class], free: &Demand| {
            let fitting = classes.iter().enumerate().filter(|(_, class)| class.demand.fits(free));
            fitting.filter_map(|(at, class)| class.waiting.peek().map(|Reverse(next)| (*next, at))).min()
        };
        let everything = Demand { cpu_millis: u64::MAX, memory: u64::MAX, gpu: u64::MAX };
        let (_, head) = first(&self.classes, &everything)?;
        let demand = self.classes[head].demand;
        let at = if demand.fits(&self.free) {
            head
        } else {
            first(&self.classes, &self.free.less(&demand)).map(|(_, at)| at)?
        };
        let Reverse((_, ix)) = self.classes[at].waiting.pop()?;
        self.jobs -= 1;
        // What is not counted is never used up.
        self.free = self.free.less(&self.classes[at].demand);
        Some(InstanceIx(ix))
    }

    fn release(&mut self, step: StepIx) {
        self.jobs += 1;
        self.free = self.free.more(&self.classes[self.class_of[step.0 as usize]].demand);
    }
}

impl Scheduler {
    /// Puts an instance among those that wait for their turn.
    pub(super) fn make_ready(&mut self, ix: InstanceIx) {
        self.node_mut(ix).state = State::Ready;
        if self.options.share.as_ref().is_some_and(|share| !share.has(&self.plan.graph, ix)) {
            return;
        }
        let step = self.plan.graph.step(ix);
        let rank = u64::from(self.plan.steps[step.0 as usize].rank);
        self.launcher.push(step, rank << 32 | u64::from(self.plan.graph.row(ix)), ix);
    }

    /// Launches whatever may start now.
    pub(super) fn launch(&mut self, out: &mut Vec<Command>) {
        while let Some(ix) = self.launcher.pop(|ix| self.nodes[ix.0 as usize].state == State::Ready) {
            let node = &mut self.nodes[ix.0 as usize];
            node.state = State::Running;
            node.attempt += 1;
            out.push(Command::Launch { ix, attempt: node.attempt });
        }
    }

    fn runs(&self, ix: InstanceIx, attempt: u32) -> bool {
        self.nodes.get(ix.0 as usize).is_some_and(|node| node.state == State::Running && node.attempt == attempt)
    }

    /// Gives back what an attempt took.
    pub(super) fn release(&mut self, ix: InstanceIx) {
        self.launcher.release(self.plan.graph.step(ix));
    }

    pub(super) fn started(&mut self, ix: InstanceIx, attempt: u32, out: &mut Vec<Command>) {
        if self.runs(ix, attempt) && self.node(ix).started < attempt {
            self.node_mut(ix).started = attempt;
            let (instance, key) = (self.plan.graph.id(ix), self.node(ix).key);
            out.push(Command::Record(Event::InstanceStarted { instance, attempt, key }));
        }
    }

    pub(super) fn attempt_finished(
        &mut self,
        ix: InstanceIx,
        attempt: u32,
        result: Result<Arc<ActionResult>, StepFailure>,
        out: &mut Vec<Command>,
    ) {
        if !self.runs(ix, attempt) {
            return;
        }
        self.release(ix);
        match result {
            Ok(result) => {
                self.node_mut(ix).result = Some(result);
                self.finish(ix, Status::Succeeded, Cause::None, None, out);
            }
            Err(failure) => self.attempt_failed(ix, failure, out),
        }
    }

    fn attempt_failed(&mut self, ix: InstanceIx, failure: StepFailure, out: &mut Vec<Command>) {
        if let Some(cause) = self.cancelled(ix) {
            self.finish(ix, Status::Cancelled, cause, None, out);
            return;
        }
        let retry = self.step_of(ix).retry;
        let node = self.node_mut(ix);
        node.failures += 1;
        if node.failures > retry.limit || self.stops(ix) {
            self.fail(ix, failure, out);
            return;
        }
        let doublings = self.node(ix).failures - 1;
        let delay = retry.backoff.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX));
        self.record_retry(ix, Some(failure.clone()), delay, out);
        if delay.is_zero() {
            self.make_ready(ix);
        } else {
            self.node_mut(ix).state = State::Backoff;
            self.last_failures.insert(ix, failure);
            out.push(Command::RetryAfter { ix, delay });
        }
    }

    pub(super) fn attempt_lost(&mut self, ix: InstanceIx, attempt: u32, out: &mut Vec<Command>) {
        if self.runs(ix, attempt) && self.goes_on(ix, out) {
            self.record_retry(ix, None, Duration::ZERO, out);
            self.make_ready(ix);
        }
    }

    pub(super) fn not_begun(&mut self, ix: InstanceIx, attempt: u32, out: &mut Vec<Command>) {
        if !self.runs(ix, attempt) {
            return;
        }
        self.node_mut(ix).attempt -= 1;
        if self.goes_on(ix, out) {
            self.make_ready(ix);
        }
    }

    /// Whether an instance whose attempt came to nothing is to have another.
    fn goes_on(&mut self, ix: InstanceIx, out: &mut Vec<Command>) -> bool {
        self.release(ix);
        let stops = self.stops(ix).then_some(Cause::FailFast);
        let Some(cause) = self.cancelled(ix).or(stops) else { return true };
        self.finish(ix, Status::Cancelled, cause, None, out);
        false
    }

    pub(super) fn retry_due(&mut self, ix: InstanceIx) {
        if self.nodes.get(ix.0 as usize).is_some_and(|node| node.state == State::Backoff) {
            self.last_failures.remove(&ix);
            self.make_ready(ix);
        }
    }

    fn record_retry(&self, ix: InstanceIx, failure: Option<StepFailure>, delay: Duration, out: &mut Vec<Command>) {
        out.push(Command::Record(Event::InstanceRetrying {
            instance: self.plan.graph.id(ix),
            attempt: self.node(ix).attempt,
            failure,
            delay_millis: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        }));
    }
}
