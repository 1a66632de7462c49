//! Building a [`Plan`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::matrix::{self, Rows};
use super::select::{Axes, Selection, named, select};
use super::{Origin, Plan, PlanError, Request, StepNeed, StepPlan, Wanted, check};
use crate::diag::Diag;
use crate::gate::Need;
use crate::graph::{Edge, Graph, Values};
use crate::value::Value;
use crate::workflow::{InputFrom, Matrix, OutputRef, Resources, StepIx, Workflow};

pub(super) fn build(
    workflow: Arc<Workflow>,
    params: BTreeMap<String, Value>,
    request: &Request,
) -> Result<Plan, PlanError> {
    let mut values = Values::default();
    let axes = static_rows(&workflow, &params, &mut values).map_err(PlanError::Workflow)?;
    let Selection { wanted, named: targets } = select(&workflow, &axes, &mut values, &request.targets)?;
    let forced = named(&workflow, &axes, &mut values, &request.force)?;
    let names = workflow.steps.iter().zip(&axes).map(|(step, axes)| (step.name.clone(), axes.names.clone()));
    let mut graph = Graph::new(values, names);
    let mut steps: Vec<StepPlan> = wanted
        .into_iter()
        .zip(forced)
        .map(|(wanted, forced)| StepPlan { wanted, forced, ..StepPlan::default() })
        .collect();
    for (step, filter) in targets {
        steps[step.0 as usize].named.push(filter);
    }
    for (rank, &ix) in workflow.order.iter().enumerate() {
        let step = &workflow.steps[ix.0 as usize];
        let planned = &mut steps[ix.0 as usize];
        planned.rank = u32::try_from(rank).unwrap_or(u32::MAX);
        planned.resources = merged(step.resources, request.resources.get(&step.name));
        if planned.wanted.any() {
            let (needs, edges) = needs(&workflow, ix, &mut graph);
            planned.needs = needs;
            graph.set_edges(ix, edges);
            add_instances(&workflow, ix, &axes[ix.0 as usize], &planned.wanted, &mut graph);
        }
    }
    let plan = Plan { workflow, params, graph, steps };
    let diags = check::check(&plan);
    if diags.is_empty() { Ok(plan) } else { Err(PlanError::Workflow(diags)) }
}

/// The axes of every step, with the rows where they are known.
fn static_rows(
    workflow: &Workflow,
    params: &BTreeMap<String, Value>,
    values: &mut Values,
) -> Result<Vec<Axes>, Vec<Diag>> {
    let mut all: Vec<Axes> = Vec::new();
    all.resize_with(workflow.steps.len(), || Axes { names: Vec::new(), rows: None });
    let mut diags = Vec::new();
    // A step with another's instances may come before it: the others first.
    let own = |ix: &&StepIx| !matches!(workflow.steps[ix.0 as usize].matrix, Matrix::Same(_));
    for &ix in workflow.order.iter().filter(own).chain(workflow.order.iter().filter(|ix| !own(ix))) {
        let rows = match &workflow.steps[ix.0 as usize].matrix {
            Matrix::None => Some(Rows::ONE),
            Matrix::Same(other) => all[other.0 as usize].rows.clone(),
            Matrix::Tables(_) if matrix::sources(workflow, ix).next().is_some() => None,
            Matrix::Tables(tables) => {
                let rows = matrix::rows(tables, params, values, &mut |_| Err("it is not known".to_owned()));
                rows.map_err(|error| diags.push(error.into())).ok()
            }
        };
        let (names, step) = (matrix::axes(workflow, ix), &workflow.steps[ix.0 as usize]);
        if let Some(id) = rows.as_ref().and_then(|rows| matrix::clash(&step.name, &names, rows, values)) {
            let message = format!("two instances of `{}` have the id `{id}`", step.name);
            diags.push(Diag::error("id-clash", step.span, message).help("shorten the values of its matrix"));
        }
        all[ix.0 as usize] = Axes { names, rows };
    }
    if diags.is_empty() { Ok(all) } else { Err(diags) }
}

/// What a step's instances depend on, and the edges for it.
fn needs(workflow: &Workflow, ix: StepIx, graph: &mut Graph) -> (Vec<StepNeed>, Vec<Edge>) {
    let step = &workflow.steps[ix.0 as usize];
    let (mut needs, mut edges) = (Vec::new(), Vec::new());
    let mut add = |need: Need, origin: Origin, refs: &[OutputRef]| {
        let first = edges.len();
        edges.extend(refs.iter().map(|from| graph.edge(Some(ix), from.step, &from.picks)));
        needs.push(StepNeed { need, origin, edges: first..edges.len() });
    };
    for (index, input) in step.inputs.iter().enumerate() {
        let optional = input.optional;
        let (need, refs) = match &input.from {
            InputFrom::Project { .. } | InputFrom::Url { .. } => continue,
            InputFrom::One(from) if optional => (Need::Optional, std::slice::from_ref(from)),
            InputFrom::One(from) => (Need::One, std::slice::from_ref(from)),
            InputFrom::Gather(from) => (Need::Gather { optional }, from.as_slice()),
            InputFrom::First(from) => (Need::First { optional }, from.as_slice()),
        };
        add(need, Origin::Input(index), refs);
    }
    for (index, from) in step.when.iter().flat_map(|when| &when.refs).enumerate() {
        add(Need::One, Origin::When(index), std::slice::from_ref(from));
    }
    for (index, &other) in step.needs.iter().enumerate() {
        let first = edges.len();
        edges.push(graph.edge(Some(ix), other, &[]));
        needs.push(StepNeed { need: Need::Order, origin: Origin::Needs(index), edges: first..edges.len() });
    }
    (needs, edges)
}

fn add_instances(workflow: &Workflow, ix: StepIx, axes: &Axes, wanted: &Wanted, graph: &mut Graph) {
    let step = &workflow.steps[ix.0 as usize];
    match &axes.rows {
        Some(rows) if *wanted == Wanted::All => {
            graph.expand(ix, rows.coords.clone(), rows.len);
        }
        Some(rows) => {
            let values = &graph.values;
            let rows = rows.filtered(|row| wanted.matches(&step.name, &axes.names, row, values));
            graph.expand(ix, rows.coords, rows.len);
        }
        None => {
            let sources = matrix::sources(workflow, ix);
            let edges: Vec<Edge> = sources.map(|from| graph.edge(None, from.step, &from.picks)).collect();
            graph.add_placeholder(ix, &edges);
        }
    }
}

fn merged(own: Resources, context: Option<&Resources>) -> Resources {
    let Some(context) = context else { return own };
    Resources {
        cpu_millis: context.cpu_millis.or(own.cpu_millis),
        memory: context.memory.or(own.memory),
        gpu: context.gpu.or(own.gpu),
        disk: context.disk.or(own.disk),
        shm: context.shm.or(own.shm),
    }
}
