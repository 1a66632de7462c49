//! Units: what one pod of a cluster runs, worked through there by the same scheduler as on a laptop.
//!
//! A cluster's engine is given units, the order between them, booleans and counts, and nothing else of a workflow. What
//! becomes of an instance is always decided by the gate, in a pod; an engine only keeps pods from starting that would
//! have nothing to do. So where it cannot be told outside a pod whether there is something to do, one starts.
//!
//! - One instance is a unit, and so is a linear **chain** of steps that need the same: an engine takes seconds from one
//!   pod to the next, whatever runs in them.
//! - The instances of a **fan-out** are dealt to so many pods, every n-th to each, which take one after the other.
//! - What a step needs that is done already is in no unit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::context::ContextLayer;
use crate::graph::InstanceIx;
use crate::plan::Plan;
use crate::workflow::{Expr, StepIx};

mod cut;
mod needs;
mod reports;
mod share;
mod told;

pub use share::{Share, SharedRows};

/// How many pods a fan-out has at most, where the context does not say.
pub const PODS: u32 = 64;

/// Index of a unit in [`units`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitIx(pub u32);

/// How a plan is cut into units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cutting {
    /// The most pods of a fan-out.
    pub pods: u32,
    /// Whether they take turns at its instances; else each instance has a pod of its own.
    pub workers: bool,
    /// Whether a linear chain is one unit.
    pub chains: bool,
    /// Where steps are placed, by name, as a text that is the same for the same place; absent: anywhere.
    pub places: BTreeMap<String, String>,
}

impl Cutting {
    /// What a context says of it.
    pub fn of(context: &ContextLayer) -> Self {
        let place = |step: &crate::context::StepPlacement| {
            serde_json::json!([step.node_selector, step.tolerations]).to_string()
        };
        let placed =
            context.steps.iter().filter(|(_, step)| !step.node_selector.is_empty() || !step.tolerations.is_empty());
        Self {
            pods: context.pods.unwrap_or(PODS),
            workers: context.workers.unwrap_or(true),
            chains: context.chains.unwrap_or(true),
            places: placed.map(|(name, step)| (name.clone(), place(step))).collect(),
        }
    }
}

/// What a pod runs, or each pod of a fan-out.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Its steps, in order: with more than one it is a chain.
    pub steps: Vec<StepIx>,
    /// Which of their instances.
    pub rows: Rows,
    /// The units that it waits for, in order; of a `finally` step none, since it waits for all.
    pub after: Vec<After>,
    /// What must hold of what those report for it to start at all; `None`: it starts, and decides itself.
    pub when: Option<Holds>,
    /// What it reports for others.
    pub reports: Vec<Report>,
    /// Whether it is started after all others have ended, however they did.
    pub finally: bool,
}

/// The instances of a unit's steps: the same of each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// These, by their places among the step's instances.
    Known {
        /// The places, ascending.
        rows: Vec<u32>,
        /// How many pods they are dealt to.
        pods: u32,
    },
    /// All, which are known only when the sources of the step's axes are done.
    Dynamic {
        /// The unit that reports how many pods there are to be, and the place among its reports; `None`: nobody can.
        count: Option<(UnitIx, usize)>,
    },
}

/// A unit that another waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// It.
    pub unit: UnitIx,
    /// Whether there may be something to do though one of its instances failed.
    pub though_failed: bool,
    /// Whether there may be something to do though it was not started.
    pub though_not_started: bool,
}

/// What a unit reports about what it made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "report")]
pub enum Report {
    /// Whether its last step made anything, rather than being skipped.
    Made,
    /// Whether a part of another step's `when` holds, as far as it depends on this unit's values.
    Condition {
        /// The other step.
        of: StepIx,
        /// The part; its [`Expr::Output`] index the references of that `when`.
        part: Expr,
    },
    /// How many pods the fan-out of another step is to have.
    Pods {
        /// The other step.
        of: StepIx,
    },
}

/// A combination of what units report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// A boolean that a unit reports: the place among its reports.
    Report(UnitIx, usize),
    /// Not this.
    Not(Box<Self>),
    /// Both.
    And(Box<Self>, Box<Self>),
    /// One of them.
    Or(Box<Self>, Box<Self>),
}

impl Unit {
    /// Whether it is one pod, known beforehand: only such a unit reports anything.
    pub fn is_single(&self) -> bool {
        matches!(&self.rows, Rows::Known { rows, .. } if rows.len() == 1)
    }

    /// The unit's first step, by which it is known: no other unit has it.
    pub fn first(&self) -> StepIx {
        self.steps[0]
    }

    /// The unit's last step: what others need is made by it.
    pub fn last(&self) -> StepIx {
        self.steps[self.steps.len() - 1]
    }

    fn report(&mut self, report: Report) -> usize {
        if let Some(known) = self.reports.iter().position(|known| *known == report) {
            return known;
        }
        self.reports.push(report);
        self.reports.len() - 1
    }
}

/// Cuts a plan into units, each after those that it waits for. `ends` tells of an instance, or of a placeholder, that
/// nothing is to run for it: it is done, or decided.
pub fn units(plan: &Plan, cutting: &Cutting, ends: &dyn Fn(InstanceIx) -> bool) -> Vec<Unit> {
    let needs = needs::Needs::of(plan, ends);
    let (mut units, of_step) = cut::cut(plan, cutting, &needs);
    for ix in (0..units.len()).filter(|ix| !units[*ix].finally).collect::<Vec<_>>() {
        units[ix].after = after(plan, &units, &of_step, &needs, ix);
    }
    reports::add(plan, &mut units, &of_step, &needs);
    units
}

/// What a unit waits for.
fn after(
    plan: &Plan,
    units: &[Unit],
    of_step: &BTreeMap<StepIx, UnitIx>,
    needs: &needs::Needs,
    ix: usize,
) -> Vec<After> {
    let mut after: BTreeMap<UnitIx, After> = BTreeMap::new();
    for link in units[ix].steps.iter().flat_map(|step| needs.links(*step)) {
        let Some(&unit) = of_step.get(&link.producer).filter(|unit| unit.0 as usize != ix) else { continue };
        let producer = &units[unit.0 as usize];
        let is_allowed = producer.steps.iter().any(|step| plan.step(*step).allow_failure);
        let though_failed = link.goes_on_though_failed(producer.is_single(), is_allowed);
        let this = After { unit, though_failed, though_not_started: link.goes_on_though_not_started() };
        // What keeps all of a unit from running is enough.
        let all = after.entry(unit).or_insert(this);
        all.though_failed &= this.though_failed;
        all.though_not_started &= this.though_not_started;
    }
    after.into_values().collect()
}
