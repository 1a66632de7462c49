//! Units worked through by pods, each with a scheduler of its own that knows only what was recorded when it began: what
//! comes of it is what comes of a run as a whole.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use mlctl_core::action::StepFailure;
use mlctl_core::event::{Event, Status};
use mlctl_core::graph::InstanceIx;
use mlctl_core::plan::{Plan, Request, plan};
use mlctl_core::scheduler::{Command, Input, Options, Scheduler, State};
use mlctl_core::submission::Part;
use mlctl_core::units::{Cutting, Holds, Report, Rows, Share, Unit, UnitIx, units};

use super::chance::Chance;
use super::flow::facts;
use super::oracle::ends;
use super::random::workflow;
use super::world::{Nature, entries, follow};

const SEEDS: u64 = 1000;

/// What pods recorded of instances, by id.
type Records = BTreeMap<String, Event>;

/// A pod at work.
struct Pod<'a> {
    scheduler: Scheduler,
    share: Share,
    reports: &'a [Report],
    nature: Nature,
    records: &'a Records,
    asked: HashSet<InstanceIx>,
    todo: VecDeque<Command>,
    failures: HashMap<InstanceIx, u32>,
    own: Records,
}

impl Pod<'_> {
    fn work(mut self) -> (Scheduler, Share, Records) {
        self.learn();
        self.tell(Input::Begin);
        loop {
            self.learn();
            let ended = |ix| matches!(self.scheduler.instance(ix).state(), State::Finished(_) | State::Dissolved);
            match self.todo.pop_front() {
                Some(command) => self.carry_out(command),
                None if self.share.is_done(self.scheduler.graph(), self.reports, ended) => break,
                None => panic!("stuck: {:?} of {:?}", self.own.keys(), self.share),
            }
        }
        (self.scheduler, self.share, self.own)
    }

    /// Takes what is recorded of what it depends on.
    fn learn(&mut self) {
        loop {
            let needed = self.share.needed(self.scheduler.plan(), self.reports);
            let new: Vec<InstanceIx> = needed.into_iter().filter(|ix| self.asked.insert(*ix)).collect();
            for ix in &new {
                if let Some(event) = self.records.get(&self.scheduler.graph().id(*ix)) {
                    self.tell(Input::Replay(event.clone()));
                }
            }
            if new.is_empty() {
                break;
            }
        }
        for ix in self.asked.iter().filter(|_| self.todo.is_empty()) {
            let is_ready = self.scheduler.instance(*ix).state() == State::Ready;
            let is_own = self.share.has(self.scheduler.graph(), *ix);
            assert!(is_own || !is_ready, "{} was not recorded", self.scheduler.graph().id(*ix));
        }
    }

    fn tell(&mut self, input: Input) {
        let mut commands = Vec::new();
        self.scheduler.step(input, &mut commands);
        self.todo.extend(commands);
    }

    fn carry_out(&mut self, command: Command) {
        let is_own = |pod: &Self, ix| pod.share.has(pod.scheduler.graph(), ix);
        match command {
            Command::LookUp { ix, .. } => {
                let id = self.scheduler.graph().id(ix);
                let result = (is_own(self, ix) && self.nature.cached(&id)).then(|| self.nature.result(&id));
                self.tell(Input::LookedUp { ix, result });
            }
            Command::ListEntries { artifact } => {
                let entries = Ok(entries(&self.scheduler, self.nature, &artifact));
                self.tell(Input::Entries { artifact, entries });
            }
            Command::Launch { ix, attempt } => {
                assert!(is_own(self, ix));
                let id = self.scheduler.graph().id(ix);
                let failures = self.failures.entry(ix).or_default();
                let result = match self.nature.fails(&id, *failures) {
                    true => Err(StepFailure::Exit { code: 1 }),
                    false => Ok(self.nature.result(&id)),
                };
                *failures += u32::from(result.is_err());
                self.tell(Input::Started { ix, attempt });
                self.tell(Input::Finished { ix, attempt, result });
            }
            Command::RetryAfter { ix, .. } => self.tell(Input::RetryDue { ix }),
            Command::Record(event) => {
                let Event::InstanceFinished { instance, .. } = &event else { return };
                let ix = self.scheduler.find(instance).expect("an instance");
                if is_own(self, ix) {
                    assert_eq!(self.own.insert(instance.clone(), event), None);
                }
            }
            Command::Done(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What an engine knows of a unit that is over.
#[derive(Default)]
struct Known {
    started: bool,
    failed: bool,
    told: Vec<String>,
}

/// Starts pods as an engine would; gives what they recorded, and how many there were.
fn play(plan: &Plan, units: &[Unit], cutting: &Cutting, nature: Nature) -> (Records, usize) {
    let parts: BTreeMap<&str, Part> =
        units.iter().map(|unit| (plan.step(unit.first()).name.as_str(), Part::of(plan, unit, cutting))).collect();
    let (mut records, mut known, mut started) = (Records::new(), Vec::<Known>::new(), 0);
    let (last, first): (Vec<&Unit>, Vec<&Unit>) = units.iter().partition(|unit| unit.finally);
    assert!(units.iter().map(|unit| unit.finally).is_sorted());
    for unit in first.into_iter().chain(last) {
        let met = unit.after.iter().all(|after| {
            let before = &known[after.unit.0 as usize];
            if before.started { !before.failed || after.though_failed } else { after.though_not_started }
        });
        let told = |unit: UnitIx, place: usize| known[unit.0 as usize].told[place].clone();
        let mut this =
            Known { started: met && unit.when.as_ref().is_none_or(|when| holds(when, &told)), ..Known::default() };
        let pods = match &unit.rows {
            _ if !this.started => 0,
            Rows::Known { pods, .. } => *pods,
            Rows::Dynamic { count: Some((by, place)) } => told(*by, *place).parse().expect("a number"),
            Rows::Dynamic { count: None } => cutting.pods,
        };
        let mut new = Records::new();
        for worker in 0..pods {
            started += 1;
            let part = &parts[plan.step(unit.first()).name.as_str()];
            let share = part.share(plan, worker).expect("steps of the plan");
            let options = Options { jobs: 1, share: Some(share.clone()), ..Options::default() };
            let pod = Pod {
                scheduler: Scheduler::new(plan.clone(), facts(plan), options),
                share,
                reports: &unit.reports,
                nature,
                records: &records,
                asked: HashSet::new(),
                todo: VecDeque::new(),
                failures: HashMap::new(),
                own: Records::new(),
            };
            let (scheduler, share, own) = pod.work();
            let failed = |ix: &InstanceIx| scheduler.instance(*ix).status() == Some(Status::Failed);
            this.failed |= share.instances(scheduler.graph()).iter().any(failed);
            let pods_of = |report: &Report| match report {
                Report::Pods { of } => parts[plan.step(*of).name.as_str()].pods,
                _ => None,
            };
            this.told = unit.reports.iter().map(|report| report.told(&scheduler, &share, pods_of(report))).collect();
            new.extend(own);
        }
        records.extend(new);
        known.push(this);
    }
    (records, started)
}

fn holds(when: &Holds, told: &dyn Fn(UnitIx, usize) -> String) -> bool {
    match when {
        Holds::Report(unit, place) => told(*unit, *place) == "true",
        Holds::Not(one) => !holds(one, told),
        Holds::And(left, right) => holds(left, told) && holds(right, told),
        Holds::Or(left, right) => holds(left, told) || holds(right, told),
    }
}

#[test]
fn pods_together_do_what_one_run_does() {
    let mut started = 0;
    for seed in 0..SEEDS {
        let workflow = workflow(&mut Chance::new(seed));
        let Ok(plan) = plan(Arc::new(workflow.clone()), BTreeMap::new(), &Request::default()) else { continue };
        let nature = Nature(seed);
        let mut chance = Chance::new(seed ^ 0x90d5);
        let cutting = Cutting {
            pods: 1 + u32::try_from(chance.below(3)).expect("small"),
            workers: chance.percent(80),
            chains: chance.percent(80),
            places: BTreeMap::new(),
        };
        let units = units(&plan, &cutting, &|_| false);
        let played = std::panic::AssertUnwindSafe(|| play(&plan, &units, &cutting, nature));
        let (records, pods) = std::panic::catch_unwind(played).unwrap_or_else(|_| panic!("seed {seed}"));
        started += pods;
        let events: Vec<Event> = records.into_values().collect();
        let (statuses, outcome) = follow(plan, nature, &events);
        let should: BTreeMap<String, Status> =
            ends(&workflow, &nature).into_iter().map(|(id, end)| (id, end.status)).collect();
        assert_eq!(statuses, should, "seed {seed}");
        assert!(outcome.is_some(), "seed {seed}: the run has not ended");
    }
    assert!(started > 1000, "only {started} pods");
}
