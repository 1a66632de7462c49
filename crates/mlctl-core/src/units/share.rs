//! What one pod runs of a plan.

use crate::graph::{Graph, InstanceIx};
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
