//! The scheduler: a state machine that takes what happened and says what to do.
//!
//! No I/O and no clock. The same machine drives local engines, works through a unit inside a pod, and folds a journal
//! ([`Input::Replay`]) after a crash. What ended and what follows from it is in `fold`; what may start is in `launch`.
//!
//! Choices that are not obvious:
//! - **What starts first**: the first in plan order that fits. One that does not fit reserves what it asks for, so that
//!   later ones cannot starve it; one at a time does, so that little lies idle.
//! - **Cancelling**: what runs is killed, the rest is cancelled, and `finally` steps still run, unless the run is
//!   cancelled a second time or they were running already. A result that came in all the same counts.
//! - **A lost attempt** uses up a number (its log has it) but not a retry.
//! - **Replay**: a recorded end is kept until everything the instance depends on has ended, and is then taken instead of
//!   looking up or launching. So records may come in any order.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::action::{ActionResult, Artifact, StepFailure, Task};
use crate::digest::Digest;
use crate::event::{Outcome, Reason, Status};
use crate::gate::Summary;
use crate::graph::{Graph, GroupIx, InstanceIx};
use crate::plan::Plan;
use crate::value::Value;
use crate::workflow::{Step, StepIx};

mod actions;
mod assume;
mod cancel;
mod expand;
mod fold;
mod inputs;
mod launch;
mod messages;
mod replay;
mod task;

pub use actions::NoKey;
pub use launch::Capacity;
pub use messages::{Command, Facts, Input, Options};

use actions::StepAction;
use inputs::Question;
use launch::Launcher;
use replay::Replayed;

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// For what it depends on.
    Waiting,
    /// For an answer about its inputs.
    Resolving,
    /// For an answer about its key.
    LookingUp,
    /// For its turn.
    Ready,
    /// An attempt runs.
    Running,
    /// For its next attempt.
    Backoff,
    /// It ended.
    Finished(Status),
    /// A placeholder whose step has its instances now.
    Dissolved,
}

/// Why an instance ended as it did, in indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Cause {
    #[default]
    None,
    When,
    Skipped(InstanceIx),
    SkippedStep(StepIx),
    Failed {
        because: InstanceIx,
        allowed: bool,
    },
    FailureAllowed,
    FailFast,
    Cancelled,
    DeadlinePassed,
    Interrupted,
}

#[derive(Debug, Clone)]
struct Node {
    state: State,
    cause: Cause,
    /// How much of what it depends on has not ended.
    pending: u32,
    /// The attempt that runs, or the last.
    attempt: u32,
    /// The last attempt whose command is known to have started.
    started: u32,
    /// Attempts that failed.
    failures: u32,
    key: Option<Digest>,
    result: Option<Arc<ActionResult>>,
}

/// The state of a run.
#[derive(Debug)]
pub struct Scheduler {
    plan: Plan,
    facts: Facts,
    options: Options,
    actions: Vec<Option<StepAction>>,
    nodes: Vec<Node>,
    groups: Vec<GroupState>,
    gathered: RefCell<HashMap<(GroupIx, usize), Digest>>,
    launcher: Launcher,
    /// Whose turn at the gate it is.
    due: VecDeque<InstanceIx>,
    /// Instances and placeholders that have not ended: all but those of `finally` steps, and those.
    remaining: [usize; 2],
    phase: Phase,
    stop: Stop,
    /// The last failure of what waits for its next attempt.
    last_failures: HashMap<InstanceIx, StepFailure>,
    listings: HashMap<Artifact, Result<Vec<String>, String>>,
    entries: HashMap<(Artifact, String), Result<Artifact, String>>,
    asked: HashMap<Question, Vec<InstanceIx>>,
    replayed: HashMap<String, Replayed>,
    /// Filled when it is first needed.
    by_id: HashMap<String, InstanceIx>,
    replayed_expansions: HashSet<String>,
    /// Events of the run as a whole that are recorded already.
    recorded: Recorded,
    /// `run.status` for the `finally` steps.
    status: Option<Outcome>,
}

#[derive(Debug, Clone, Copy, Default)]
struct GroupState {
    pending: u32,
    summary: Summary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Replaying,
    Main,
    Finally,
    Done,
}

/// What keeps things from starting.
#[derive(Debug, Clone, Copy, Default)]
struct Stop {
    fail_fast: bool,
    /// Why the run is cancelled.
    cancelled: Option<Cause>,
    /// Whether the `finally` steps are cancelled too.
    finally: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Recorded {
    started: bool,
    finished: bool,
}

/// An instance, to look at.
#[derive(Debug, Clone, Copy)]
pub struct Instance<'a> {
    scheduler: &'a Scheduler,
    /// Its index.
    pub ix: InstanceIx,
}

impl<'a> Instance<'a> {
    /// Its id.
    pub fn id(&self) -> String {
        self.scheduler.plan.graph.id(self.ix)
    }

    /// Its step.
    pub fn step(&self) -> &'a Step {
        self.scheduler.step_of(self.ix)
    }

    /// Whether it runs though a result is known, and replaces that.
    pub fn forced(&self) -> bool {
        self.scheduler.plan.forces(self.ix)
    }

    /// Its axes with their values.
    pub fn matrix(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.scheduler.plan.graph.matrix(self.ix)
    }

    /// Its place among those of its step.
    pub fn row(&self) -> u32 {
        self.scheduler.plan.graph.row(self.ix)
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.scheduler.node(self.ix).state
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<Status> {
        match self.state() {
            State::Finished(status) => Some(status),
            _ => None,
        }
    }

    /// Why it was skipped or cancelled, or whether its failure is allowed.
    pub fn reason(&self) -> Option<Reason> {
        self.scheduler.reason(self.scheduler.node(self.ix).cause)
    }

    /// Its key, where it has one and it is known.
    pub fn key(&self) -> Option<Digest> {
        self.scheduler.node(self.ix).key
    }

    /// What it made.
    pub fn result(&self) -> Option<&'a Arc<ActionResult>> {
        self.scheduler.node(self.ix).result.as_ref()
    }
}

impl Scheduler {
    /// The state of a run that has not begun.
    pub fn new(plan: Plan, facts: Facts, options: Options) -> Self {
        let launcher = Launcher::new(&plan, &options);
        let mut scheduler = Self {
            actions: actions::actions(&plan, &facts),
            plan,
            facts,
            options,
            nodes: Vec::new(),
            groups: Vec::new(),
            gathered: RefCell::default(),
            launcher,
            due: VecDeque::new(),
            remaining: [0; 2],
            phase: Phase::Replaying,
            stop: Stop::default(),
            last_failures: HashMap::new(),
            listings: HashMap::new(),
            entries: HashMap::new(),
            asked: HashMap::new(),
            replayed: HashMap::new(),
            by_id: HashMap::new(),
            replayed_expansions: HashSet::new(),
            recorded: Recorded::default(),
            status: None,
        };
        scheduler.grow();
        scheduler
    }

    /// Takes what happened and adds what is to be done. What is out of date is ignored.
    pub fn step(&mut self, input: Input, out: &mut Vec<Command>) {
        match input {
            Input::Begin => self.begin(out),
            Input::Replay(event) => self.replay(event, out),
            Input::LookedUp { ix, result } => self.looked_up(ix, result, out),
            Input::Started { ix, attempt } => self.started(ix, attempt, out),
            Input::Finished { ix, attempt, result } => self.attempt_finished(ix, attempt, result, out),
            Input::Lost { ix, attempt } => self.attempt_lost(ix, attempt, out),
            Input::NotBegun { ix, attempt } => self.not_begun(ix, attempt, out),
            Input::RetryDue { ix } => self.retry_due(ix),
            Input::Entries { artifact, entries } => self.listed(artifact, entries, out),
            Input::EntryResolved { artifact, entry, result } => {
                self.entries.insert((artifact, entry.clone()), result);
                self.answered(&Question::Entry(artifact, entry), out);
            }
            Input::Digested { path, result } => {
                self.facts.files.insert(path.clone(), result);
                self.answered(&Question::File(path), out);
            }
            Input::Cancel(reason) => self.cancel(&reason, out),
            Input::FailFast => self.stop_rest(out),
        }
        self.settle(out);
    }

    /// What is planned, with the instances known by now.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The instances known by now.
    pub fn graph(&self) -> &Graph {
        &self.plan.graph
    }

    /// What was known beforehand, and project inputs digested since.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// An instance.
    pub fn instance(&self, ix: InstanceIx) -> Instance<'_> {
        Instance { scheduler: self, ix }
    }

    /// The instances known by now, in plan order, and the placeholders that ended as such.
    pub fn instances(&self) -> impl Iterator<Item = Instance<'_>> {
        let graph = &self.plan.graph;
        let ended = |ix: &InstanceIx| matches!(self.node(*ix).state, State::Finished(_));
        let of = move |step| graph.placeholder(step).filter(ended).into_iter().chain(graph.instances_of(step));
        self.plan.needed().flat_map(of).map(|ix| self.instance(ix))
    }

    /// The task of an attempt that was launched.
    pub fn task(&self, ix: InstanceIx, attempt: u32) -> Task {
        task::task(self, ix, attempt)
    }

    fn node(&self, ix: InstanceIx) -> &Node {
        &self.nodes[ix.0 as usize]
    }

    fn node_mut(&mut self, ix: InstanceIx) -> &mut Node {
        &mut self.nodes[ix.0 as usize]
    }

    fn step_of(&self, ix: InstanceIx) -> &Step {
        self.plan.step(self.plan.graph.step(ix))
    }
}
