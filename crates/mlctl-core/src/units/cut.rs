//! Which steps are one unit.

use std::collections::{BTreeMap, BTreeSet};

use super::needs::{Needs, Running};
use super::{Cutting, Rows, Unit, UnitIx};
use crate::gate::Need;
use crate::graph::{Dep, InstanceIx, Members};
use crate::plan::Plan;
use crate::workflow::StepIx;

/// The units, without their order, and the unit of each step.
pub(super) fn cut(plan: &Plan, cutting: &Cutting, needs: &Needs) -> (Vec<Unit>, BTreeMap<StepIx, UnitIx>) {
    let mut consumers: BTreeMap<StepIx, BTreeSet<StepIx>> = BTreeMap::new();
    for step in plan.needed().filter(|step| !plan.step(*step).finally) {
        for producer in needs.producers(step) {
            consumers.entry(producer).or_default().insert(step);
        }
    }
    let mut units: Vec<Unit> = Vec::new();
    let mut of_step: BTreeMap<StepIx, UnitIx> = BTreeMap::new();
    for step in plan.needed() {
        let Some(running) = needs.running(step) else { continue };
        let before = needs.producers(step).into_iter().next().filter(|before| {
            cutting.chains && consumers.get(before).is_some_and(|all| all.len() == 1 && all.contains(&step))
        });
        let before = before.filter(|before| is_link(plan, cutting, needs, *before, step));
        if let (Some(&unit), Running::Rows(more)) = (before.and_then(|before| of_step.get(&before)), running)
            && let chain = &mut units[unit.0 as usize]
            && let Rows::Known { rows, .. } = &chain.rows
        {
            let all: BTreeSet<u32> = rows.iter().chain(more).copied().collect();
            chain.rows = dealt(all.into_iter().collect(), cutting);
            chain.steps.push(step);
            of_step.insert(step, unit);
            continue;
        }
        of_step.insert(step, UnitIx(u32::try_from(units.len()).unwrap_or(u32::MAX)));
        units.push(Unit {
            steps: vec![step],
            rows: match running {
                Running::Rows(rows) => dealt(rows.clone(), cutting),
                Running::Dynamic => Rows::Dynamic { count: None },
            },
            after: Vec::new(),
            when: None,
            reports: Vec::new(),
            finally: plan.step(step).finally,
        });
    }
    (units, of_step)
}

fn dealt(rows: Vec<u32>, cutting: &Cutting) -> Rows {
    let all = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    Rows::Known { rows, pods: if cutting.workers { all.min(cutting.pods) } else { all } }
}

/// Whether a step can run where the only step that it needs ran, instance by instance.
fn is_link(plan: &Plan, cutting: &Cutting, needs: &Needs, before: StepIx, step: StepIx) -> bool {
    let links = needs.links(step);
    let (one, two) = (plan.step(before), plan.step(step));
    let secrets = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
    let is_linear = links.iter().all(|link| link.producer == before && !matches!(link.need, Need::Gather { .. }));
    is_linear
        && !two.finally
        && one.environment == two.environment
        && plan.steps[before.0 as usize].resources == plan.steps[step.0 as usize].resources
        && cutting.places.get(&one.name) == cutting.places.get(&two.name)
        && secrets(&one.secrets) == secrets(&two.secrets)
        && is_one_to_one(plan, before, step)
}

/// Whether each instance needs the one at its place and no other.
fn is_one_to_one(plan: &Plan, before: StepIx, step: StepIx) -> bool {
    let graph = &plan.graph;
    let (Members::Known { first, len }, Members::Known { first: own, len: own_len }) =
        (graph.members(before), graph.members(step))
    else {
        return false;
    };
    let edges: Vec<usize> =
        (0..).zip(graph.edges(step)).filter(|(_, edge)| edge.producer == before).map(|(ix, _)| ix).collect();
    len == own_len
        && graph.axes(before) == graph.axes(step)
        && (0..len).all(|row| {
            let (one, two) = (InstanceIx(first.0 + row), InstanceIx(own.0 + row));
            let deps = graph.deps(two);
            graph.coords(one) == graph.coords(two) && edges.iter().all(|&edge| deps[edge] == Dep::Instance(one))
        })
}
