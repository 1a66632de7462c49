//! Dynamic axes: from a placeholder to instances.

use super::inputs::Question;
use super::{Command, Scheduler, State};
use crate::action::{Artifact, ArtifactKind, StepFailure};
use crate::event::Event;
use crate::graph::{InstanceIx, id};
use crate::plan::matrix::{self, Rows};
use crate::plan::{Filter, Wanted};
use crate::value::Value;
use crate::workflow::{OutputKind, OutputRef, StepIx};

/// What an axis holds.
enum Held {
    Values(Vec<Value>),
    /// A directory must be listed first.
    Listing(Artifact),
}

impl Scheduler {
    /// Gives the step of a placeholder its instances: everything they are made from is there.
    pub(super) fn expand(&mut self, placeholder: InstanceIx, out: &mut Vec<Command>) {
        match self.dynamic_rows(placeholder) {
            Ok(rows) => self.dissolve(placeholder, rows, out),
            Err(Unknown::Listing(artifact)) => {
                self.node_mut(placeholder).state = State::Resolving;
                self.ask(placeholder, Question::List(artifact), out);
            }
            Err(Unknown::Failed(failure)) => self.fail(placeholder, failure, out),
        }
    }

    fn dynamic_rows(&mut self, placeholder: InstanceIx) -> Result<Rows, Unknown> {
        let workflow = self.plan.workflow.clone();
        let step = self.plan.graph.step(placeholder);
        let mut listing = None;
        let mut values = std::mem::take(&mut self.plan.graph.values);
        // In the order of the placeholder's edges: a source is asked for once for each axis it is the source of.
        let mut place = 0..;
        let mut source = |from: &OutputRef| match self.held(placeholder, place.next().unwrap_or(0), from)? {
            Held::Values(held) => Ok(held),
            Held::Listing(artifact) => {
                listing = Some(artifact);
                Err(String::new())
            }
        };
        let tables = matrix::tables(&workflow, step).unwrap_or_default();
        let rows = matrix::rows(tables, &self.plan.params, &mut values, &mut source);
        self.plan.graph.values = values;
        let rows = rows.map_err(|error| match listing {
            Some(artifact) => Unknown::Listing(artifact),
            None => Unknown::Failed(StepFailure::BadInput { input: error.axis, reason: error.message }),
        })?;
        self.wanted_rows(step, rows).map_err(Unknown::Failed)
    }

    /// What a dynamic axis holds.
    fn held(&self, placeholder: InstanceIx, edge: usize, from: &OutputRef) -> Result<Held, String> {
        let graph = &self.plan.graph;
        let output = &self.plan.step(from.step).outputs[from.output];
        let name = || format!("`{}.{}`", graph.step_name(from.step), output.name);
        let producer = graph.deps(placeholder).get(edge).and_then(|&dep| self.only(dep));
        let result = producer.and_then(|producer| self.node(producer).result.as_ref());
        if let OutputKind::Value { .. } = output.what {
            let value = result.and_then(|result| result.values.get(&output.name));
            let value = value.ok_or_else(|| format!("{} is missing", name()))?;
            return matrix::list(value).map(Held::Values).map_err(|problem| format!("{}: {problem}", name()));
        }
        let artifact = result.and_then(|result| result.artifacts.get(&output.name));
        let artifact = artifact.filter(|artifact| artifact.kind == ArtifactKind::Directory);
        let artifact = artifact.ok_or_else(|| format!("{} is not a directory", name()))?;
        match self.listings.get(artifact) {
            None => Ok(Held::Listing(*artifact)),
            Some(Err(reason)) => Err(reason.clone()),
            Some(Ok(names)) => Ok(Held::Values(names.iter().cloned().map(Value::String).collect())),
        }
    }

    /// The answer to a listing.
    pub(super) fn listed(&mut self, artifact: Artifact, entries: Result<Vec<String>, String>, out: &mut Vec<Command>) {
        let sorted = entries.map(|mut names| {
            names.sort_unstable();
            names
        });
        self.listings.insert(artifact, sorted);
        self.answered(&Question::List(artifact), out);
    }

    /// Puts instances in the place of a placeholder.
    fn dissolve(&mut self, placeholder: InstanceIx, rows: Rows, out: &mut Vec<Command>) {
        let step = self.plan.graph.step(placeholder);
        self.node_mut(placeholder).state = State::Dissolved;
        self.remaining[usize::from(self.plan.step(step).finally)] -= 1;
        let closed = self.plan.graph.expand(step, rows.coords, rows.len);
        for &group in &closed {
            // Its members, and that there may be more.
            let members = self.plan.graph.group(group).members.len();
            self.groups[group.0 as usize].pending = u32::try_from(members + 1).unwrap_or(u32::MAX);
        }
        self.grow();
        let name = self.plan.step(step).name.clone();
        if !self.replayed_expansions.contains(&name) {
            let instances = self.plan.graph.instances_of(step).map(|ix| self.plan.graph.id(ix)).collect();
            out.push(Command::Record(Event::GraphExpanded { step: name, instances }));
        }
        closed.into_iter().for_each(|group| self.group_shrank(group));
    }

    /// The rows that the targets need.
    fn wanted_rows(&self, step: StepIx, rows: Rows) -> Result<Rows, StepFailure> {
        let graph = &self.plan.graph;
        let (name, axes) = (graph.step_name(step), graph.axes(step));
        let bad = |reason: String| StepFailure::BadInput { input: "matrix".to_owned(), reason };
        let planned = &self.plan.steps[step.0 as usize];
        let rows = match &planned.wanted {
            Wanted::All => rows,
            wanted => rows.filtered(|row| wanted.matches(name, axes, row, &graph.values)),
        };
        let exists = |filter: &Filter| rows.iter().any(|row| filter.matches(name, axes, row, &graph.values));
        if let Some(missing) = planned.named.iter().find(|filter| !exists(filter)) {
            let wanted = match missing {
                Filter::Id(id) => id.clone(),
                Filter::Texts(texts) => {
                    let texts = texts.iter().map(|&text| graph.values.text(text));
                    id::join(name, axes.iter().map(AsRef::as_ref).zip(texts))
                }
            };
            return Err(bad(format!("there is no instance `{wanted}`, which is a target")));
        }
        match matrix::clash(name, axes, &rows, &graph.values) {
            Some(id) => Err(bad(format!("two instances have the id `{id}`"))),
            None => Ok(rows),
        }
    }
}

/// Why the rows of a matrix are not known.
enum Unknown {
    Listing(Artifact),
    Failed(StepFailure),
}
