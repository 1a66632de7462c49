//! The actions of instances: their keys and components.

use std::collections::BTreeMap;
use std::fmt;

use super::inputs::{Unbound, file_digest};
use super::{Facts, Scheduler, task};
use crate::digest::Digest;
use crate::graph::InstanceIx;
use crate::key::{Encoder, key};
use crate::plan::Plan;
use crate::template::{Piece, Template};
use crate::workflow::{EnvironmentKind, InputFrom, StepIx};

/// Why an instance has no key: its result is never reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoKey {
    /// Its step is a `finally` step.
    Finally,
    /// Its step says `cache = false`.
    CacheOff,
    /// Its command or a variable names `run.id`.
    RunId,
    /// The realisation of its environment is not known.
    EnvironmentUnknown(Option<String>),
    /// The image of its environment is not built yet.
    NotBuilt(String),
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finally => f.write_str("a `finally` step is never cached"),
            Self::CacheOff => f.write_str("never cached: `cache = false`"),
            Self::RunId => f.write_str("never cached: it names `run.id`"),
            Self::EnvironmentUnknown(Some(name)) => {
                write!(f, "environment `{name}` is new to mlctl.lock, or has changed")
            }
            Self::NotBuilt(name) => write!(f, "not known before the image of environment `{name}` is built"),
            Self::EnvironmentUnknown(None) => f.write_str("this machine is not known"),
        }
    }
}

/// What the actions of a step's instances have in common.
#[derive(Debug)]
pub(super) struct StepAction {
    /// Sorted by name.
    parts: Vec<(String, Part)>,
    pub(super) no_key: Option<NoKey>,
}

/// A component of a key.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// The same for all instances.
    Fixed(Digest),
    /// The value on the axis at this position.
    Axis(usize),
    /// The input at this index.
    Input(usize),
}

pub(super) fn actions(plan: &Plan, facts: &Facts) -> Vec<Option<StepAction>> {
    let mut actions = Vec::new();
    actions.resize_with(plan.steps.len(), || None);
    for step in plan.needed() {
        actions[step.0 as usize] = Some(action(plan, facts, step));
    }
    actions
}

fn action(plan: &Plan, facts: &Facts, ix: StepIx) -> StepAction {
    let step = plan.step(ix);
    let mut parts = BTreeMap::new();
    let mut fixed = |name: &str, digest: Digest| parts.insert(name.to_owned(), Part::Fixed(digest));
    let mut command = Encoder::new("command");
    let argv = task::argv(&step.program);
    command.number(argv.len() as u64);
    argv.iter().for_each(|argument| {
        command.template(argument);
    });
    fixed("command", command.finish());
    if !step.env.is_empty() {
        let mut env = Encoder::new("env");
        for (name, template) in &step.env {
            env.text(name).template(template);
        }
        fixed("env", env.finish());
    }
    let mut outputs = Encoder::new("outputs");
    for (name, output) in task::outputs(step) {
        outputs.output(&name, &output);
    }
    fixed("outputs", outputs.finish());
    for (what, names) in [("secrets", &step.secrets), ("settings", &step.settings)] {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        if !names.is_empty() {
            fixed(what, Encoder::new(what).texts(names.into_iter()).finish());
        }
    }
    for name in &step.params {
        if let Some(value) = plan.params.get(name) {
            fixed(&format!("param:{name}"), Encoder::new("param").value(value).finish());
        }
    }
    if let Some(sources) = facts.sources.get(&ix) {
        fixed("sources", *sources);
    }
    let environment = step.environment.as_ref().map_or(facts.host.as_ref(), |name| facts.environments.get(name));
    if let Some(environment) = environment {
        fixed("environment", *environment);
    }
    for (position, axis) in plan.graph.axes(ix).iter().enumerate() {
        parts.insert(format!("matrix:{axis}"), Part::Axis(position));
    }
    for (index, input) in step.inputs.iter().enumerate() {
        let part = fixed_input(plan, facts, ix, index).map_or(Part::Input(index), Part::Fixed);
        parts.insert(format!("input:{}", input.name), part);
    }
    let no_key = match environment {
        _ if step.finally => Some(NoKey::Finally),
        _ if !step.cache => Some(NoKey::CacheOff),
        _ if argv.iter().chain(step.env.values()).any(names_run) => Some(NoKey::RunId),
        None => Some(match &step.environment {
            Some(name) if is_built(plan, name) => NoKey::NotBuilt(name.clone()),
            name => NoKey::EnvironmentUnknown(name.clone()),
        }),
        Some(_) => None,
    };
    StepAction { parts: parts.into_iter().collect(), no_key }
}

/// Whether an environment is made from a Dockerfile.
fn is_built(plan: &Plan, environment: &str) -> bool {
    let environment = plan.workflow.environments.get(environment);
    environment.is_some_and(|environment| matches!(environment.kind, EnvironmentKind::Build(_)))
}

/// The digest of an input that is the same for all instances and known.
fn fixed_input(plan: &Plan, facts: &Facts, ix: StepIx, index: usize) -> Option<Digest> {
    let input = &plan.step(ix).inputs[index];
    match &input.from {
        InputFrom::Project { path } if !path.0.iter().any(|piece| matches!(piece, Piece::Matrix(_))) => {
            let path = plan.render(ix, path, &[]);
            Some(file_digest(input, &path, facts.files.get(&path)?.as_ref().ok()?))
        }
        InputFrom::Url { url, .. } => Some(file_digest(input, url, facts.urls.get(url)?)),
        _ => None,
    }
}

fn names_run(template: &Template) -> bool {
    template.0.iter().any(|piece| matches!(piece, Piece::RunId | Piece::RunStatus))
}

impl Scheduler {
    /// The key of an instance whose inputs are all there; none for one whose result is never reused.
    pub(super) fn key(&self, ix: InstanceIx) -> Result<Option<Digest>, Unbound> {
        let Some(action) = &self.actions[self.plan.graph.step(ix).0 as usize] else { return Ok(None) };
        // Inputs are looked at all the same: what cannot be had is found before anything starts.
        let mut components = Vec::with_capacity(action.parts.len());
        for (name, part) in &action.parts {
            components.push((name.as_str(), self.component(ix, *part)?));
        }
        Ok(action.no_key.is_none().then(|| key(components.into_iter())))
    }

    fn component(&self, ix: InstanceIx, part: Part) -> Result<Digest, Unbound> {
        match part {
            Part::Fixed(digest) => Ok(digest),
            Part::Axis(position) => {
                let value = self.plan.graph.coords(ix)[position];
                Ok(Encoder::new("matrix").value(self.plan.graph.values.value(value)).finish())
            }
            Part::Input(index) => self.input_digest(ix, index),
        }
    }

    /// Digests of what an instance's action is made of, by name, as far as they are known.
    pub fn components(&self, ix: InstanceIx) -> BTreeMap<String, Digest> {
        let Some(action) = &self.actions[self.plan.graph.step(ix).0 as usize] else { return BTreeMap::new() };
        if self.plan.graph.is_placeholder(ix) {
            return BTreeMap::new();
        }
        let parts = action.parts.iter();
        parts.filter_map(|(name, part)| Some((name.clone(), self.component(ix, *part).ok()?))).collect()
    }

    /// Why an instance has no key, if it never has one.
    pub fn no_key(&self, ix: InstanceIx) -> Option<&NoKey> {
        self.actions[self.plan.graph.step(ix).0 as usize].as_ref()?.no_key.as_ref()
    }
}
