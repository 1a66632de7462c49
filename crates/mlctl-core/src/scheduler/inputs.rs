//! What the inputs of an instance are, once everything it depends on has ended.

use super::{Command, Scheduler, State};
use crate::action::{Artifact, InputContent, StepFailure};
use crate::digest::Digest;
use crate::gate::Summary;
use crate::graph::{Dep, GroupIx, InstanceIx, Members};
use crate::key::Encoder;
use crate::plan::Origin;
use crate::value::Value;
use crate::workflow::{Input, InputFrom, OutputKind, OutputRef, Workflow};

/// Why an input is not there.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unbound {
    /// Something must be asked first.
    Ask(Question),
    /// It cannot be had.
    Failed(StepFailure),
}

/// What is asked for inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// What is at a path in a stored directory.
    Entry(Artifact, String),
    /// What is at a path in the project.
    File(String),
    /// What is in a stored directory.
    List(Artifact),
}

/// What one instance contributes to an input.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content<'a> {
    /// All of an artifact.
    Whole(&'a Artifact),
    /// An entry of one: the directory, the path in it, what is there.
    Entry(&'a Artifact, String, Artifact),
    /// A value.
    Value(&'a Value),
}

impl Content<'_> {
    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Whole(artifact) => encoder.text("artifact").artifact(artifact),
            // What is in it, not where it lies: another entry with the same content is the same input.
            Self::Entry(_, _, artifact) => encoder.text("artifact").artifact(artifact),
            Self::Value(value) => encoder.text("value").value(value),
        };
    }

    /// As a task has it.
    pub(super) fn into_input(self) -> InputContent {
        match self {
            Self::Whole(artifact) => InputContent::Artifact { artifact: *artifact, entry: None },
            Self::Entry(artifact, entry, _) => InputContent::Artifact { artifact: *artifact, entry: Some(entry) },
            Self::Value(value) => InputContent::Value(value.clone()),
        }
    }
}

/// The digest of an input from the project or a download.
pub(super) fn file_digest(input: &Input, place: &str, artifact: &Artifact) -> Digest {
    let mut encoder = Encoder::new("file");
    encoder.option(input.at.as_deref());
    // A project input stands at its own path in the working directory; of a download only its base name shows.
    match &input.from {
        InputFrom::Project { .. } => encoder.text(place),
        _ => encoder.text(base_name(place, &input.name)),
    };
    encoder.artifact(artifact).finish()
}

/// The last part of a path or an address; `otherwise` where it has none.
pub(super) fn base_name<'a>(place: &'a str, otherwise: &'a str) -> &'a str {
    let path = place.split_once("://").map_or(place, |(_, rest)| {
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        rest.split_once('/').map_or("", |(_, path)| path)
    });
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => otherwise,
        Some(name) => name,
    }
}

/// The base name under which an output of a step is known to those that take it.
pub(super) fn output_name(workflow: &Workflow, from: &OutputRef) -> String {
    let output = &workflow.steps[from.step.0 as usize].outputs[from.output];
    let place = output.at.as_deref().unwrap_or(&output.name);
    base_name(place, &output.name).to_owned()
}

/// The extensions of a base name, with the point: `.pkl`, `.tar.gz`.
pub(super) fn extension(name: &str) -> &str {
    let Some(point) = name.rfind('.').filter(|&point| point > 0) else { return "" };
    let stem = &name[..point];
    if stem.len() > ".tar".len() && stem.ends_with(".tar") { &name[point - ".tar".len()..] } else { &name[point..] }
}

impl Scheduler {
    /// What an instance made of what is referred to; none if it made nothing.
    pub(super) fn content(
        &self,
        consumer: InstanceIx,
        from: &OutputRef,
        producer: InstanceIx,
    ) -> Result<Option<Content<'_>>, Unbound> {
        let Some(result) = &self.node(producer).result else { return Ok(None) };
        let output = &self.plan.step(from.step).outputs[from.output];
        let absent = || {
            Unbound::Failed(StepFailure::BadInput {
                input: output.name.clone(),
                reason: format!("`{}` has no output `{}`", self.plan.graph.id(producer), output.name),
            })
        };
        if matches!(output.what, OutputKind::Value { .. }) {
            return result.values.get(&output.name).map(|value| Some(Content::Value(value))).ok_or_else(absent);
        }
        let artifact = result.artifacts.get(&output.name).ok_or_else(absent)?;
        let Some(entry) = &from.entry else { return Ok(Some(Content::Whole(artifact))) };
        let path = self.plan.render(self.plan.graph.step(consumer), entry, self.plan.graph.coords(consumer));
        let asked = (*artifact, path);
        match self.entries.get(&asked) {
            Some(Ok(found)) => Ok(Some(Content::Entry(artifact, asked.1, *found))),
            Some(Err(reason)) => Err(Unbound::Failed(StepFailure::BadInput {
                input: format!("{}/{}", output.name, asked.1),
                reason: reason.clone(),
            })),
            None => Err(Unbound::Ask(Question::Entry(asked.0, asked.1))),
        }
    }

    /// The instance from which an input that takes one comes, with the reference that leads there.
    pub(super) fn chosen<'a>(
        &self,
        ix: InstanceIx,
        index: usize,
        refs: &'a [OutputRef],
    ) -> Option<(&'a OutputRef, InstanceIx)> {
        let edges = self.plan.edges_of(self.plan.graph.step(ix), Origin::Input(index));
        let deps = &self.plan.graph.deps(ix)[edges];
        let mut made = refs.iter().zip(deps).filter_map(|(from, &dep)| Some((from, self.only(dep)?)));
        made.find(|(_, producer)| self.node(*producer).result.is_some())
    }

    /// The base name of one reference's content.
    pub(super) fn file_name(&self, from: &OutputRef, content: &Content<'_>) -> String {
        match content {
            Content::Entry(_, entry, _) => base_name(entry, entry).to_owned(),
            Content::Whole(_) | Content::Value(_) => output_name(&self.plan.workflow, from),
        }
    }

    /// The digest of an input.
    pub(super) fn input_digest(&self, ix: InstanceIx, index: usize) -> Result<Digest, Unbound> {
        let input = &self.step_of(ix).inputs[index];
        let refs = match &input.from {
            InputFrom::Project { .. } | InputFrom::Url { .. } => {
                let (place, artifact) = self.file(ix, input)?;
                return Ok(file_digest(input, &place, &artifact));
            }
            InputFrom::One(from) => std::slice::from_ref(from),
            InputFrom::First(refs) => refs,
            InputFrom::Gather(refs) => return self.gather_digest(ix, index, refs),
        };
        let mut encoder = Encoder::new("input");
        encoder.option(input.at.as_deref());
        let content = match self.chosen(ix, index, refs) {
            Some((from, producer)) => self.content(ix, from, producer)?.map(|content| (from, content)),
            None => None,
        };
        match content {
            None => {
                encoder.text("none");
            }
            Some((from, content)) => {
                encoder.text(&self.file_name(from, &content));
                content.encode(&mut encoder);
            }
        }
        Ok(encoder.finish())
    }

    /// An input from the project or a download: its path or address, and what is there.
    pub(super) fn file(&self, ix: InstanceIx, input: &Input) -> Result<(String, Artifact), Unbound> {
        let bad = |reason: &str| {
            Unbound::Failed(StepFailure::BadInput { input: input.name.clone(), reason: reason.to_owned() })
        };
        match &input.from {
            InputFrom::Project { path } => {
                let path = self.plan.render(self.plan.graph.step(ix), path, self.plan.graph.coords(ix));
                match self.facts.files.get(&path) {
                    Some(Ok(artifact)) => Ok((path, *artifact)),
                    Some(Err(reason)) => Err(bad(reason)),
                    None => Err(Unbound::Ask(Question::File(path))),
                }
            }
            InputFrom::Url { url, .. } => match self.facts.urls.get(url) {
                Some(artifact) => Ok((url.clone(), *artifact)),
                None => Err(bad(&format!("`{url}` was not downloaded"))),
            },
            InputFrom::One(_) | InputFrom::Gather(_) | InputFrom::First(_) => Err(bad("it is made by a step")),
        }
    }

    fn gather_digest(&self, ix: InstanceIx, index: usize, refs: &[OutputRef]) -> Result<Digest, Unbound> {
        let step = self.plan.graph.step(ix);
        let input = &self.plan.step(step).inputs[index];
        let edges = self.plan.edges_of(step, Origin::Input(index));
        if self.unset(ix, index, input, refs) {
            return Ok(Encoder::new("none").finish());
        }
        let mut encoder = Encoder::new("gather");
        encoder.option(input.at.as_deref()).number(refs.len() as u64);
        for (from, &dep) in refs.iter().zip(&self.plan.graph.deps(ix)[edges]) {
            let members = match dep {
                Dep::Group(group) if from.entry.is_none() => self.group_digest(ix, from, group)?,
                Dep::Group(group) => self.members_digest(ix, from, &self.plan.graph.group(group).members)?,
                Dep::Instance(producer) => self.members_digest(ix, from, &[producer])?,
                Dep::None => self.members_digest(ix, from, &[])?,
            };
            encoder.digest(&members);
        }
        Ok(encoder.finish())
    }

    /// Whether an optional gather is missing: nothing was produced, and not because there was nothing to produce.
    pub(super) fn unset(&self, ix: InstanceIx, index: usize, input: &Input, refs: &[OutputRef]) -> bool {
        let edges = self.plan.edges_of(self.plan.graph.step(ix), Origin::Input(index));
        let summaries = self.plan.graph.deps(ix)[edges].iter().map(|&dep| self.summary(dep));
        let all = summaries.fold(Summary::default(), Summary::and);
        let not_made = || refs.iter().any(|from| self.plan.graph.members(from.step) == Members::Absent);
        input.optional && all.produced == 0 && (all.members > 0 || not_made())
    }

    /// Of a group that many gather it is computed once.
    fn group_digest(&self, ix: InstanceIx, from: &OutputRef, group: GroupIx) -> Result<Digest, Unbound> {
        let known = self.gathered.borrow().get(&(group, from.output)).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let digest = self.members_digest(ix, from, &self.plan.graph.group(group).members)?;
        self.gathered.borrow_mut().insert((group, from.output), digest);
        Ok(digest)
    }

    fn members_digest(&self, ix: InstanceIx, from: &OutputRef, members: &[InstanceIx]) -> Result<Digest, Unbound> {
        let mut encoder = Encoder::new("members");
        for &member in members {
            // Those left out leave no trace: the directory is the same without them.
            let Some(content) = self.content(ix, from, member)? else { continue };
            encoder.text(&self.plan.graph.id(member)).text(&self.file_name(from, &content));
            for (axis, value) in self.plan.graph.matrix(member) {
                encoder.text(axis).value(value);
            }
            content.encode(&mut encoder);
        }
        Ok(encoder.finish())
    }

    /// An input of an instance is not there: asks for it, or gives the instance up.
    pub(super) fn unbound(&mut self, ix: InstanceIx, unbound: Unbound, out: &mut Vec<Command>) {
        match unbound {
            Unbound::Failed(failure) => self.fail(ix, failure, out),
            Unbound::Ask(question) => {
                self.node_mut(ix).state = State::Resolving;
                self.ask(ix, question, out);
            }
        }
    }

    pub(super) fn ask(&mut self, ix: InstanceIx, question: Question, out: &mut Vec<Command>) {
        if let Some(asking) = self.asked.get_mut(&question) {
            asking.push(ix);
            return;
        }
        match &question {
            Question::File(path) => out.push(Command::Digest { path: path.clone() }),
            Question::Entry(artifact, entry) => {
                out.push(Command::ResolveEntry { artifact: *artifact, entry: entry.clone() });
            }
            Question::List(artifact) => out.push(Command::ListEntries { artifact: *artifact }),
        }
        self.asked.insert(question, vec![ix]);
    }

    /// Goes on with what waited for an answer.
    pub(super) fn answered(&mut self, question: &Question, out: &mut Vec<Command>) {
        for ix in self.asked.remove(question).unwrap_or_default() {
            if self.node(ix).state != State::Resolving {
                continue;
            }
            if self.plan.graph.is_placeholder(ix) {
                self.expand(ix, out);
            } else {
                self.prepare(ix, out);
            }
        }
    }
}
