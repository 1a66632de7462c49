//! The world around a scheduler: a store, machines, time; all in any order, some of it lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind, StepFailure};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Outcome, Reason, Status};
use mlctl_core::graph::InstanceIx;
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::{Capacity, Command, Input, Options, Scheduler};
use mlctl_core::value::Value;
use mlctl_core::workflow::Step;

use super::chance::{Chance, fixed};
use super::flow::facts;
use super::random::{DIR, LIST};

/// What the steps of a workflow do: the same whenever and in whatever order they run.
#[derive(Clone, Copy)]
pub(crate) struct Nature(pub(crate) u64);

impl Nature {
    fn dice(self, texts: &[&str], sides: u64) -> u64 {
        fixed(self.0, texts) % sides
    }

    /// How many attempts fail before one succeeds, if one does.
    pub(crate) fn attempts(self, id: &str, step: &Step) -> Option<u32> {
        (0..=step.retry.limit).find(|&failures| !self.fails(id, failures))
    }

    pub(crate) fn fails(self, id: &str, failures: u32) -> bool {
        self.dice(&[id, "fails", &failures.to_string()], 100) < 25
    }

    pub(crate) fn cached(self, id: &str) -> bool {
        self.dice(&[id, "cached"], 100) < 20
    }

    pub(crate) fn number(self, id: &str) -> Value {
        Value::Int(self.dice(&[id, "number"], 3).cast_signed())
    }

    fn list(self, id: &str) -> Value {
        let names = ["u", "x", "y", "z"];
        Value::Json(match self.dice(&[id, "list"], 10) {
            0 => serde_json::json!({ "not": "a list" }),
            1 => serde_json::json!(["x", "x"]),
            length => serde_json::json!(names[..usize::try_from(length).expect("small") % 4]),
        })
    }

    fn names(self, id: &str) -> Vec<String> {
        let names = ["z", "x", "y"];
        let length = usize::try_from(self.dice(&[id, "dir"], 4)).expect("small");
        names[..length].iter().map(|name| (*name).to_owned()).collect()
    }

    /// What a dynamic axis over an output holds; none if it is not what it must be.
    pub(crate) fn axis(self, id: &str, output: usize) -> Option<Vec<Value>> {
        if output == DIR {
            let mut names = self.names(id);
            names.sort();
            return Some(names.into_iter().map(Value::String).collect());
        }
        assert_eq!(output, LIST);
        let Value::Json(serde_json::Value::Array(items)) = self.list(id) else { return None };
        let values: Vec<Value> =
            items.iter().map(|item| Value::String(item.as_str().expect("text").to_owned())).collect();
        (values.first() != values.get(1) || values.is_empty()).then_some(values)
    }

    fn artifact(self, id: &str, kind: ArtifactKind) -> Artifact {
        Artifact { kind, digest: Digest::of(format!("{id} {}", self.0).as_bytes()), size: 1 }
    }

    pub(crate) fn result(self, id: &str) -> Arc<ActionResult> {
        Arc::new(ActionResult {
            artifacts: BTreeMap::from([
                ("file".to_owned(), self.artifact(id, ArtifactKind::File)),
                ("dir".to_owned(), self.artifact(id, ArtifactKind::Directory)),
            ]),
            values: BTreeMap::from([("number".to_owned(), self.number(id)), ("list".to_owned(), self.list(id))]),
            millis: 1,
        })
    }
}

/// What may go wrong besides the steps themselves, each that often in a hundred.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mishaps {
    pub(crate) lost: u64,
    pub(crate) stale: u64,
    /// After how many answers the run is cancelled, and cancelled again.
    pub(crate) cancel: Option<usize>,
    pub(crate) cancel_again: Option<usize>,
}

/// How a run went.
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
    pub(crate) outcome: Outcome,
}

pub(crate) fn options(fail_fast: bool) -> Options {
    let capacity = Capacity { cpu_millis: Some(4000), memory: None, gpu: Some(1) };
    Options { run: "r".to_owned(), jobs: 3, capacity, fail_fast, share: None }
}

/// Runs a plan to its end after the replay of what an earlier run of it recorded.
pub(crate) fn run(
    plan: Plan,
    nature: Nature,
    chance: &mut Chance,
    mishaps: Mishaps,
    fail_fast: bool,
    earlier: &[Event],
) -> Story {
    let facts = facts(&plan);
    let mut world = World {
        nature,
        mishaps,
        scheduler: Scheduler::new(plan, facts, options(fail_fast)),
        events: Vec::new(),
        failures: HashMap::new(),
        ended: HashMap::new(),
        running: Vec::new(),
        todo: Vec::new(),
        outcome: None,
    };
    for event in earlier {
        world.note(event);
        world.tell(Input::Replay(event.clone()));
    }
    world.events = earlier.to_vec();
    world.tell(Input::Begin);
    let mut answers = 0;
    while world.outcome.is_none() {
        answers += 1;
        if mishaps.cancel == Some(answers) || mishaps.cancel_again == Some(answers) {
            world.tell(Input::Cancel(Reason::Cancelled));
            continue;
        }
        assert!(!world.todo.is_empty(), "nothing to do and not done: {:#?}", world.events);
        let next = world.todo.swap_remove(chance.below(world.todo.len()));
        world.answer(next, chance);
    }
    assert!(world.running.is_empty(), "done while something runs");
    Story { events: world.events, outcome: world.outcome.expect("an outcome") }
}

/// Follows a run that is run elsewhere by what is recorded of it; returns statuses and the outcome.
pub(crate) fn follow(plan: Plan, nature: Nature, events: &[Event]) -> (BTreeMap<String, Status>, Option<Outcome>) {
    let facts = facts(&plan);
    let mut scheduler = Scheduler::new(plan, facts, options(false));
    let mut commands = Vec::new();
    let mut outcome = None;
    let mut told = BTreeSet::new();
    scheduler.step(Input::Begin, &mut commands);
    let mut events = events.iter();
    loop {
        for command in std::mem::take(&mut commands) {
            match command {
                Command::ListEntries { artifact } => {
                    let entries = Ok(entries(&scheduler, nature, &artifact));
                    scheduler.step(Input::Entries { artifact, entries }, &mut commands);
                }
                Command::LookUp { ix, .. } => scheduler.step(Input::LookedUp { ix, result: None }, &mut commands),
                // What the gate alone decides is decided before its record comes.
                Command::Record(Event::InstanceFinished { instance, status, .. }) => {
                    assert!(!matches!(status, Status::Succeeded | Status::Cached), "{instance} did not run here");
                    assert!(told.insert(instance.clone()), "{instance} ended twice");
                }
                Command::Done(done) => outcome = Some(done),
                _ => {}
            }
        }
        if !commands.is_empty() {
            continue;
        }
        let Some(event) = events.next() else { break };
        scheduler.step(Input::Replay(event.clone()), &mut commands);
    }
    let statuses = scheduler.instances().filter_map(|instance| Some((instance.id(), instance.status()?))).collect();
    (statuses, outcome)
}

/// What is in a directory that an instance made.
pub(crate) fn entries(scheduler: &Scheduler, nature: Nature, artifact: &Artifact) -> Vec<String> {
    let mut made = scheduler.instances().map(|instance| instance.id());
    let id = made.find(|id| nature.artifact(id, ArtifactKind::Directory) == *artifact);
    nature.names(&id.expect("a directory of this run"))
}

struct World {
    nature: Nature,
    mishaps: Mishaps,
    scheduler: Scheduler,
    events: Vec<Event>,
    /// Failed attempts that are recorded, by instance.
    failures: HashMap<String, u32>,
    ended: HashMap<String, Status>,
    running: Vec<(InstanceIx, u32)>,
    todo: Vec<Todo>,
    outcome: Option<Outcome>,
}

#[derive(Clone)]
enum Todo {
    Command(Command),
    /// An attempt that was started and runs.
    End(InstanceIx, u32, bool),
    /// Something told again.
    Again(Input),
}

impl World {
    fn tell(&mut self, input: Input) {
        let mut commands = Vec::new();
        let cancel = matches!(input, Input::Cancel(_));
        self.scheduler.step(input, &mut commands);
        for &(ix, _) in self.running.iter().filter(|_| cancel) {
            let killed = commands.contains(&Command::Kill { ix });
            assert!(killed || self.scheduler.instance(ix).step().finally, "{ix:?} runs on after the run was cancelled");
        }
        for command in commands {
            assert!(self.outcome.is_none(), "{command:?} after the end");
            match command {
                Command::Record(event) => {
                    self.note(&event);
                    self.events.push(event);
                }
                Command::Done(outcome) => self.outcome = Some(outcome),
                Command::Launch { ix, attempt } => {
                    self.running.push((ix, attempt));
                    self.check_launch(ix, attempt);
                    self.todo.push(Todo::Command(Command::Launch { ix, attempt }));
                }
                Command::Kill { ix } => self.kill(ix),
                other => self.todo.push(Todo::Command(other)),
            }
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::InstanceRetrying { instance, failure: Some(_), .. } => {
                *self.failures.entry(instance.clone()).or_default() += 1;
            }
            Event::InstanceFinished { instance, status, attempts, components, .. } => {
                assert_eq!(*attempts > 0, !components.is_empty(), "{instance}: the components of what ran");
                let before = self.ended.insert(instance.clone(), *status);
                assert_eq!(before, None, "{instance} ended twice");
            }
            Event::GraphExpanded { step, instances } => {
                // Directories are listed in any order.
                let directory = instances.iter().all(|id| !id.contains("a="));
                assert!(!directory || instances.is_sorted(), "{step}: {instances:?}");
            }
            _ => {}
        }
    }

    /// Nothing is launched beyond what there is, or with an input that is not there.
    fn check_launch(&self, ix: InstanceIx, attempt: u32) {
        let resources = |ix: InstanceIx| self.scheduler.instance(ix).step().resources;
        let sum = |of: &dyn Fn(InstanceIx) -> u32| self.running.iter().map(|(ix, _)| of(*ix)).sum::<u32>();
        assert!(self.running.len() <= 3);
        assert!(sum(&|ix| resources(ix).cpu_millis.unwrap_or(0)) <= 4000);
        assert!(sum(&|ix| resources(ix).gpu.unwrap_or(0)) <= 1);
        let instance = self.scheduler.instance(ix);
        let task = self.scheduler.task(ix, attempt);
        for input in &instance.step().inputs {
            assert!(input.optional || task.inputs[&input.name].content.is_some(), "{}: {}", task.instance, input.name);
        }
    }

    fn kill(&mut self, ix: InstanceIx) {
        for todo in &mut self.todo {
            match todo {
                Todo::End(other, _, killed) if *other == ix => *killed = true,
                Todo::Command(Command::Launch { ix: other, attempt }) if *other == ix => {
                    *todo = Todo::End(ix, *attempt, true);
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, todo: Todo, chance: &mut Chance) {
        let id = |world: &Self, ix: InstanceIx| world.scheduler.instance(ix).id();
        let input = match todo {
            Todo::Again(input) => input,
            Todo::Command(Command::LookUp { ix, .. }) => {
                let id = id(self, ix);
                let result = self.nature.cached(&id).then(|| self.nature.result(&id));
                Input::LookedUp { ix, result }
            }
            Todo::Command(Command::ListEntries { artifact }) => {
                let entries = Ok(entries(&self.scheduler, self.nature, &artifact));
                Input::Entries { artifact, entries }
            }
            Todo::Command(Command::Launch { ix, attempt }) => {
                self.todo.push(Todo::End(ix, attempt, false));
                if chance.percent(10) {
                    return;
                }
                Input::Started { ix, attempt }
            }
            Todo::Command(Command::RetryAfter { ix, .. }) => Input::RetryDue { ix },
            Todo::Command(other) => panic!("{other:?}"),
            Todo::End(ix, attempt, killed) => {
                self.running.retain(|running| *running != (ix, attempt));
                if chance.percent(self.mishaps.lost) {
                    Input::Lost { ix, attempt }
                } else {
                    let id = id(self, ix);
                    let failures = self.failures.get(&id).copied().unwrap_or(0);
                    let result = match killed && chance.percent(80) {
                        true => Err(StepFailure::Cancelled),
                        false if self.nature.fails(&id, failures) => Err(StepFailure::Exit { code: 1 }),
                        false => Ok(self.nature.result(&id)),
                    };
                    Input::Finished { ix, attempt, result }
                }
            }
        };
        if chance.percent(self.mishaps.stale) {
            self.todo.push(Todo::Again(input.clone()));
        }
        self.tell(input);
    }
}
