//! The plan: what a run will do, as far as it is known before anything has run.
//!
//! A pure function of workflow, params and request: the same bytes on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::condition;
use crate::diag::{Diag, Span};
use crate::gate::Need;
use crate::graph::{Graph, InstanceIx, ValueIx};
use crate::template::{Piece, Template};
use crate::value::Value;
use crate::workflow::{Expr, InputFrom, Resources, Step, StepIx, Workflow};

mod build;
mod check;
mod declared;
mod json;
pub mod matrix;
mod select;

pub use declared::Declared;
pub use select::{Filter, Filters, Wanted};

/// What is asked of a workflow.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Names of steps or ids of instances; empty: the workflow's default.
    pub targets: Vec<String>,
    /// Names of steps or ids of instances whose results are not reused but replaced.
    pub force: Vec<String>,
    /// What the context says of steps' resources, by name: merged per key over the steps' own.
    pub resources: BTreeMap<String, Resources>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// No step and no instance has this name.
    UnknownTarget {
        /// What was asked for.
        target: String,
    },
    /// The workflow cannot be planned with these params.
    Workflow(Vec<Diag>),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTarget { target } => write!(f, "there is no step or instance `{target}`"),
            Self::Workflow(diags) => {
                let messages: Vec<&str> = diags.iter().map(|diag| diag.message.as_str()).collect();
                f.write_str(&messages.join("; "))
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// What a run will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was made from.
    pub workflow: Arc<Workflow>,
    /// All params, bound.
    pub params: BTreeMap<String, Value>,
    /// The instances known.
    pub graph: Graph,
    /// What is planned of each step, by [`StepIx`].
    pub steps: Vec<StepPlan>,
}

/// What is planned of a step.
#[derive(Debug, Clone, Default)]
pub struct StepPlan {
    /// Which of its instances are made.
    pub wanted: Wanted,
    /// The instances that targets name though they are not known yet: they must come to be.
    pub named: Vec<Filter>,
    /// Which of its instances replace their results rather than reuse them.
    pub forced: Wanted,
    /// What it asks for.
    pub resources: Resources,
    /// Its place in [`Workflow::order`].
    pub rank: u32,
    /// What its instances depend on, in the order in which reasons are given.
    pub needs: Vec<StepNeed>,
}

/// One thing that a step's instances depend on, with its edges in the graph.
#[derive(Debug, Clone)]
pub struct StepNeed {
    /// In which way.
    pub need: Need,
    /// What asks for it.
    pub origin: Origin,
    /// Its edges.
    pub edges: Range<usize>,
}

/// What in a step asks for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The input at this index.
    Input(usize),
    /// The reference at this index of `when`.
    When(usize),
    /// The step at this index of `needs`.
    Needs(usize),
}

/// Plans a workflow with all its params bound.
pub fn plan(workflow: Arc<Workflow>, params: BTreeMap<String, Value>, request: &Request) -> Result<Plan, PlanError> {
    build::build(workflow, params, request)
}

impl Plan {
    /// A step.
    pub fn step(&self, step: StepIx) -> &Step {
        &self.workflow.steps[step.0 as usize]
    }

    /// The step with this name.
    pub fn find(&self, name: &str) -> Option<StepIx> {
        let place = self.workflow.steps.iter().position(|step| step.name == name)?;
        u32::try_from(place).ok().map(StepIx)
    }

    /// Whether an instance replaces its result rather than reuse it.
    pub fn forces(&self, ix: InstanceIx) -> bool {
        let step = self.graph.step(ix);
        match &self.steps[step.0 as usize].forced {
            Wanted::No => false,
            Wanted::All => true,
            some => {
                let (name, axes) = (self.graph.step_name(step), self.graph.axes(step));
                !self.graph.is_placeholder(ix) && some.matches(name, axes, self.graph.coords(ix), &self.graph.values)
            }
        }
    }

    /// The steps of which instances are or may be made, in plan order.
    pub fn needed(&self) -> impl Iterator<Item = StepIx> {
        self.workflow.order.iter().copied().filter(|step| self.steps[step.0 as usize].wanted.any())
    }

    /// The instances known, in plan order; placeholders left out.
    pub fn instances(&self) -> impl Iterator<Item = InstanceIx> {
        self.needed().flat_map(|step| self.graph.instances_of(step))
    }

    /// The environments that the steps run in, by name.
    pub fn environments(&self) -> BTreeSet<&str> {
        self.needed().filter_map(|step| self.step(step).environment.as_deref()).collect()
    }

    /// The project's files and directories that are inputs of known instances: each path once for a step, with the
    /// place that names it.
    pub fn project_paths(&self) -> Vec<(String, StepIx, Span)> {
        let mut paths = Vec::new();
        for step in self.needed() {
            for input in &self.step(step).inputs {
                let InputFrom::Project { path } = &input.from else { continue };
                let mut add = |path: String| paths.push((path, step, input.span));
                if path.0.iter().any(|piece| matches!(piece, Piece::Matrix(_))) {
                    let mut seen = BTreeSet::new();
                    let coords = self.graph.instances_of(step).map(|instance| self.graph.coords(instance));
                    let rendered = coords.map(|coords| self.render(step, path, coords));
                    rendered.filter(|path| seen.insert(path.clone())).for_each(&mut add);
                } else {
                    add(self.render(step, path, &[]));
                }
            }
        }
        paths
    }

    /// The downloads that are inputs, each once for a step: address, SHA-256 where the spec has it, and the place.
    pub fn urls(&self) -> Vec<(&str, Option<&str>, StepIx, Span)> {
        let of = |step: StepIx| {
            self.step(step).inputs.iter().filter_map(move |input| match &input.from {
                InputFrom::Url { url, sha256 } => Some((url.as_str(), sha256.as_deref(), step, input.span)),
                _ => None,
            })
        };
        self.needed().flat_map(of).collect()
    }

    /// A template's text with params and matrix values put in: input paths hold nothing else.
    pub fn render(&self, step: StepIx, template: &Template, coords: &[ValueIx]) -> String {
        let mut text = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Param(name) => {
                    text.extend(self.params.get(name).map(Value::to_string));
                }
                Piece::Matrix(name) => {
                    let axis = self.graph.axes(step).iter().position(|axis| **axis == **name);
                    let value = axis.and_then(|axis| coords.get(axis));
                    text.extend(value.map(|&value| self.graph.values.value(value).to_string()));
                }
                Piece::Input(_) | Piece::Output(_) | Piece::RunId | Piece::RunStatus => {}
            }
        }
        text
    }

    /// What an instance's `when` comes to with params and matrix values alone; `None`: there is none, or it turns on
    /// what other steps make.
    pub fn folded_when(&self, instance: InstanceIx) -> Option<bool> {
        let when = self.step(self.graph.step(instance)).when.as_ref()?;
        match condition::fold(&when.expr, &|name| self.constant(instance, name)) {
            Ok(Expr::Literal(Value::Bool(holds))) => Some(holds),
            _ => None,
        }
    }

    /// The value of a param or an axis in an instance's `when`.
    pub(crate) fn constant(&self, instance: InstanceIx, name: &Expr) -> Option<Value> {
        match name {
            Expr::Param(name) => self.params.get(name).cloned(),
            Expr::Matrix(name) => self.graph.matrix(instance).find(|(axis, _)| axis == name).map(|(_, v)| v.clone()),
            _ => None,
        }
    }

    /// The edges that one thing in a step asks for.
    pub(crate) fn edges_of(&self, step: StepIx, origin: Origin) -> Range<usize> {
        let needs = &self.steps[step.0 as usize].needs;
        needs.iter().find(|need| need.origin == origin).map_or(0..0, |need| need.edges.clone())
    }
}
