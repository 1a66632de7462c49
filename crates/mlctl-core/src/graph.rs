//! The graph of a run: instances, what each depends on, and how it grows.
//!
//! Everything is a dense index. A reference that gathers does not become an edge per member: its members form one
//! [`Group`], shared by all that gather the same, so 1,000 consumers of 1,000 members are 2,000 links. A step whose
//! instances are not known yet is held by a *placeholder*: an instance named like the step, which depends on the
//! sources of the step's axes. It dissolves when the step expands, or ends like any other instance when it cannot.

use std::collections::HashMap;

use crate::value::Value;
use crate::workflow::StepIx;

mod grow;
pub(crate) mod id;
mod links;
mod values;

pub use id::{encode, instance_id};
pub use links::Links;
pub use values::{TextIx, ValueIx, Values};

/// Index of an instance in its [`Graph`]. Placeholders have one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceIx(pub u32);

/// Index of a [`Group`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupIx(pub u32);

/// What one edge of an instance leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dep {
    /// One instance.
    Instance(InstanceIx),
    /// Several, or some that are not known yet.
    Group(GroupIx),
    /// No instance matches.
    None,
}

/// The instances that one reference gathers, in matrix order.
#[derive(Debug, Clone)]
pub struct Group {
    /// Their step.
    pub step: StepIx,
    /// Those known.
    pub members: Vec<InstanceIx>,
    /// Whether more may come: the step has not expanded yet.
    pub open: bool,
}

/// A reference from a step to another, with the axes that select the producer's instances.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The step referred to.
    pub producer: StepIx,
    /// Which of the producer's projections.
    projection: u32,
    /// The projection's key.
    key: Vec<KeyPart>,
}

impl Edge {
    /// Whether it leads to all of the producer's instances, whichever of the consumer's it starts from.
    pub fn is_whole(&self) -> bool {
        self.key.is_empty()
    }
}

/// Where one part of a projection's key comes from.
#[derive(Debug, Clone, Copy)]
enum KeyPart {
    /// The consumer's value on this axis.
    Axis(usize),
    /// A pick.
    Fixed(TextIx),
}

/// A producer's instances, indexed by some of its axes.
#[derive(Debug, Clone)]
struct Projection {
    /// Positions of the axes, ascending.
    axes: Vec<usize>,
    /// By the texts of the values on those axes.
    index: HashMap<Box<[TextIx]>, Dep>,
}

/// Which instances a step has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// None: the targets do not need the step.
    Absent,
    /// Known when the placeholder dissolves.
    Unknown(InstanceIx),
    /// These: from `first` on.
    Known {
        /// The first.
        first: InstanceIx,
        /// How many.
        len: u32,
    },
    /// It never expanded: the placeholder stands for the whole step.
    StoodIn(InstanceIx),
}

#[derive(Debug, Clone)]
struct StepNode {
    name: Box<str>,
    axes: Vec<Box<str>>,
    members: Members,
    /// Values of the known members, a row each.
    coords: Vec<ValueIx>,
    edges: Vec<Edge>,
    /// What the members depend on, a row each.
    deps: Vec<Dep>,
    /// What the placeholder depends on.
    sources: Vec<Dep>,
    projections: Vec<Projection>,
}

/// The instances of a run and their dependencies.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The values on the axes.
    pub values: Values,
    steps: Vec<StepNode>,
    /// The step of each instance, and its row there; [`PLACEHOLDER`] for a placeholder.
    instances: Vec<(StepIx, u32)>,
    groups: Vec<Group>,
    dependents: Links,
    grouped: Links,
    waiting: Links,
}

const PLACEHOLDER: u32 = u32::MAX;

impl Graph {
    /// A graph of steps without instances, in the order of their [`StepIx`].
    pub fn new(values: Values, steps: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let node = |(name, axes): (String, Vec<String>)| StepNode {
            name: name.into(),
            axes: axes.into_iter().map(Into::into).collect(),
            members: Members::Absent,
            coords: Vec::new(),
            edges: Vec::new(),
            deps: Vec::new(),
            sources: Vec::new(),
            projections: Vec::new(),
        };
        Self { values, steps: steps.into_iter().map(node).collect(), ..Self::default() }
    }

    /// How many instances and placeholders there are: their indices are dense.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// A group.
    pub fn group(&self, group: GroupIx) -> &Group {
        &self.groups[group.0 as usize]
    }

    /// The step of an instance.
    pub fn step(&self, instance: InstanceIx) -> StepIx {
        self.instances[instance.0 as usize].0
    }

    /// Whether it holds the place of instances that are not known.
    pub fn is_placeholder(&self, instance: InstanceIx) -> bool {
        self.instances[instance.0 as usize].1 == PLACEHOLDER
    }

    /// The place of an instance among its step's; 0 for a placeholder.
    pub fn row(&self, instance: InstanceIx) -> u32 {
        let row = self.instances[instance.0 as usize].1;
        if row == PLACEHOLDER { 0 } else { row }
    }

    /// Which instances a step has.
    pub fn members(&self, step: StepIx) -> Members {
        self.steps[step.0 as usize].members
    }

    /// The known instances of a step, its placeholder left out.
    pub fn instances_of(&self, step: StepIx) -> impl DoubleEndedIterator<Item = InstanceIx> + use<> {
        let (first, len) = match self.members(step) {
            Members::Known { first, len } => (first.0, len),
            _ => (0, 0),
        };
        (first..first + len).map(InstanceIx)
    }

    /// The names of a step's axes.
    pub fn axes(&self, step: StepIx) -> &[Box<str>] {
        &self.steps[step.0 as usize].axes
    }

    /// The instance that stands for all of a step's as long as they are not known, or in the end.
    pub fn placeholder(&self, step: StepIx) -> Option<InstanceIx> {
        match self.members(step) {
            Members::Unknown(placeholder) | Members::StoodIn(placeholder) => Some(placeholder),
            Members::Known { .. } | Members::Absent => None,
        }
    }

    /// The values of an instance on its step's axes; none for a placeholder.
    pub fn coords(&self, instance: InstanceIx) -> &[ValueIx] {
        let (step, row) = self.instances[instance.0 as usize];
        let node = &self.steps[step.0 as usize];
        if row == PLACEHOLDER {
            return &[];
        }
        let width = node.axes.len();
        &node.coords[row as usize * width..][..width]
    }

    /// The axes of an instance with their values.
    pub fn matrix(&self, instance: InstanceIx) -> impl Iterator<Item = (&str, &Value)> {
        let axes = self.axes(self.step(instance)).iter().map(AsRef::as_ref);
        axes.zip(self.coords(instance).iter().map(|&value| self.values.value(value)))
    }

    /// The id people see.
    pub fn id(&self, instance: InstanceIx) -> String {
        let step = self.step(instance);
        let texts = self.coords(instance).iter().map(|&value| self.values.text(self.values.text_ix(value)));
        id::join(&self.steps[step.0 as usize].name, self.axes(step).iter().map(AsRef::as_ref).zip(texts))
    }

    /// The name of a step.
    pub fn step_name(&self, step: StepIx) -> &str {
        &self.steps[step.0 as usize].name
    }

    /// What an instance depends on: one for each of its step's edges, in order.
    pub fn deps(&self, instance: InstanceIx) -> &[Dep] {
        let (step, row) = self.instances[instance.0 as usize];
        let node = &self.steps[step.0 as usize];
        if row == PLACEHOLDER {
            return &node.sources;
        }
        let width = node.edges.len();
        &node.deps[row as usize * width..][..width]
    }

    /// The instances that wait for this one.
    pub fn dependents(&self, instance: InstanceIx) -> impl Iterator<Item = InstanceIx> {
        self.dependents.of(instance.0).map(InstanceIx)
    }

    /// The groups that this instance is in.
    pub fn groups_of(&self, instance: InstanceIx) -> impl Iterator<Item = GroupIx> {
        self.grouped.of(instance.0).map(GroupIx)
    }

    /// The instances that wait for a group.
    pub fn waiting_for(&self, group: GroupIx) -> impl Iterator<Item = InstanceIx> {
        self.waiting.of(group.0).map(InstanceIx)
    }

    /// A step's edges.
    pub fn edges(&self, step: StepIx) -> &[Edge] {
        &self.steps[step.0 as usize].edges
    }
}
