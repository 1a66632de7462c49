//! Random workflows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use indexmap::IndexMap;
use mlctl_core::diag::Span;
use mlctl_core::template::{Piece, Template};
use mlctl_core::value::{Type, Value};
use mlctl_core::workflow::{
    ArtifactRole, Axis, AxisValues, BaseImages, Comparison, Condition, Expr, Input, InputFrom, Matrix, Output,
    OutputKind, OutputRef, Program, Resources, Retry, Step, StepIx, Workflow,
};

use super::chance::Chance;

/// The outputs that every step has.
pub(crate) const FILE: usize = 0;
pub(crate) const DIR: usize = 1;
pub(crate) const NUMBER: usize = 2;
pub(crate) const LIST: usize = 3;

/// A random workflow: steps refer to earlier ones only, `finally` steps are last. It may be one that cannot be planned.
pub(crate) fn workflow(chance: &mut Chance) -> Workflow {
    let count = 1 + chance.below(8);
    let finally = chance.below(3).min(count - 1) * usize::from(chance.percent(40));
    let mut steps: Vec<Step> = Vec::new();
    for index in 0..count {
        let mut step = plain(&format!("s{index}"));
        let earlier = index.min(count - finally);
        step.finally = index >= count - finally;
        step.matrix = matrix(chance, &steps[..earlier]);
        step.inputs = (0..chance.below(4)).filter_map(|n| input(chance, &steps, earlier, &step, n)).collect();
        if chance.percent(30) {
            step.when = Some(when(chance, &steps, earlier, &step));
        }
        if earlier > 0 && chance.percent(20) {
            step.needs = vec![ix(chance.below(earlier))];
        }
        step.allow_failure = chance.percent(15) && !step.finally;
        step.cache = chance.percent(80);
        step.retry = Retry {
            limit: u32::try_from(chance.below(3)).expect("small"),
            backoff: Duration::from_secs(chance.next() % 2),
        };
        step.resources = Resources {
            cpu_millis: chance.percent(40).then(|| 1000 * (1 + u32::try_from(chance.below(4)).expect("small"))),
            gpu: chance.percent(20).then_some(1),
            ..Resources::default()
        };
        steps.push(step);
    }
    Workflow {
        name: "random".to_owned(),
        default: Vec::new(),
        params: IndexMap::new(),
        base_images: BaseImages::default(),
        environments: IndexMap::new(),
        order: (0..steps.len()).map(ix).collect(),
        steps,
        contexts: IndexMap::new(),
    }
}

fn ix(index: usize) -> StepIx {
    StepIx(u32::try_from(index).expect("few steps"))
}

fn plain(name: &str) -> Step {
    let output = |name: &str, what: OutputKind| Output {
        name: name.to_owned(),
        span: Span::default(),
        what,
        at: None,
        export: None,
    };
    Step {
        name: name.to_owned(),
        span: Span::default(),
        program: Program::Command(vec![Template(vec![Piece::Text(name.to_owned())])]),
        env: BTreeMap::new(),
        params: BTreeSet::new(),
        inputs: Vec::new(),
        outputs: vec![
            output("file", OutputKind::Artifact(ArtifactRole::Plain)),
            output("dir", OutputKind::Artifact(ArtifactRole::Plain)),
            output("number", OutputKind::Value { ty: Type::Int, from: None }),
            output("list", OutputKind::Value { ty: Type::Json, from: None }),
        ],
        matrix: Matrix::None,
        when: None,
        needs: Vec::new(),
        environment: None,
        sources: None,
        secrets: Vec::new(),
        settings: Vec::new(),
        caches: Vec::new(),
        cache: true,
        checkpoint: false,
        allow_failure: false,
        finally: false,
        resources: Resources::default(),
        resources_span: None,
        retry: Retry::default(),
        timeout: None,
    }
}

fn axis(name: &str, values: AxisValues) -> Axis {
    Axis { name: name.to_owned(), span: Span::default(), values }
}

fn ints(values: impl IntoIterator<Item = i64>) -> AxisValues {
    AxisValues::Literal(values.into_iter().map(Value::Int).collect())
}

fn to(step: usize, output: usize) -> OutputRef {
    OutputRef { step: ix(step), output, picks: Vec::new(), gather: false, entry: None, span: Span::default() }
}

fn matrix(chance: &mut Chance, earlier: &[Step]) -> Matrix {
    let own: Vec<usize> =
        (0..earlier.len()).filter(|&step| matches!(earlier[step].matrix, Matrix::Tables(_))).collect();
    let single: Vec<usize> = (0..earlier.len()).filter(|&step| earlier[step].matrix == Matrix::None).collect();
    let up_to = |chance: &mut Chance| 1 + i64::try_from(chance.below(3)).expect("small");
    match chance.below(10) {
        0 | 1 => Matrix::Tables(vec![vec![axis("a", ints(1..=up_to(chance)))]]),
        2 => Matrix::Tables(vec![vec![axis("a", ints(1..=up_to(chance))), axis("b", ints(1..=up_to(chance)))]]),
        3 => Matrix::Tables(vec![
            vec![axis("a", ints([1])), axis("b", ints([1, 2]))],
            vec![axis("b", ints([3])), axis("a", ints(1..=up_to(chance)))],
        ]),
        4 | 5 if !own.is_empty() => Matrix::Same(ix(*chance.pick(&own))),
        6 | 7 if !single.is_empty() => {
            let source = to(*chance.pick(&single), *chance.pick(&[LIST, LIST, DIR]));
            let mut axes = vec![axis("d", AxisValues::Dynamic(source))];
            if chance.percent(30) {
                axes.insert(chance.below(2), axis("a", ints(1..=up_to(chance))));
            }
            Matrix::Tables(vec![axes])
        }
        _ => Matrix::None,
    }
}

/// The names of a step's axes.
pub(crate) fn axes(steps: &[Step], step: &Step) -> Vec<String> {
    match &step.matrix {
        Matrix::None => Vec::new(),
        Matrix::Same(other) => axes(steps, &steps[other.0 as usize]),
        Matrix::Tables(tables) => tables[0].iter().map(|axis| axis.name.clone()).collect(),
    }
}

/// A reference that leads to one instance of a step: what the consumer does not have is picked.
fn one(chance: &mut Chance, steps: &[Step], producer: usize, consumer: &Step, output: usize) -> OutputRef {
    let mut from = to(producer, output);
    let own = axes(steps, consumer);
    for axis in axes(steps, &steps[producer]).into_iter().filter(|axis| !own.contains(axis)) {
        let value =
            if axis == "d" { Value::String("x".to_owned()) } else { Value::Int(1 + (chance.next() % 2).cast_signed()) };
        from.picks.push((axis, value));
    }
    from
}

fn input(chance: &mut Chance, steps: &[Step], earlier: usize, consumer: &Step, n: usize) -> Option<Input> {
    if earlier == 0 {
        return None;
    }
    let producer = chance.below(earlier);
    let any = |chance: &mut Chance| {
        let producer = chance.below(earlier);
        let output = *chance.pick(&[FILE, NUMBER]);
        one(chance, steps, producer, consumer, output)
    };
    let own = axes(steps, consumer);
    let gathers = |producer: usize| axes(steps, &steps[producer]).iter().any(|axis| !own.contains(axis));
    let from = match chance.below(6) {
        0 => InputFrom::First(vec![any(chance), any(chance)]),
        1..=4 if gathers(producer) => {
            let mut refs = vec![OutputRef { gather: true, ..to(producer, FILE) }];
            let other = chance.below(earlier);
            if other != producer && gathers(other) && chance.percent(30) {
                refs.push(OutputRef { gather: true, ..to(other, FILE) });
            }
            InputFrom::Gather(refs)
        }
        _ => InputFrom::One(any(chance)),
    };
    let optional = consumer.finally || chance.percent(20);
    Some(Input { name: format!("i{n}"), span: Span::default(), from, at: None, optional })
}

fn when(chance: &mut Chance, steps: &[Step], earlier: usize, consumer: &Step) -> Condition {
    let mut refs = Vec::new();
    let literal = |chance: &mut Chance| Box::new(Expr::Literal(Value::Int((chance.next() % 3).cast_signed())));
    let own = axes(steps, consumer);
    let mut expr = match own.iter().find(|axis| *axis != "d") {
        Some(axis) if chance.percent(60) => {
            Expr::Compare(Comparison::Ge, Box::new(Expr::Matrix(axis.clone())), literal(chance))
        }
        _ => Expr::Literal(Value::Bool(chance.percent(60))),
    };
    if consumer.finally && chance.percent(50) {
        let status = Expr::Literal(Value::String(chance.pick(&["failed", "succeeded"]).to_string()));
        expr = Expr::Compare(Comparison::Eq, Box::new(Expr::RunStatus), Box::new(status));
    }
    if earlier > 0 && chance.percent(60) {
        let producer = chance.below(earlier);
        refs.push(one(chance, steps, producer, consumer, NUMBER));
        let value = Expr::Compare(Comparison::Ge, Box::new(Expr::Output(0)), literal(chance));
        expr = if chance.percent(50) {
            Expr::And(Box::new(expr), Box::new(value))
        } else {
            Expr::Or(Box::new(expr), Box::new(Expr::Not(Box::new(value))))
        };
    }
    Condition { span: Span::default(), expr, refs }
}
