//! A plan as JSON: what `mlctl plan -o json` and the record of a run hold.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use super::Plan;
use crate::graph::{InstanceIx, Members};
use crate::workflow::StepIx;

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut plan = serializer.serialize_struct("Plan", 4)?;
        plan.serialize_field("contract", &crate::action::CONTRACT)?;
        plan.serialize_field("project", &self.workflow.name)?;
        plan.serialize_field("params", &self.params)?;
        plan.serialize_field("steps", &Steps(self))?;
        plan.end()
    }
}

struct Steps<'a>(&'a Plan);

impl Serialize for Steps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.needed().map(|step| PlannedStep(self.0, step)))
    }
}

struct PlannedStep<'a>(&'a Plan, StepIx);

impl Serialize for PlannedStep<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(plan, ix) = *self;
        let (step, planned) = (plan.step(ix), &plan.steps[ix.0 as usize]);
        let mut after: Vec<&str> =
            plan.graph.edges(ix).iter().map(|edge| plan.step(edge.producer).name.as_str()).collect();
        after.extend(super::matrix::sources(&plan.workflow, ix).map(|from| plan.step(from.step).name.as_str()));
        after.sort_unstable();
        after.dedup();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &step.name)?;
        map.serialize_entry("after", &after)?;
        map.serialize_entry("environment", &step.environment)?;
        map.serialize_entry("resources", &planned.resources)?;
        map.serialize_entry("finally", &step.finally)?;
        // Known only when the sources of its axes are done.
        map.serialize_entry("dynamic", &matches!(plan.graph.members(ix), Members::Unknown(_)))?;
        map.serialize_entry("instances", &Instances(plan, ix))?;
        map.end()
    }
}

struct Instances<'a>(&'a Plan, StepIx);

impl Serialize for Instances<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut instances = serializer.serialize_seq(None)?;
        for instance in self.0.graph.instances_of(self.1) {
            instances.serialize_element(&Instance(self.0, instance))?;
        }
        instances.end()
    }
}

struct Instance<'a>(&'a Plan, InstanceIx);

impl Serialize for Instance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(plan, instance) = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &plan.graph.id(instance))?;
        map.serialize_entry("matrix", &Matrix(plan, instance))?;
        if let Some(when) = plan.folded_when(instance) {
            map.serialize_entry("when", &when)?;
        }
        map.end()
    }
}

struct Matrix<'a>(&'a Plan, InstanceIx);

impl Serialize for Matrix<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.graph.matrix(self.1))
    }
}
