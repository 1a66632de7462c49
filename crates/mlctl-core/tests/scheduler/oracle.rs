//! What must come out of a workflow: a naive reading of DESIGN section 2, instance by instance, without any order.

use std::collections::BTreeMap;

use mlctl_core::condition::eval;
use mlctl_core::event::Status;
use mlctl_core::instance_id;
use mlctl_core::value::Value;
use mlctl_core::workflow::{AxisValues, Expr, InputFrom, Matrix, OutputRef, Step, Workflow};

use super::random::axes;
use super::world::Nature;

/// How one instance ends.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) step: usize,
    /// None for a placeholder.
    pub(crate) coords: Option<Vec<(String, Value)>>,
    pub(crate) status: Status,
    /// Whether a failure below which it is was allowed.
    pub(crate) allowed: bool,
    /// What it must not start before.
    pub(crate) after: Vec<String>,
}

/// How everything ends, by instance id. `finally` steps are the last.
pub(crate) fn ends(workflow: &Workflow, nature: &Nature) -> BTreeMap<String, End> {
    let mut ends = BTreeMap::new();
    let mut status = None;
    for (index, step) in workflow.steps.iter().enumerate() {
        if step.finally {
            status.get_or_insert_with(|| run_status(&ends));
        }
        match instances(workflow, step, nature, &ends) {
            Err((status, allowed)) => {
                let after = sources(workflow, step).map(|from| workflow.steps[from].name.clone()).collect();
                ends.insert(step.name.clone(), End { step: index, coords: None, status, allowed, after });
            }
            Ok(rows) => {
                let sources: Vec<String> =
                    sources(workflow, step).map(|from| workflow.steps[from].name.clone()).collect();
                for row in rows {
                    let texts: Vec<(&str, &Value)> = row.iter().map(|(axis, value)| (axis.as_str(), value)).collect();
                    let id = instance_id(&step.name, &texts);
                    let mut after = sources.clone();
                    let (status, allowed) = match status {
                        None => judge(step, &id, &row, nature, &ends, &mut after),
                        Some(status) => judge_finally(step, &id, &row, nature, &ends, status),
                    };
                    ends.insert(id, End { step: index, coords: Some(row), status, allowed, after });
                }
            }
        }
    }
    ends
}

fn run_status(ends: &BTreeMap<String, End>) -> &'static str {
    let failed = ends.values().any(|end| end.status == Status::Failed && !end.allowed);
    if failed { "failed" } else { "succeeded" }
}

/// A `finally` step takes what there is: only its own condition skips it.
fn judge_finally(
    step: &Step,
    id: &str,
    row: &Row,
    nature: &Nature,
    ends: &BTreeMap<String, End>,
    run_status: &str,
) -> (Status, bool) {
    if let Some(when) = &step.when {
        let value = |name: &Expr| match name {
            Expr::RunStatus => Some(Value::String(run_status.to_owned())),
            _ => when_value(&when.refs, name, row, nature, ends),
        };
        if !eval(&when.expr, &value).unwrap_or(false) {
            return (Status::Skipped, false);
        }
    }
    let status = if nature.attempts(id, step).is_some() { Status::Succeeded } else { Status::Failed };
    (status, false)
}

/// The value of a name in a condition; none for what was not made.
fn when_value(
    refs: &[OutputRef],
    name: &Expr,
    row: &Row,
    nature: &Nature,
    ends: &BTreeMap<String, End>,
) -> Option<Value> {
    match name {
        Expr::Matrix(axis) => row.iter().find(|(name, _)| name == axis).map(|(_, value)| value.clone()),
        Expr::Output(index) => {
            let (id, end) = ends.iter().find(|(_, end)| matches(&refs[*index], end, row))?;
            matches!(end.status, Status::Succeeded | Status::Cached).then(|| nature.number(id))
        }
        _ => None,
    }
}

fn tables<'a>(workflow: &'a Workflow, step: &'a Step) -> Option<&'a Vec<Vec<mlctl_core::workflow::Axis>>> {
    match &step.matrix {
        Matrix::None => None,
        Matrix::Same(other) => tables(workflow, &workflow.steps[other.0 as usize]),
        Matrix::Tables(tables) => Some(tables),
    }
}

/// The steps that the sources of a step's dynamic axes are in.
pub(crate) fn sources<'a>(workflow: &'a Workflow, step: &'a Step) -> impl Iterator<Item = usize> + use<'a> {
    let axes = tables(workflow, step).into_iter().flatten().flatten();
    axes.filter_map(|axis| match &axis.values {
        AxisValues::Dynamic(from) => Some(from.step.0 as usize),
        _ => None,
    })
}

type Row = Vec<(String, Value)>;

fn instances(
    workflow: &Workflow,
    step: &Step,
    nature: &Nature,
    ends: &BTreeMap<String, End>,
) -> Result<Vec<Row>, (Status, bool)> {
    let Some(tables) = tables(workflow, step) else { return Ok(vec![Vec::new()]) };
    let mut all = Vec::new();
    for table in tables {
        let mut rows: Vec<Row> = vec![Vec::new()];
        for name in axes(&workflow.steps, step) {
            let axis = table.iter().find(|axis| axis.name == name).expect("the same axes in each table");
            let values = match &axis.values {
                AxisValues::Literal(values) => values.clone(),
                AxisValues::Param(_) => panic!("no params here"),
                AxisValues::Dynamic(from) => {
                    let source = &workflow.steps[from.step.0 as usize].name;
                    match ends[source].status {
                        Status::Skipped => return Err((Status::Skipped, false)),
                        Status::Failed | Status::Cancelled => return Err((Status::Cancelled, ends[source].allowed)),
                        Status::Succeeded | Status::Cached => {}
                    }
                    nature.axis(source, from.output).ok_or((Status::Failed, step.allow_failure))?
                }
            };
            let mut longer = Vec::new();
            for row in &rows {
                for value in &values {
                    longer.push([row.as_slice(), &[(name.clone(), value.clone())]].concat());
                }
            }
            rows = longer;
        }
        all.extend(rows);
    }
    Ok(all)
}

fn judge(
    step: &Step,
    id: &str,
    row: &Row,
    nature: &Nature,
    ends: &BTreeMap<String, End>,
    after: &mut Vec<String>,
) -> (Status, bool) {
    // Everything referred to, whatever for.
    let (mut failed, mut only_allowed, mut skipped, mut missing) = (false, true, false, false);
    let mut fail = |end: &End| {
        failed = true;
        only_allowed &= end.allowed;
    };
    let mut find = |from: &OutputRef| -> Vec<&End> {
        let found: Vec<(&String, &End)> = ends.iter().filter(|(_, end)| matches(from, end, row)).collect();
        after.extend(found.iter().map(|(id, _)| (*id).clone()));
        found.into_iter().map(|(_, end)| end).collect()
    };
    let bad = |end: &End| matches!(end.status, Status::Failed | Status::Cancelled);
    let made = |end: &End| matches!(end.status, Status::Succeeded | Status::Cached);
    for input in &step.inputs {
        match &input.from {
            InputFrom::One(from) => {
                let found = find(from);
                found.iter().filter(|end| bad(end)).for_each(|end| fail(end));
                missing |= found.is_empty() && !input.optional;
                skipped |= found.iter().any(|end| end.status == Status::Skipped) && !input.optional;
            }
            InputFrom::First(refs) => {
                let found: Vec<&End> = refs.iter().flat_map(&mut find).collect();
                found.iter().filter(|end| bad(end)).for_each(|end| fail(end));
                skipped |= !found.iter().any(|end| made(end)) && !input.optional;
            }
            InputFrom::Gather(refs) => {
                let found: Vec<&End> = refs.iter().flat_map(&mut find).collect();
                found.iter().filter(|end| bad(end) && !end.allowed).for_each(|end| fail(end));
                let all = !found.is_empty() && found.iter().all(|end| end.status == Status::Skipped);
                skipped |= all && !input.optional;
            }
            InputFrom::Project { .. } | InputFrom::Url { .. } => panic!("not here"),
        }
    }
    for from in step.when.iter().flat_map(|when| &when.refs) {
        let found = find(from);
        found.iter().filter(|end| bad(end)).for_each(|end| fail(end));
        missing |= found.is_empty();
        skipped |= found.iter().any(|end| end.status == Status::Skipped);
    }
    for &other in &step.needs {
        let any = OutputRef { step: other, output: 0, picks: vec![], gather: true, entry: None, span: step.span };
        find(&any).into_iter().filter(|end| bad(end)).for_each(&mut fail);
    }
    match () {
        () if failed => return (Status::Cancelled, only_allowed),
        () if missing => return (Status::Failed, step.allow_failure),
        () if skipped => return (Status::Skipped, false),
        () => {}
    }
    if let Some(when) = &step.when {
        let value = |name: &Expr| when_value(&when.refs, name, row, nature, ends);
        if !eval(&when.expr, &value).expect("all is known") {
            return (Status::Skipped, false);
        }
    }
    match nature.attempts(id, step) {
        _ if step.cache && nature.cached(id) => (Status::Cached, false),
        Some(_) => (Status::Succeeded, false),
        None => (Status::Failed, step.allow_failure),
    }
}

/// Whether a reference from an instance at this row leads to that one.
fn matches(from: &OutputRef, end: &End, row: &Row) -> bool {
    let Some(coords) = &end.coords else { return end.step == from.step.0 as usize };
    end.step == from.step.0 as usize
        && coords.iter().all(|(axis, value)| {
            let pick = from.picks.iter().find(|(name, _)| name == axis);
            let own = || row.iter().find(|(name, _)| name == axis);
            pick.or_else(own).is_none_or(|(_, wanted)| wanted == value)
        })
}
