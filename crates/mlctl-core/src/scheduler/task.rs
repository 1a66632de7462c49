//! The task of an attempt: everything bound but what only the place knows.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::Scheduler;
use super::inputs::{base_name, extension};
use crate::action::{CONTRACT, InputContent, Member, Task, TaskInput, TaskOutput, TaskValue};
use crate::digest::Digest;
use crate::graph::{Dep, InstanceIx};
use crate::plan::Origin;
use crate::template::{Piece, Template};
use crate::value::Value;
use crate::workflow::{Input, InputFrom, OutputKind, OutputRef, Program, Shell, Step};

/// What a program is started as: argv.
pub(super) fn argv(program: &Program) -> Vec<Template> {
    let text = |text: &str| Template(vec![Piece::Text(text.to_owned())]);
    match program {
        Program::Command(arguments) => arguments.clone(),
        Program::Script { text: script, shell: Shell::Sh } => ["sh", "-eu", "-c", script].map(text).to_vec(),
        Program::Script { text: script, shell: Shell::Bash } => {
            ["bash", "-euo", "pipefail", "-c", script].map(text).to_vec()
        }
    }
}

/// The outputs that a step must produce.
pub(super) fn outputs(step: &Step) -> IndexMap<String, TaskOutput> {
    let output = |output: &crate::workflow::Output| {
        let value = match &output.what {
            OutputKind::Artifact(_) => None,
            OutputKind::Value { ty, from } => {
                let from = from.as_ref().map(|(index, keys)| (step.outputs[*index].name.clone(), keys.clone()));
                Some(TaskValue { ty: *ty, from })
            }
        };
        (output.name.clone(), TaskOutput { at: output.at.clone(), value })
    };
    step.outputs.iter().map(output).collect()
}

pub(super) fn task(scheduler: &Scheduler, ix: InstanceIx, attempt: u32) -> Task {
    let plan = &scheduler.plan;
    let step_ix = plan.graph.step(ix);
    let step = plan.step(step_ix);
    let params: BTreeMap<String, Value> =
        step.params.iter().filter_map(|name| Some((name.clone(), plan.params.get(name)?.clone()))).collect();
    let bound = |template: &Template| scheduler.bound(ix, template);
    let mut env: BTreeMap<String, Template> =
        step.env.iter().map(|(name, template)| (name.clone(), bound(template))).collect();
    let mut set = |name: String, text: String| env.insert(name, Template(vec![Piece::Text(text)]));
    for (name, value) in &params {
        set(format!("MLCTL_PARAM_{}", name.to_uppercase()), value.to_string());
    }
    for (axis, value) in plan.graph.matrix(ix) {
        set(format!("MLCTL_MATRIX_{}", axis.to_uppercase()), value.to_string());
    }
    if step.finally {
        set("MLCTL_RUN_STATUS".to_owned(), scheduler.run_status().to_owned());
    }
    let settings = &scheduler.facts.settings;
    let setting = |name: &String| Some((name.clone(), settings.get(name)?.clone()));
    Task {
        contract: CONTRACT,
        run: scheduler.options.run.clone(),
        instance: plan.graph.id(ix),
        attempt,
        key: scheduler.node(ix).key,
        command: argv(&step.program).iter().map(bound).collect(),
        env,
        params,
        // Without a digest of its sources an instance is never launched.
        sources: scheduler.facts.sources.get(&step_ix).copied().unwrap_or_else(|| Digest::of(b"")),
        inputs: step
            .inputs
            .iter()
            .enumerate()
            .map(|(index, input)| (input.name.clone(), scheduler.task_input(ix, index, input)))
            .collect(),
        outputs: outputs(step),
        environment: step.environment.clone(),
        secrets: step.secrets.clone(),
        settings: step.settings.iter().filter_map(setting).collect(),
        caches: step.caches.clone(),
        checkpoint: step.checkpoint,
        resources: plan.steps[step_ix.0 as usize].resources,
        timeout: step.timeout,
    }
}

impl Scheduler {
    /// A template in which only inputs and outputs are left open.
    fn bound(&self, ix: InstanceIx, template: &Template) -> Template {
        let mut pieces: Vec<Piece> = Vec::with_capacity(template.0.len());
        for piece in &template.0 {
            let text = match piece {
                Piece::Input(_) | Piece::Output(_) => {
                    pieces.push(piece.clone());
                    continue;
                }
                Piece::Text(text) => text.clone(),
                Piece::Param(name) => self.plan.params.get(name).map(Value::to_string).unwrap_or_default(),
                Piece::Matrix(name) => {
                    let value = self.plan.graph.matrix(ix).find(|(axis, _)| axis == name);
                    value.map(|(_, value)| value.to_string()).unwrap_or_default()
                }
                Piece::RunId => self.options.run.clone(),
                Piece::RunStatus => self.run_status().to_owned(),
            };
            match pieces.last_mut() {
                Some(Piece::Text(before)) => before.push_str(&text),
                _ => pieces.push(Piece::Text(text)),
            }
        }
        Template(pieces)
    }

    fn task_input(&self, ix: InstanceIx, index: usize, input: &Input) -> TaskInput {
        let none = (input.name.clone(), None);
        let (file_name, content) = match &input.from {
            InputFrom::Project { .. } | InputFrom::Url { .. } => match self.file(ix, input) {
                Ok((place, artifact)) => {
                    let content = InputContent::Artifact { artifact, entry: None };
                    (base_name(&place, &input.name).to_owned(), Some(content))
                }
                Err(_) => none,
            },
            InputFrom::One(from) => self.chosen_input(ix, index, std::slice::from_ref(from)).unwrap_or(none),
            InputFrom::First(refs) => self.chosen_input(ix, index, refs).unwrap_or(none),
            InputFrom::Gather(refs) => {
                let members = self.gathered_members(ix, index, refs);
                (input.name.clone(), (!self.unset(ix, index, input, refs)).then_some(InputContent::Gather(members)))
            }
        };
        let at = match &input.from {
            InputFrom::Project { path } if input.at.is_none() => {
                Some(self.plan.render(self.plan.graph.step(ix), path, self.plan.graph.coords(ix)))
            }
            _ => input.at.clone(),
        };
        TaskInput { file_name, at, content }
    }

    fn chosen_input(&self, ix: InstanceIx, index: usize, refs: &[OutputRef]) -> Option<(String, Option<InputContent>)> {
        let (from, producer) = self.chosen(ix, index, refs)?;
        let content = self.content(ix, from, producer).ok()??;
        Some((self.file_name(from, &content), Some(content.into_input())))
    }

    fn gathered_members(&self, ix: InstanceIx, index: usize, refs: &[OutputRef]) -> Vec<Member> {
        let edges = self.plan.edges_of(self.plan.graph.step(ix), Origin::Input(index));
        let mut members = Vec::new();
        for (from, &dep) in refs.iter().zip(&self.plan.graph.deps(ix)[edges]) {
            let producers = match dep {
                Dep::Instance(producer) => &[producer][..],
                Dep::Group(group) => &self.plan.graph.group(group).members,
                Dep::None => &[],
            };
            for &producer in producers {
                let Ok(Some(content)) = self.content(ix, from, producer) else { continue };
                let id = self.plan.graph.id(producer);
                members.push(Member {
                    file_name: id.clone() + extension(&self.file_name(from, &content)),
                    id,
                    matrix: self.plan.graph.matrix(producer).map(|(axis, v)| (axis.to_owned(), v.clone())).collect(),
                    content: Box::new(content.into_input()),
                });
            }
        }
        members
    }
}
