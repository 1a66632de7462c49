//! What must be known of a run for a unit of it.

use mlctl_core::graph::{Dep, Graph, InstanceIx};
use mlctl_core::plan::Plan;
use mlctl_core::units::{Report, Share};
use mlctl_core::workflow::StepIx;

/// The instances of a unit and all that they depend on, as far as they are known by now; for steps that run after all
/// others, all. Placeholders are among them.
pub(super) fn needed(plan: &Plan, share: &Share, reports: &[Report]) -> Vec<InstanceIx> {
    let graph = &plan.graph;
    let members = |step: StepIx| graph.placeholder(step).into_iter().chain(graph.instances_of(step));
    if share.steps.iter().any(|step| plan.step(*step).finally) {
        let own = |ix: &InstanceIx| !plan.step(graph.step(*ix)).finally || share.has(graph, *ix);
        return plan.needed().flat_map(members).filter(own).collect();
    }
    let mut found = share.instances(graph);
    found.extend(counted(graph, reports));
    let mut seen = vec![false; graph.len()];
    found.iter().for_each(|ix| seen[ix.0 as usize] = true);
    let mut next = 0;
    while let Some(&ix) = found.get(next) {
        next += 1;
        for dep in graph.deps(ix) {
            for ix in behind(graph, *dep) {
                if !std::mem::replace(&mut seen[ix.0 as usize], true) {
                    found.push(ix);
                }
            }
        }
    }
    found
}

/// The placeholders of steps whose instances a unit is to count.
pub(super) fn counted(graph: &Graph, reports: &[Report]) -> Vec<InstanceIx> {
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
