//! What can be wrong with a plan though the workflow is valid.

use super::{Origin, Plan};
use crate::condition;
use crate::diag::{Diag, Span};
use crate::gate::Need;
use crate::graph::{Dep, InstanceIx};
use crate::template::{Piece, Template};
use crate::workflow::{InputFrom, OutputRef, Program, StepIx};

/// The longest single argument or variable that Linux takes, in bytes.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024;

pub(super) fn check(plan: &Plan) -> Vec<Diag> {
    let mut diags = Vec::new();
    for step in plan.needed() {
        diags.extend(unmatched(plan, step));
        diags.extend(undecidable(plan, step));
        diags.extend(too_long(plan, step));
    }
    diags
}

/// The first instance of a step that refers to an instance which does not exist.
fn unmatched(plan: &Plan, ix: StepIx) -> Option<Diag> {
    let step = plan.step(ix);
    let needs = plan.steps[ix.0 as usize].needs.iter().filter(|need| need.need == Need::One && !step.finally);
    for need in needs {
        let lost = |instance: &InstanceIx| plan.graph.deps(*instance)[need.edges.clone()].contains(&Dep::None);
        let Some(instance) = plan.graph.instances_of(ix).find(lost) else { continue };
        let Some(from) = reference(plan, ix, need.origin) else { continue };
        let producer = plan.step(from.step);
        let name = &producer.name;
        let id = plan.graph.id(instance);
        let axes: Vec<String> = plan
            .graph
            .axes(from.step)
            .iter()
            .filter_map(|axis| {
                let pick = from.picks.iter().find(|(name, _)| **name == **axis).map(|(_, value)| value);
                let own = || plan.graph.matrix(instance).find(|(name, _)| *name == &**axis).map(|(_, value)| value);
                pick.or_else(own).map(|value| format!("{axis} = {value}"))
            })
            .collect();
        let message = format!("`{id}` needs `{name}` with {}, which does not exist", axes.join(", "));
        let help = format!("give both steps the same values, with `matrix = \"{name}\"`, or mark the input `optional`");
        return Some(Diag::error("no-such-instance", from.span, message).help(help));
    }
    None
}

/// The first instance of a step whose `when` compares what cannot be compared: a list param on an axis may hold anything.
fn undecidable(plan: &Plan, ix: StepIx) -> Option<Diag> {
    let when = plan.step(ix).when.as_ref()?;
    plan.graph.instances_of(ix).find_map(|instance| {
        let error = condition::fold(&when.expr, &|name| plan.constant(instance, name)).err()?;
        let id = plan.graph.id(instance);
        Some(Diag::error("condition-type", when.span, format!("the condition of `{id}` means nothing: {error}")))
    })
}

fn reference(plan: &Plan, step: StepIx, origin: Origin) -> Option<&OutputRef> {
    let step = plan.step(step);
    match origin {
        Origin::Input(index) => match &step.inputs.get(index)?.from {
            InputFrom::One(from) => Some(from),
            InputFrom::Gather(from) | InputFrom::First(from) => from.first(),
            InputFrom::Project { .. } | InputFrom::Url { .. } => None,
        },
        Origin::When(index) => step.when.as_ref()?.refs.get(index),
        Origin::Needs(_) => None,
    }
}

/// An argument or variable of a step that no machine would take.
fn too_long(plan: &Plan, ix: StepIx) -> Option<Diag> {
    let step = plan.step(ix);
    let arguments: &[Template] = match &step.program {
        Program::Command(arguments) => arguments,
        Program::Script { text, .. } => {
            return (text.len() >= MAX_ARGUMENT_BYTES).then(|| diag(step.span, &step.name, "the script", text.len()));
        }
    };
    for (place, template) in arguments.iter().enumerate() {
        if let Some(length) = longest(plan, ix, template).filter(|&length| length >= MAX_ARGUMENT_BYTES) {
            return Some(diag(step.span, &step.name, &format!("argument {place}"), length));
        }
    }
    for (name, template) in &step.env {
        if let Some(length) =
            longest(plan, ix, template).filter(|&length| length + name.len() + 1 >= MAX_ARGUMENT_BYTES)
        {
            return Some(diag(step.span, &step.name, &format!("the variable `{name}`"), length));
        }
    }
    for name in &step.params {
        let length = plan.params.get(name).map_or(0, |value| value.to_string().len());
        if length + "MLCTL_PARAM_=".len() + name.len() >= MAX_ARGUMENT_BYTES {
            return Some(diag(step.span, &step.name, &format!("the param `{name}`"), length));
        }
    }
    None
}

fn diag(span: Span, step: &str, what: &str, length: usize) -> Diag {
    let message =
        format!("{what} of `{step}` has {length} bytes; a program takes less than {MAX_ARGUMENT_BYTES} in one");
    Diag::error("argument-too-long", span, message).help("pass it as a file")
}

/// The length of a template's longest text, paths counted as nothing; `None` where no value can make it long.
fn longest(plan: &Plan, ix: StepIx, template: &Template) -> Option<usize> {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.len(),
        Piece::Param(name) => plan.params.get(name).map_or(0, |value| value.to_string().len()),
        _ => 0,
    };
    let fixed: usize = template.0.iter().map(text).sum();
    if !template.0.iter().any(|piece| matches!(piece, Piece::Matrix(_))) {
        return Some(fixed);
    }
    let coords = plan.graph.instances_of(ix).map(|instance| plan.graph.coords(instance));
    coords.map(|coords| plan.render(ix, template, coords).len()).max()
}
