//! What a forecast takes for granted.

use super::{Command, Scheduler, State};
use crate::gate::{Decision, Need};
use crate::graph::{Dep, InstanceIx};

impl Scheduler {
    /// Lets instances that wait only for their turn have it, as if what they `needs` had succeeded: order decides
    /// nothing else. Gives whether there were any.
    pub(crate) fn assume_order(&mut self, out: &mut Vec<Command>) -> bool {
        let all = (0..self.nodes.len()).filter_map(|ix| u32::try_from(ix).ok()).map(InstanceIx);
        let waiting: Vec<InstanceIx> = all.filter(|&ix| self.waits_for_order(ix)).collect();
        for &ix in &waiting {
            match self.gate(ix) {
                Ok(Decision::Run) => self.prepare(ix, out),
                Ok(decision) => {
                    if let Some((status, cause)) = self.ending(ix, decision) {
                        self.finish(ix, status, cause, None, out);
                    }
                }
                Err(_) => {}
            }
        }
        self.settle(out);
        waiting.iter().any(|&ix| self.node(ix).state != State::Waiting)
    }

    /// Whether an instance waits for what it `needs` and for nothing else.
    fn waits_for_order(&self, ix: InstanceIx) -> bool {
        let step = self.step_of(ix);
        if self.node(ix).state != State::Waiting || step.needs.is_empty() || step.finally {
            return false;
        }
        let graph = &self.plan.graph;
        let deps = graph.deps(ix);
        let has_ended = |dep: &Dep| match *dep {
            Dep::None => true,
            Dep::Instance(on) => matches!(self.node(on).state, State::Finished(_)),
            Dep::Group(group) => self.groups[group.0 as usize].pending == 0,
        };
        let needs = &self.plan.steps[graph.step(ix).0 as usize].needs;
        let mut others = needs.iter().filter(|need| need.need != Need::Order);
        !graph.is_placeholder(ix) && others.all(|need| deps[need.edges.clone()].iter().all(has_ended))
    }
}
