//! Which instances the targets need.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanError;
use super::matrix::{Rows, sources};
use crate::graph::{ValueIx, Values, encode, instance_id};
use crate::value::Value;
use crate::workflow::{InputFrom, OutputRef, StepIx, Workflow};

/// Which of a step's instances are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wanted {
    /// None.
    #[default]
    No,
    /// Those that match one of the filters.
    Some(BTreeSet<Filter>),
    /// All.
    All,
}

/// Some instances of a step: by the texts of some axes, or one by its id where the id does not tell its axes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// Those with these encoded texts.
    Axes(BTreeMap<String, String>),
    /// The one with this id.
    Id(String),
}

impl Wanted {
    /// Whether any instance may be made.
    pub fn any(&self) -> bool {
        *self != Self::No
    }

    /// Whether the step's instance at this row is made.
    pub fn matches(&self, step: &str, axes: &[impl AsRef<str>], row: &[ValueIx], values: &Values) -> bool {
        let text = |value: ValueIx| values.text(values.text_ix(value));
        match self {
            Self::No => false,
            Self::All => true,
            Self::Some(filters) => filters.iter().any(|filter| match filter {
                Filter::Axes(texts) => axes
                    .iter()
                    .zip(row)
                    .all(|(axis, &value)| texts.get(axis.as_ref()).is_none_or(|wanted| wanted == text(value))),
                Filter::Id(id) => {
                    let axes: Vec<(&str, &Value)> =
                        axes.iter().zip(row).map(|(axis, &value)| (axis.as_ref(), values.value(value))).collect();
                    *id == instance_id(step, &axes)
                }
            }),
        }
    }

    fn add(&mut self, filter: Filter) {
        match (&mut *self, filter) {
            (Self::All, _) => {}
            (_, Filter::Axes(texts)) if texts.is_empty() => *self = Self::All,
            (Self::Some(filters), filter) => {
                filters.insert(filter);
            }
            (Self::No, filter) => *self = Self::Some(BTreeSet::from([filter])),
        }
    }
}

/// A step as far as selecting goes.
pub(super) struct Axes {
    /// The names of its axes.
    pub(super) names: Vec<String>,
    /// Its instances; `None`: not known yet.
    pub(super) rows: Option<Rows>,
}

/// Which instances of each step are made for the targets; none given: the workflow's default.
pub(super) fn select(
    workflow: &Workflow,
    axes: &[Axes],
    values: &Values,
    targets: &[String],
) -> Result<Vec<Wanted>, PlanError> {
    let mut wanted = vec![Wanted::No; workflow.steps.len()];
    if !targets.is_empty() {
        for target in targets {
            let (step, filter) = parse(workflow, axes, values, target)?;
            wanted[step.0 as usize].add(filter);
        }
    } else if workflow.default.is_empty() {
        wanted.fill(Wanted::All);
    } else {
        workflow.default.iter().for_each(|step| wanted[step.0 as usize] = Wanted::All);
    }
    for &ix in workflow.order.iter().rev() {
        if workflow.steps[ix.0 as usize].finally {
            // It runs whatever the targets and takes what there is.
            wanted[ix.0 as usize] = Wanted::All;
        } else {
            let of = wanted[ix.0 as usize].clone();
            spread(workflow, ix, &of, axes, &mut wanted);
        }
    }
    Ok(wanted)
}

/// Adds what a step's wanted instances need of other steps.
fn spread(workflow: &Workflow, ix: StepIx, of: &Wanted, axes: &[Axes], wanted: &mut [Wanted]) {
    let filters: Vec<Option<&BTreeMap<String, String>>> = match of {
        Wanted::No => return,
        Wanted::All => vec![None],
        Wanted::Some(filters) => filters
            .iter()
            .map(|filter| match filter {
                Filter::Axes(texts) => Some(texts),
                Filter::Id(_) => None,
            })
            .collect(),
    };
    let mut need = |producer: StepIx, picks: &[(String, Value)]| {
        for filter in &filters {
            let text = |axis: &String| match picks.iter().find(|(name, _)| name == axis) {
                Some((_, value)) => Some(encode(&value.to_string())),
                None => filter.and_then(|texts| texts.get(axis)).cloned(),
            };
            let names = axes[producer.0 as usize].names.iter();
            let texts = names.filter_map(|axis| Some((axis.clone(), text(axis)?))).collect();
            wanted[producer.0 as usize].add(Filter::Axes(texts));
        }
    };
    references(workflow, ix).for_each(|from| need(from.step, &from.picks));
    workflow.steps[ix.0 as usize].needs.iter().for_each(|&other| need(other, &[]));
}

/// All outputs that a step refers to: inputs, `when`, sources of axes.
fn references(workflow: &Workflow, ix: StepIx) -> impl Iterator<Item = &OutputRef> {
    let step = &workflow.steps[ix.0 as usize];
    let inputs = step.inputs.iter().flat_map(|input| match &input.from {
        InputFrom::One(from) => std::slice::from_ref(from),
        InputFrom::Gather(from) | InputFrom::First(from) => from,
        InputFrom::Project { .. } | InputFrom::Url { .. } => &[],
    });
    let when = step.when.iter().flat_map(|when| &when.refs);
    inputs.chain(when).chain(sources(workflow, ix))
}

/// A target: a step's name or an instance's id.
fn parse(workflow: &Workflow, axes: &[Axes], values: &Values, target: &str) -> Result<(StepIx, Filter), PlanError> {
    let (name, coordinates) = target.split_once('@').map_or((target, None), |(name, rest)| (name, Some(rest)));
    let step = workflow.steps.iter().position(|step| step.name == name);
    let unknown = || PlanError::UnknownTarget { target: target.to_owned() };
    let step = step.and_then(|step| u32::try_from(step).ok()).map(StepIx).ok_or_else(unknown)?;
    let Some(coordinates) = coordinates else { return Ok((step, Filter::Axes(BTreeMap::new()))) };
    let Axes { names, rows } = &axes[step.0 as usize];
    if let Some(rows) = rows {
        let id = |row: &&[ValueIx]| {
            let axes: Vec<(&str, &Value)> =
                names.iter().zip(*row).map(|(axis, &value)| (axis.as_str(), values.value(value))).collect();
            instance_id(name, &axes) == target
        };
        let row = (0..rows.len).map(|row| rows.row(row)).find(id).ok_or_else(unknown)?;
        let text = |&value: &ValueIx| values.text(values.text_ix(value)).to_owned();
        return Ok((step, Filter::Axes(names.iter().cloned().zip(row.iter().map(text)).collect())));
    }
    let texts: BTreeMap<String, String> = coordinates
        .split(',')
        .filter_map(|part| part.split_once('='))
        .map(|(axis, text)| (axis.to_owned(), text.to_owned()))
        .collect();
    if coordinates.contains('~') {
        return Ok((step, Filter::Id(target.to_owned())));
    }
    let same = texts.len() == names.len() && names.iter().all(|axis| texts.contains_key(axis));
    if same { Ok((step, Filter::Axes(texts))) } else { Err(unknown()) }
}
