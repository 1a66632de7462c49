//! What units report for others: whether and how often those start.

use std::collections::BTreeMap;

use super::needs::{Needs, Running};
use super::{Holds, Report, Rows, Unit, UnitIx};
use crate::condition;
use crate::gate::Need;
use crate::graph::{Dep, InstanceIx};
use crate::plan::{Origin, Plan, matrix};
use crate::workflow::{Expr, StepIx};

/// Adds what units report, and what starts by it.
pub(super) fn add(plan: &Plan, units: &mut [Unit], of_step: &BTreeMap<StepIx, UnitIx>, needs: &Needs) {
    for ix in 0..units.len() {
        if units[ix].finally {
            continue;
        }
        if matches!(units[ix].rows, Rows::Dynamic { .. }) {
            let count = count(plan, units, of_step, units[ix].first());
            units[ix].rows = Rows::Dynamic { count };
        }
        let own = when(plan, units, of_step, needs, units[ix].first());
        let made = made(plan, units, needs, ix);
        units[ix].when = made.into_iter().chain(own).reduce(|all, one| Holds::And(Box::new(all), Box::new(one)));
    }
}

/// Who can tell how many pods a fan-out is to have: the unit that makes the one source of its axes.
fn count(plan: &Plan, units: &mut [Unit], of_step: &BTreeMap<StepIx, UnitIx>, of: StepIx) -> Option<(UnitIx, usize)> {
    let mut sources = matrix::sources(&plan.workflow, of).map(|from| from.step);
    let source = sources.next()?;
    let &unit = of_step.get(&source).filter(|_| sources.all(|other| other == source))?;
    let producer = &mut units[unit.0 as usize];
    let is_it = producer.is_single() && plan.graph.axes(source).is_empty();
    is_it.then(|| (unit, producer.report(Report::Pods { of })))
}

/// A step's `when` as booleans of other units; `None`: there is none, or it is decided in the pod.
fn when(
    plan: &Plan,
    units: &mut [Unit],
    of_step: &BTreeMap<StepIx, UnitIx>,
    needs: &Needs,
    of: StepIx,
) -> Option<Holds> {
    let (expr, instance) = open_when(plan, needs, of)?;
    let mut makers = Vec::new();
    for index in 0..plan.step(of).when.as_ref()?.refs.len() {
        makers.push(maker(plan, units, of_step, (of, instance), index));
    }
    let parts = split(&expr, &makers)?;
    Some(reported(parts, of, units))
}

/// What is left of a step's `when` with everything put in that is known, if that is the same for every instance that is
/// to run; and one of those instances.
fn open_when(plan: &Plan, needs: &Needs, of: StepIx) -> Option<(Expr, Option<InstanceIx>)> {
    let when = plan.step(of).when.as_ref()?;
    let Running::Rows(rows) = needs.running(of)? else {
        let param = |name: &Expr| match name {
            Expr::Param(name) => plan.params.get(name).cloned(),
            _ => None,
        };
        return Some((condition::fold(&when.expr, &param).ok()?, None));
    };
    let first = plan.graph.instances_of(of).next()?;
    let instances = || rows.iter().map(|row| InstanceIx(first.0 + row));
    let open = |ix| condition::fold(&when.expr, &|name| plan.constant(ix, name)).ok();
    let expr = open(instances().next()?)?;
    let edges: Vec<usize> = (0..when.refs.len()).flat_map(|index| plan.edges_of(of, Origin::When(index))).collect();
    let values = |ix: InstanceIx| -> Vec<Dep> { edges.iter().map(|&edge| plan.graph.deps(ix)[edge]).collect() };
    let from = values(instances().next()?);
    let alike = instances().skip(1).all(|ix| values(ix) == from && open(ix).as_ref() == Some(&expr));
    alike.then(|| (expr, instances().next()))
}

/// The unit that makes the value at this place among a `when`'s references, if it is one pod.
fn maker(
    plan: &Plan,
    units: &[Unit],
    of_step: &BTreeMap<StepIx, UnitIx>,
    (of, instance): (StepIx, Option<InstanceIx>),
    index: usize,
) -> Option<UnitIx> {
    let edge = plan.edges_of(of, Origin::When(index)).next()?;
    let producer = plan.graph.edges(of)[edge].producer;
    let &unit = of_step.get(&producer).filter(|unit| units[unit.0 as usize].is_single())?;
    let made = match instance {
        Some(instance) => plan.graph.deps(instance)[edge],
        None if plan.graph.edges(of)[edge].is_whole() => Dep::Instance(plan.graph.instances_of(producer).next()?),
        None => return None,
    };
    let Dep::Instance(made) = made else { return None };
    let Rows::Known { rows, .. } = &units[unit.0 as usize].rows else { return None };
    (plan.graph.step(made) == producer && rows.as_slice() == [plan.graph.row(made)]).then_some(unit)
}

/// A condition in parts that one unit each can decide.
enum Parts {
    One(UnitIx, Expr),
    Not(Box<Parts>),
    And(Box<Parts>, Box<Parts>),
    Or(Box<Parts>, Box<Parts>),
}

/// The largest parts of a condition that one unit each can decide; `None`: there is something that none can.
fn split(expr: &Expr, makers: &[Option<UnitIx>]) -> Option<Parts> {
    let mut by = Vec::new();
    if !decided_by(expr, makers, &mut by) {
        return None;
    }
    by.dedup();
    if let [unit] = by[..] {
        return Some(Parts::One(unit, expr.clone()));
    }
    let both = |left: &Expr, right: &Expr| Some((Box::new(split(left, makers)?), Box::new(split(right, makers)?)));
    match expr {
        Expr::Not(inner) => Some(Parts::Not(Box::new(split(inner, makers)?))),
        Expr::And(left, right) => both(left, right).map(|(left, right)| Parts::And(left, right)),
        Expr::Or(left, right) => both(left, right).map(|(left, right)| Parts::Or(left, right)),
        _ => None,
    }
}

/// Collects the units that make the values of an expression; false where one is not made by a unit.
fn decided_by(expr: &Expr, makers: &[Option<UnitIx>], by: &mut Vec<UnitIx>) -> bool {
    match expr {
        Expr::Literal(_) => true,
        Expr::Param(_) | Expr::Matrix(_) | Expr::RunStatus => false,
        Expr::Output(index) => match makers.get(*index) {
            Some(Some(unit)) => {
                by.push(*unit);
                by.sort_unstable();
                true
            }
            _ => false,
        },
        Expr::Not(inner) => decided_by(inner, makers, by),
        Expr::And(left, right) | Expr::Or(left, right) | Expr::Compare(_, left, right) => {
            decided_by(left, makers, by) && decided_by(right, makers, by)
        }
    }
}

fn reported(parts: Parts, of: StepIx, units: &mut [Unit]) -> Holds {
    let mut inner = |parts: Box<Parts>| Box::new(reported(*parts, of, units));
    match parts {
        Parts::Not(one) => Holds::Not(inner(one)),
        Parts::And(left, right) => Holds::And(inner(left), inner(right)),
        Parts::Or(left, right) => Holds::Or(inner(left), inner(right)),
        Parts::One(unit, part) => Holds::Report(unit, units[unit.0 as usize].report(Report::Condition { of, part })),
    }
}

/// That something was made by each unit without which there is nothing to do, where that is decided in its pod.
fn made(plan: &Plan, units: &mut [Unit], needs: &Needs, ix: usize) -> Vec<Holds> {
    let strict = units[ix].after.iter().filter(|after| !after.though_not_started).map(|after| after.unit);
    let strict: Vec<UnitIx> = strict.collect();
    let mut all = Vec::new();
    for unit in strict {
        let producer = &mut units[unit.0 as usize];
        if producer.is_single() && may_skip_itself(plan, producer, needs) {
            all.push(Holds::Report(unit, producer.report(Report::Made)));
        }
    }
    all
}

/// Whether a unit that was started may find out that it is skipped.
fn may_skip_itself(plan: &Plan, unit: &Unit, needs: &Needs) -> bool {
    let mut steps = unit.steps.iter();
    let first = steps.next().into_iter().filter(|_| unit.when.is_none());
    let mut conditional = first.chain(steps).filter(|step| plan.step(**step).when.is_some());
    let chooses = |need: Need| matches!(need, Need::Gather { optional: false } | Need::First { optional: false });
    conditional.next().is_some() || needs.links(unit.first()).iter().any(|link| chooses(link.need))
}
