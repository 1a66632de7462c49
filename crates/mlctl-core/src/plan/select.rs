//! Which instances the targets need.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanError;
use super::matrix::{Rows, sources};
use crate::graph::{TextIx, ValueIx, Values, instance_id};
use crate::value::Value;
use crate::workflow::{InputFrom, OutputRef, StepIx, Workflow};

/// Which of a step's instances are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wanted {
    /// None.
    #[default]
    No,
    /// Those that match one of the filters.
    Some(Filters),
    /// All.
    All,
}

/// Instances of a step, by the texts of some of their axes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    /// By the positions of axes: the texts there.
    texts: BTreeMap<Vec<usize>, BTreeSet<Vec<TextIx>>>,
    /// Ids that do not tell their axes.
    ids: BTreeSet<String>,
}

/// One instance of a step whose instances are not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// The one with these texts on all its axes.
    Texts(Vec<TextIx>),
    /// The one with this id, which does not tell its axes.
    Id(String),
}

impl Filter {
    /// Whether it means the step's instance at this row.
    pub fn matches(&self, step: &str, axes: &[impl AsRef<str>], row: &[ValueIx], values: &Values) -> bool {
        match self {
            Self::Texts(texts) => row.iter().map(|&value| values.text_ix(value)).eq(texts.iter().copied()),
            Self::Id(id) => *id == id_of(step, axes, row, values),
        }
    }
}

impl Wanted {
    /// Whether any instance may be made.
    pub fn any(&self) -> bool {
        *self != Self::No
    }

    /// Whether the step's instance at this row is made.
    pub fn matches(&self, step: &str, axes: &[impl AsRef<str>], row: &[ValueIx], values: &Values) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Some(filters) => {
                let key = |positions: &[usize]| -> Vec<TextIx> {
                    positions.iter().map(|&position| values.text_ix(row[position])).collect()
                };
                filters.texts.iter().any(|(positions, texts)| texts.contains(&key(positions)))
                    || !filters.ids.is_empty() && filters.ids.contains(&id_of(step, axes, row, values))
            }
        }
    }

    /// Adds the instances with these texts at these positions.
    fn add(&mut self, positions: &[usize], texts: impl IntoIterator<Item = Vec<TextIx>>) {
        let mut texts = texts.into_iter().peekable();
        if texts.peek().is_none() {
            return;
        }
        if positions.is_empty() {
            *self = Self::All;
        } else if let Some(filters) = self.filters() {
            filters.texts.entry(positions.to_vec()).or_default().extend(texts);
        }
    }

    /// The filters to add to; none where everything is wanted.
    fn filters(&mut self) -> Option<&mut Filters> {
        if *self == Self::No {
            *self = Self::Some(Filters::default());
        }
        match self {
            Self::Some(filters) => Some(filters),
            Self::No | Self::All => None,
        }
    }
}

fn id_of(step: &str, axes: &[impl AsRef<str>], row: &[ValueIx], values: &Values) -> String {
    let axes: Vec<(&str, &Value)> =
        axes.iter().zip(row).map(|(axis, &value)| (axis.as_ref(), values.value(value))).collect();
    instance_id(step, &axes)
}

/// A step as far as selecting goes.
pub(super) struct Axes {
    /// The names of its axes.
    pub(super) names: Vec<String>,
    /// Its instances; `None`: not known yet.
    pub(super) rows: Option<Rows>,
}

/// What the targets come to.
pub(super) struct Selection {
    /// Which instances of each step are made.
    pub(super) wanted: Vec<Wanted>,
    /// The instances named of steps whose instances are not known yet.
    pub(super) named: Vec<(StepIx, Filter)>,
}

/// Which instances are made for the targets; none given: the workflow's default.
pub(super) fn select(
    workflow: &Workflow,
    axes: &[Axes],
    values: &mut Values,
    targets: &[String],
) -> Result<Selection, PlanError> {
    let mut selection = Selection { wanted: vec![Wanted::No; workflow.steps.len()], named: Vec::new() };
    if targets.is_empty() && workflow.default.is_empty() {
        selection.wanted.fill(Wanted::All);
        return Ok(selection);
    }
    if targets.is_empty() {
        workflow.default.iter().for_each(|step| selection.wanted[step.0 as usize] = Wanted::All);
    }
    for target in targets {
        selection.add(workflow, axes, values, target)?;
    }
    for &ix in workflow.order.iter().rev() {
        if workflow.steps[ix.0 as usize].finally {
            // It runs whatever the targets and takes what there is.
            selection.wanted[ix.0 as usize] = Wanted::All;
        } else if selection.wanted[ix.0 as usize].any() {
            selection.spread(workflow, ix, axes, values);
        }
    }
    Ok(selection)
}

/// The instances that these names and ids mean, by step.
pub(super) fn named(
    workflow: &Workflow,
    axes: &[Axes],
    values: &mut Values,
    names: &[String],
) -> Result<Vec<Wanted>, PlanError> {
    let mut selection = Selection { wanted: vec![Wanted::No; workflow.steps.len()], named: Vec::new() };
    names.iter().try_for_each(|name| selection.add(workflow, axes, values, name))?;
    Ok(selection.wanted)
}

impl Selection {
    /// Adds a target: a step's name or an instance's id.
    fn add(&mut self, workflow: &Workflow, axes: &[Axes], values: &mut Values, target: &str) -> Result<(), PlanError> {
        let unknown = || PlanError::UnknownTarget { target: target.to_owned() };
        let (name, coordinates) = target.split_once('@').map_or((target, None), |(name, rest)| (name, Some(rest)));
        let step = workflow.steps.iter().position(|step| step.name == name).ok_or_else(unknown)?;
        let wanted = &mut self.wanted[step];
        let Axes { names, rows } = &axes[step];
        let all: Vec<usize> = (0..names.len()).collect();
        let Some(coordinates) = coordinates else {
            *wanted = Wanted::All;
            return Ok(());
        };
        if let Some(rows) = rows {
            let row = rows.iter().find(|row| id_of(name, names, row, values) == target).ok_or_else(unknown)?;
            wanted.add(&all, [row.iter().map(|&value| values.text_ix(value)).collect()]);
            return Ok(());
        }
        let filter = if coordinates.contains('~') {
            wanted.filters().map(|filters| filters.ids.insert(target.to_owned()));
            Filter::Id(target.to_owned())
        } else {
            let parts: Vec<(&str, &str)> = coordinates.split(',').filter_map(|part| part.split_once('=')).collect();
            if !parts.iter().map(|(axis, _)| *axis).eq(names.iter().map(String::as_str)) {
                return Err(unknown());
            }
            let texts: Vec<TextIx> = parts.iter().map(|(_, text)| values.intern_encoded(text)).collect();
            wanted.add(&all, [texts.clone()]);
            Filter::Texts(texts)
        };
        self.named.push((StepIx(u32::try_from(step).unwrap_or(u32::MAX)), filter));
        Ok(())
    }

    /// Adds what a step's wanted instances need of other steps.
    fn spread(&mut self, workflow: &Workflow, ix: StepIx, axes: &[Axes], values: &mut Values) {
        let step = &workflow.steps[ix.0 as usize];
        let own = known(&self.wanted[ix.0 as usize], &step.name, &axes[ix.0 as usize], values);
        let needs = step.needs.iter().map(|&other| (other, [].as_slice()));
        let needs = needs.chain(references(workflow, ix).map(|from| (from.step, from.picks.as_slice())));
        let names = &axes[ix.0 as usize].names;
        for (producer, picks) in needs {
            for (positions, texts) in &own {
                // Where each text that is known of the producer's instances comes from: a pick or an own axis.
                let mut theirs: Vec<(usize, Result<TextIx, usize>)> = Vec::new();
                for (position, axis) in axes[producer.0 as usize].names.iter().enumerate() {
                    let pick = picks.iter().find(|(name, _)| name == axis);
                    let shared = names.iter().position(|name| name == axis);
                    let shared = shared.and_then(|own| positions.iter().position(|&position| position == own));
                    match (pick, shared) {
                        (Some((_, value)), _) => theirs.push((position, Ok(values.intern_text(value)))),
                        (None, Some(own)) => theirs.push((position, Err(own))),
                        (None, None) => {}
                    }
                }
                let wanted = texts.iter().map(|texts| {
                    theirs.iter().map(|(_, from)| from.unwrap_or_else(|own| texts[own])).collect::<Vec<TextIx>>()
                });
                let wanted: BTreeSet<Vec<TextIx>> = wanted.collect();
                let positions: Vec<usize> = theirs.iter().map(|(position, _)| *position).collect();
                self.wanted[producer.0 as usize].add(&positions, wanted);
            }
        }
    }
}

/// What is known of a step's wanted instances: texts by positions. One that nothing is known of has no texts.
fn known(wanted: &Wanted, name: &str, axes: &Axes, values: &Values) -> BTreeMap<Vec<usize>, BTreeSet<Vec<TextIx>>> {
    let nothing = || (Vec::new(), BTreeSet::from([Vec::new()]));
    match (&axes.rows, wanted) {
        (Some(rows), _) => {
            let wanted = rows.iter().filter(|row| wanted.matches(name, &axes.names, row, values));
            let texts = wanted.map(|row| row.iter().map(|&value| values.text_ix(value)).collect()).collect();
            BTreeMap::from([((0..axes.names.len()).collect(), texts)])
        }
        (None, Wanted::Some(filters)) => {
            let ids = (!filters.ids.is_empty()).then(nothing);
            filters.texts.clone().into_iter().chain(ids).collect()
        }
        (None, Wanted::All | Wanted::No) => BTreeMap::from([nothing()]),
    }
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
