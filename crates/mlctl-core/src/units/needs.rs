//! What steps need of others, as far as something is to run on both sides.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::gate::Need;
use crate::graph::{Dep, GroupIx, InstanceIx, Members};
use crate::plan::{Plan, matrix};
use crate::workflow::StepIx;

/// What is to run, and what it needs.
pub(super) struct Needs {
    running: BTreeMap<StepIx, Running>,
    links: BTreeMap<StepIx, Vec<Link>>,
}

/// What of a step is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Running {
    /// The instances at these places.
    Rows(Vec<u32>),
    /// Its instances are not known yet.
    Dynamic,
}

/// That a step needs another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// The other.
    pub(super) producer: StepIx,
    /// In which way.
    pub(super) need: Need,
    /// Every instance that is to run depends on every instance of the other.
    on_all: bool,
    /// Every instance that is to run depends on one of the other that is to run.
    by_all: bool,
}

impl Link {
    /// Whether something may be left to run when an instance of the producer's unit failed.
    pub(super) fn goes_on_though_failed(&self, is_single: bool, is_allowed: bool) -> bool {
        let gathers_the_rest = matches!(self.need, Need::Gather { .. }) && is_allowed;
        gathers_the_rest || !(self.on_all || is_single && self.by_all)
    }

    /// Whether something may be left to run when nothing of the producer's unit ran.
    pub(super) fn goes_on_though_not_started(&self) -> bool {
        self.need != Need::One || !self.by_all
    }
}

impl Needs {
    pub(super) fn of(plan: &Plan, ends: &dyn Fn(InstanceIx) -> bool) -> Self {
        let running: BTreeMap<StepIx, Running> =
            plan.needed().filter_map(|step| Some((step, running(plan, step, ends)?))).collect();
        let mut groups = HashMap::new();
        let mut leads = |dep: Dep| match dep {
            Dep::Instance(ix) => !ends(ix),
            Dep::Group(group) => *groups.entry(group).or_insert_with(|| any_runs(plan, group, ends)),
            Dep::None => false,
        };
        let of = |step: &StepIx| links(plan, *step, &running, &mut leads);
        let links = running.keys().copied().collect::<Vec<_>>().iter().map(of).collect::<Vec<_>>();
        Self { links: running.keys().copied().zip(links).collect(), running }
    }

    /// What of a step is to run.
    pub(super) fn running(&self, step: StepIx) -> Option<&Running> {
        self.running.get(&step)
    }

    /// What a step needs, for each thing that asks for it.
    pub(super) fn links(&self, step: StepIx) -> &[Link] {
        self.links.get(&step).map_or(&[], Vec::as_slice)
    }

    /// The steps that a step needs.
    pub(super) fn producers(&self, step: StepIx) -> BTreeSet<StepIx> {
        self.links(step).iter().map(|link| link.producer).collect()
    }
}

fn running(plan: &Plan, step: StepIx, ends: &dyn Fn(InstanceIx) -> bool) -> Option<Running> {
    match plan.graph.members(step) {
        Members::Known { first, len } => {
            let rows: Vec<u32> = (0..len).filter(|row| !ends(InstanceIx(first.0 + row))).collect();
            (!rows.is_empty()).then_some(Running::Rows(rows))
        }
        Members::Unknown(placeholder) => (!ends(placeholder)).then_some(Running::Dynamic),
        Members::Absent | Members::StoodIn(_) => None,
    }
}

fn any_runs(plan: &Plan, group: GroupIx, ends: &dyn Fn(InstanceIx) -> bool) -> bool {
    let group = plan.graph.group(group);
    let placeholder = plan.graph.placeholder(group.step).filter(|_| group.open);
    placeholder.is_some_and(|placeholder| !ends(placeholder)) || group.members.iter().any(|&member| !ends(member))
}

fn links(
    plan: &Plan,
    step: StepIx,
    running: &BTreeMap<StepIx, Running>,
    leads: &mut dyn FnMut(Dep) -> bool,
) -> Vec<Link> {
    let mut links = Vec::new();
    let is_whole = |producer: StepIx| match (plan.graph.members(producer), &running[&producer]) {
        (Members::Known { len, .. }, Running::Rows(rows)) => rows.len() == len as usize,
        _ => true,
    };
    for need in &plan.steps[step.0 as usize].needs {
        for edge_ix in need.edges.clone() {
            let edge = &plan.graph.edges(step)[edge_ix];
            let producer = edge.producer;
            if !running.contains_key(&producer) {
                continue;
            }
            let of_rows = match &running[&step] {
                Running::Dynamic => None,
                Running::Rows(rows) => {
                    let first = plan.graph.instances_of(step).next().map_or(0, |first| first.0);
                    let dep = |row: &u32| plan.graph.deps(InstanceIx(first + row))[edge_ix];
                    Some(rows.iter().filter(|row| leads(dep(row))).count()).map(|leading| (leading, rows.len()))
                }
            };
            let by_all = match of_rows {
                Some((0, _)) => continue,
                Some((leading, all)) => leading == all,
                None => is_whole(producer),
            };
            links.push(Link { producer, need: need.need, on_all: edge.is_whole(), by_all });
        }
    }
    if running[&step] == Running::Dynamic {
        let sources = matrix::sources(&plan.workflow, step).filter(|from| running.contains_key(&from.step));
        links.extend(sources.map(|from| {
            let on_all = plan.graph.axes(from.step).is_empty();
            Link { producer: from.step, need: Need::One, on_all, by_all: is_whole(from.step) }
        }));
    }
    links
}
