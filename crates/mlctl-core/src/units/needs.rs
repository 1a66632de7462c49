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
    /// What every instance that is to run gathers is to run, all of it, and is nothing but the other's.
    all_is_open: bool,
    /// Something that the other depends on, or it itself, may fail without harm.
    may_be_allowed: bool,
}

impl Link {
    /// Whether something may be left to run when an instance of the producer's unit failed.
    pub(super) fn goes_on_though_failed(&self, is_single: bool, is_allowed: bool) -> bool {
        let gathers_the_rest = matches!(self.need, Need::Gather { .. }) && is_allowed;
        gathers_the_rest || !(self.on_all || is_single && self.by_all)
    }

    /// Whether something may be left to run when nothing of the producer's unit ran.
    pub(super) fn goes_on_though_not_started(&self) -> bool {
        match self.need {
            Need::One => !self.by_all,
            // All are skipped or cancelled then, and only what was allowed to fail is left out of a gather.
            Need::Gather { optional: false } => !self.all_is_open || self.may_be_allowed,
            _ => true,
        }
    }
}

impl Needs {
    pub(super) fn of(plan: &Plan, ends: &dyn Fn(InstanceIx) -> bool) -> Self {
        let running: BTreeMap<StepIx, Running> =
            plan.needed().filter_map(|step| Some((step, running(plan, step, ends)?))).collect();
        let mut groups = HashMap::new();
        let mut leads = |dep: Dep| match dep {
            Dep::Instance(ix) => Open { some: !ends(ix), all: !ends(ix) },
            Dep::Group(group) => *groups.entry(group).or_insert_with(|| open(plan, group, ends)),
            Dep::None => Open { some: false, all: false },
        };
        let mut all: BTreeMap<StepIx, Vec<Link>> = BTreeMap::new();
        let mut allowed: BTreeSet<StepIx> = BTreeSet::new();
        for step in plan.needed().filter(|step| running.contains_key(step)) {
            let mut links = links(plan, step, &running, &mut leads);
            links.iter_mut().for_each(|link| link.may_be_allowed = allowed.contains(&link.producer));
            if plan.step(step).allow_failure || links.iter().any(|link| link.may_be_allowed) {
                allowed.insert(step);
            }
            all.insert(step, links);
        }
        Self { running, links: all }
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

/// How much of what an edge leads to is to run.
#[derive(Debug, Clone, Copy)]
struct Open {
    some: bool,
    all: bool,
}

fn open(plan: &Plan, group: GroupIx, ends: &dyn Fn(InstanceIx) -> bool) -> Open {
    let group = plan.graph.group(group);
    let placeholder = plan.graph.placeholder(group.step).filter(|_| group.open);
    let mut members = placeholder.into_iter().chain(group.members.iter().copied());
    let some = members.clone().any(|member| !ends(member));
    // What is not known yet may turn out to be nothing, which is gathered like anything else.
    Open { some, all: some && !group.open && members.all(|member| !ends(member)) }
}

fn links(
    plan: &Plan,
    step: StepIx,
    running: &BTreeMap<StepIx, Running>,
    leads: &mut dyn FnMut(Dep) -> Open,
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
                    Some(rows.iter().map(|row| leads(dep(row))).collect::<Vec<Open>>())
                }
            };
            if of_rows.as_ref().is_some_and(|rows| !rows.iter().any(|row| row.some)) {
                continue;
            }
            let whole = is_whole(producer);
            links.push(Link {
                producer,
                need: need.need,
                on_all: edge.is_whole(),
                by_all: of_rows.as_ref().map_or(whole, |rows| rows.iter().all(|row| row.some)),
                all_is_open: need.edges.len() == 1 && of_rows.is_some_and(|rows| rows.iter().all(|row| row.all)),
                may_be_allowed: false,
            });
        }
    }
    if running[&step] == Running::Dynamic {
        let sources = matrix::sources(&plan.workflow, step).filter(|from| running.contains_key(&from.step));
        links.extend(sources.map(|from| {
            let on_all = plan.graph.axes(from.step).is_empty();
            let by_all = is_whole(from.step);
            let (producer, need) = (from.step, Need::One);
            Link { producer, need, on_all, by_all, all_is_open: by_all, may_be_allowed: false }
        }));
    }
    links
}
