//! What one pod runs of a plan.

use super::Report;
use crate::graph::{Dep, Graph, InstanceIx};
use crate::plan::Plan;
use crate::workflow::StepIx;

/// The instances that one pod runs. All others are run elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Of these steps, in order.
    pub steps: Vec<StepIx>,
    /// Which of each step's.
    pub rows: SharedRows,
}

/// Places among the instances of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedRows {
    /// These, ascending.
    Known(Vec<u32>),
    /// The first, and then every one so many places further: of instances that are not known yet.
    Every {
        /// The first.
        first: u32,
        /// How far to the next; `None`: there is none.
        stride: Option<u32>,
    },
}

impl Share {
    /// Whether an instance is in it. Placeholders of its steps are.
    pub fn has(&self, graph: &Graph, ix: InstanceIx) -> bool {
        self.steps.contains(&graph.step(ix)) && (graph.is_placeholder(ix) || self.rows.has(graph.row(ix)))
    }

    /// Its instances and placeholders that are known by now, step by step.
    pub fn instances(&self, graph: &Graph) -> Vec<InstanceIx> {
        let of = |step: &StepIx| graph.placeholder(*step).into_iter().chain(graph.instances_of(*step));
        self.steps.iter().flat_map(of).filter(|ix| self.has(graph, *ix)).collect()
    }

    /// Whether its steps are those that run after all others.
    pub fn is_finally(&self, plan: &Plan) -> bool {
        self.steps.iter().any(|step| plan.step(*step).finally)
    }

    /// Its instances and all that they depend on, as far as they are known by now; for steps that run after all others, all.
    /// What becomes of these must be known for it, and for what its unit reports.
    pub fn needed(&self, plan: &Plan, reports: &[Report]) -> Vec<InstanceIx> {
        let graph = &plan.graph;
        if self.is_finally(plan) {
            let members = |step: StepIx| graph.placeholder(step).into_iter().chain(graph.instances_of(step));
            let own = |ix: &InstanceIx| !plan.step(graph.step(*ix)).finally || self.has(graph, *ix);
            return plan.needed().flat_map(members).filter(own).collect();
        }
        let mut found = self.instances(graph);
        found.extend(counted(graph, reports));
        let mut seen = vec![false; graph.len()];
        found.iter().for_each(|ix| seen[ix.0 as usize] = true);
        let mut next = 0;
        while let Some(&ix) = found.get(next) {
            next += 1;
            for ix in graph.deps(ix).iter().flat_map(|dep| behind(graph, *dep)) {
                if !std::mem::replace(&mut seen[ix.0 as usize], true) {
                    found.push(ix);
                }
            }
        }
        found
    }

    /// Whether nothing is left to be done by who has it: its instances have ended, and those that its unit counts are known.
    pub fn is_done(&self, graph: &Graph, reports: &[Report], ended: impl Fn(InstanceIx) -> bool) -> bool {
        self.instances(graph).into_iter().chain(counted(graph, reports)).all(ended)
    }
}

/// The placeholders of steps whose instances a unit is to count.
fn counted(graph: &Graph, reports: &[Report]) -> Vec<InstanceIx> {
    let of = |report: &Report| match report {
        Report::Pods { of } => graph.placeholder(*of),
        Report::Made | Report::Condition { .. } => None,
    };
    reports.iter().filter_map(of).collect()
}

/// The instances behind an edge; for those not known yet their placeholder.
fn behind(graph: &Graph, dep: Dep) -> Vec<InstanceIx> {
    match dep {
        Dep::None => Vec::new(),
        Dep::Instance(ix) => vec![ix],
        Dep::Group(group) => {
            let group = graph.group(group);
            let open = graph.placeholder(group.step).filter(|_| group.open);
            group.members.iter().copied().chain(open).collect()
        }
    }
}

impl SharedRows {
    fn has(&self, row: u32) -> bool {
        match self {
            Self::Known(rows) => rows.binary_search(&row).is_ok(),
            Self::Every { first, stride: None } => row == *first,
            Self::Every { first, stride: Some(stride) } => row >= *first && (row - first).is_multiple_of(*stride),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_take_turns_at_what_is_not_known_yet() {
        let of = |first, stride| {
            let rows = SharedRows::Every { first, stride };
            (0..8).filter(|row| rows.has(*row)).collect::<Vec<u32>>()
        };
        assert_eq!((of(0, Some(3)), of(2, Some(3)), of(5, None)), (vec![0, 3, 6], vec![2, 5], vec![5]));
    }
}
