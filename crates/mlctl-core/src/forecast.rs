//! The forecast: what a run would do now, given what is stored.
//!
//! It is the scheduler itself that answers, run against the store with nothing ever launched; so a forecast cannot
//! differ from the run. What waits for something that will run is judged by the same gate, taking for granted that
//! everything that runs succeeds.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::action::{ActionResult, Artifact};
use crate::digest::Digest;
use crate::event::{Reason, Status};
use crate::gate::{Decision, Need, Summary, Upstream, gate};
use crate::graph::{Dep, GroupIx, InstanceIx};
use crate::plan::Plan;
use crate::scheduler::{Command, Facts, Input, Instance, NoKey, Options, Scheduler, State};
use crate::workflow::StepIx;

/// What is stored.
pub trait Known {
    /// A result with this key, whose objects all exist.
    fn result(&mut self, key: &Digest) -> Option<Arc<ActionResult>>;
    /// The names of what is directly in a stored directory.
    fn entries(&mut self, directory: &Artifact) -> Result<Vec<String>, String>;
    /// What is at a path in a stored directory.
    fn entry(&mut self, directory: &Artifact, path: &str) -> Result<Artifact, String>;
    /// What is at a path in the project.
    fn file(&mut self, path: &str) -> Result<Artifact, String>;
}

/// Where only results are known: no dynamic axis over a directory, no entries, no input paths with dynamic values.
impl<F: FnMut(&Digest) -> Option<Arc<ActionResult>>> Known for F {
    fn result(&mut self, key: &Digest) -> Option<Arc<ActionResult>> {
        self(key)
    }

    fn entries(&mut self, _: &Artifact) -> Result<Vec<String>, String> {
        Err("the directory is not known".to_owned())
    }

    fn entry(&mut self, _: &Artifact, path: &str) -> Result<Artifact, String> {
        Err(format!("`{path}` is not known"))
    }

    fn file(&mut self, path: &str) -> Result<Artifact, String> {
        Err(format!("`{path}` is not known"))
    }
}

/// What would happen to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// It ends without running: cached, skipped, or failed for want of an input.
    Ends(Status, Option<Reason>),
    /// It runs.
    Runs(Why),
}

/// Why an instance runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No result has its key.
    NoResult,
    /// Its step's results are to be replaced.
    Forced,
    /// It has no key.
    NoKey(NoKey),
    /// What it depends on will run: only then it is known whether it must.
    DependsOn(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResult => f.write_str("no result for this key"),
            Self::Forced => f.write_str("forced"),
            Self::NoKey(why) => why.fmt(f),
            Self::DependsOn(instance) => write!(f, "depends on {instance}, which will run"),
        }
    }
}

/// What a run would do now.
#[derive(Debug)]
pub struct Forecast {
    scheduler: Scheduler,
    outlooks: Vec<Option<Outlook>>,
    groups: HashMap<GroupIx, Summary>,
}

/// Finds out what a run of this plan would do now.
pub fn forecast(plan: Plan, facts: Facts, known: &mut dyn Known) -> Forecast {
    let options = Options { jobs: usize::MAX, ..Options::default() };
    let mut scheduler = Scheduler::new(plan, facts, options);
    let mut commands = Vec::new();
    scheduler.step(Input::Begin, &mut commands);
    loop {
        for command in std::mem::take(&mut commands) {
            if let Some(answer) = answer(&command, known) {
                scheduler.step(answer, &mut commands);
            }
        }
        if commands.is_empty() && !scheduler.assume_order(&mut commands) {
            break;
        }
    }
    let outlooks = vec![None; scheduler.graph().len()];
    let mut forecast = Forecast { scheduler, outlooks, groups: HashMap::new() };
    let members: Vec<InstanceIx> = forecast.plan().needed().flat_map(|step| forecast.members(step)).collect();
    for ix in members {
        let outlook = forecast.judge(ix);
        forecast.outlooks[ix.0 as usize] = Some(outlook);
    }
    forecast
}

/// Answers a command that only asks what is known; `None`: it asks for something to be done.
pub fn answer(command: &Command, known: &mut dyn Known) -> Option<Input> {
    match command {
        Command::LookUp { ix, key } => Some(Input::LookedUp { ix: *ix, result: known.result(key) }),
        Command::ListEntries { artifact } => {
            Some(Input::Entries { artifact: *artifact, entries: known.entries(artifact) })
        }
        Command::ResolveEntry { artifact, entry } => {
            let result = known.entry(artifact, entry);
            Some(Input::EntryResolved { artifact: *artifact, entry: entry.clone(), result })
        }
        Command::Digest { path } => Some(Input::Digested { path: path.clone(), result: known.file(path) }),
        Command::Launch { .. }
        | Command::RetryAfter { .. }
        | Command::Kill { .. }
        | Command::Record(_)
        | Command::Done(_) => None,
    }
}

impl Forecast {
    /// The plan, grown by what stored results tell.
    pub fn plan(&self) -> &Plan {
        self.scheduler.plan()
    }

    /// The facts, with project inputs found since.
    pub fn facts(&self) -> &Facts {
        self.scheduler.facts()
    }

    /// Instances with their outlook, in plan order. A step whose instances are not known yet has one line.
    pub fn iter(&self) -> impl Iterator<Item = (Instance<'_>, &Outlook)> {
        let members = self.plan().needed().flat_map(|step| self.members(step));
        members.filter_map(|ix| Some((self.scheduler.instance(ix), self.outlooks[ix.0 as usize].as_ref()?)))
    }

    /// Digests of what an instance's action is made of, as far as they are known: what `why` compares.
    pub fn components(&self, ix: InstanceIx) -> BTreeMap<String, Digest> {
        self.scheduler.components(ix)
    }

    /// Whether nothing would run.
    pub fn nothing_to_do(&self) -> bool {
        self.outlooks.iter().flatten().all(|outlook| matches!(outlook, Outlook::Ends(..)))
    }

    fn members(&self, step: StepIx) -> impl Iterator<Item = InstanceIx> + use<> {
        let graph = self.scheduler.graph();
        graph.placeholder(step).into_iter().chain(graph.instances_of(step))
    }

    fn judge(&mut self, ix: InstanceIx) -> Outlook {
        let instance = self.scheduler.instance(ix);
        match instance.state() {
            State::Finished(status) => return Outlook::Ends(status, instance.reason()),
            State::Waiting => {}
            _ if self.plan().forces(ix) => return Outlook::Runs(Why::Forced),
            _ => {
                let why = self.scheduler.no_key(ix).cloned().map_or(Why::NoResult, Why::NoKey);
                return Outlook::Runs(why);
            }
        }
        let deps = self.scheduler.graph().deps(ix).to_vec();
        let summaries: Vec<Summary> = deps.iter().map(|&dep| self.summary(dep)).collect();
        let plan = self.plan();
        let needs = &plan.steps[self.step(ix)].needs;
        let merged = needs.iter().map(|need| {
            let all = summaries.get(need.edges.clone()).unwrap_or_default();
            (need.need, all.iter().copied().fold(Summary::default(), Summary::and))
        });
        let finally = plan.step(plan.graph.step(ix)).finally;
        let when = || Ok::<_, std::convert::Infallible>(plan.folded_when(ix) != Some(false));
        let decision = if plan.graph.is_placeholder(ix) {
            let one = summaries.iter().map(|&summary| (Need::One, summary));
            gate(one, false, || Ok(true))
        } else {
            gate(merged, finally, when)
        };
        let id = |ix: InstanceIx| plan.graph.id(ix);
        match decision {
            Ok(Decision::Skip(because)) => {
                Outlook::Ends(Status::Skipped, Some(Reason::DependencySkipped { instance: id(because) }))
            }
            Ok(Decision::SkipWhen) => Outlook::Ends(Status::Skipped, Some(Reason::When)),
            Ok(Decision::Cancel { because, allowed }) => {
                let reason = Reason::DependencyFailed { instance: id(because), allowed };
                Outlook::Ends(Status::Cancelled, Some(reason))
            }
            Ok(Decision::SkipNone(_)) => Outlook::Ends(Status::Skipped, None),
            Ok(Decision::Missing(_)) => Outlook::Ends(Status::Failed, None),
            Ok(Decision::Run) if finally => Outlook::Runs(Why::NoKey(NoKey::Finally)),
            Ok(Decision::Run) => Outlook::Runs(self.waits_for(&deps)),
        }
    }

    fn step(&self, ix: InstanceIx) -> usize {
        self.scheduler.graph().step(ix).0 as usize
    }

    /// The first of these that runs.
    fn waits_for(&self, deps: &[Dep]) -> Why {
        let runs = |ix: &InstanceIx| matches!(self.outlooks[ix.0 as usize], Some(Outlook::Runs(_)));
        let first = deps.iter().flat_map(|&dep| self.leads_to(dep)).find(runs);
        Why::DependsOn(first.map(|ix| self.scheduler.graph().id(ix)).unwrap_or_default())
    }

    /// The instances behind an edge; for those not known yet their placeholder.
    fn leads_to(&self, dep: Dep) -> impl Iterator<Item = InstanceIx> {
        let graph = self.scheduler.graph();
        let (one, several) = match dep {
            Dep::Instance(ix) => (Some(ix), [].as_slice()),
            Dep::Group(group) => {
                let group = graph.group(group);
                (graph.placeholder(group.step).filter(|_| group.open), group.members.as_slice())
            }
            Dep::None => (None, [].as_slice()),
        };
        one.into_iter().chain(several.iter().copied())
    }

    fn summary(&mut self, dep: Dep) -> Summary {
        let Dep::Group(group) = dep else { return self.summarised(dep) };
        if let Some(&known) = self.groups.get(&group) {
            return known;
        }
        let summary = self.summarised(dep);
        self.groups.insert(group, summary);
        summary
    }

    fn summarised(&self, dep: Dep) -> Summary {
        self.leads_to(dep).fold(Summary::default(), |all, ix| all.and(Summary::of(ix, self.upstream(ix))))
    }

    fn upstream(&self, ix: InstanceIx) -> Upstream {
        self.scheduler.upstream(ix).unwrap_or_else(|| match &self.outlooks[ix.0 as usize] {
            Some(Outlook::Ends(Status::Skipped, _)) => Upstream::Skipped,
            Some(Outlook::Ends(Status::Cancelled, Some(Reason::DependencyFailed { allowed, .. }))) => {
                Upstream::Failed { allowed: *allowed }
            }
            Some(Outlook::Ends(Status::Failed | Status::Cancelled, _)) => Upstream::Failed { allowed: false },
            Some(Outlook::Ends(Status::Succeeded | Status::Cached, _) | Outlook::Runs(_)) | None => Upstream::Produced,
        })
    }
}
