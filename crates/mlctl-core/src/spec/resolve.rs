//! Resolves names and checks what holds between steps.

mod axes;
mod meant;
mod order;
mod program;
mod references;
mod script;
mod templates;
mod when;

use std::collections::{BTreeSet, HashMap, HashSet};

use indexmap::IndexMap;

use super::draft::{FromDraft, InputDraft, StepDraft};
use super::file::FileDraft;
use super::paths::{self, Occupied};
use super::reader::{Reader, Text};
use super::words::quote;
use crate::diag::{Diag, Span};
use crate::template::Template;
use crate::workflow::{
    Environment, Input, InputFrom, Matrix, Output, OutputKind, OutputRef, ParamDecl, Retry, Step, StepIx, Workflow,
};
use axes::{Domain, Roots};
use references::{Part, Use};

/// Resolves a file. `None` where nothing whole came out; the reader knows why.
pub(super) fn workflow<'t>(reader: &mut Reader<'t>, file: FileDraft<'t>) -> Option<Workflow> {
    let FileDraft { project, params, broken_params, environments, steps: drafts, contexts, mentioned } = file;
    let mut resolver = Resolver::new(reader, &drafts, &params, &environments);
    resolver.broken_params = broken_params;
    let default = resolver.default_steps(&project.default);
    for step in mentioned {
        resolver.find_step(step.text, step.span);
    }
    let matrices = resolver.matrices();
    let steps: Vec<_> =
        drafts.iter().zip(matrices).enumerate().map(|(ix, (draft, matrix))| resolver.step(ix, draft, matrix)).collect();
    let order = resolver.order();
    resolver.check_exports();
    resolver.check_unused();
    let steps = steps.into_iter().collect::<Option<Vec<_>>>()?;
    let base_images = project.base_images;
    Some(Workflow { name: project.name?, default, params, base_images, environments, steps, order: order?, contexts })
}

/// What exists, and what was found out about it.
struct Resolver<'r, 't> {
    reader: &'r mut Reader<'t>,
    drafts: &'r [StepDraft<'t>],
    params: &'r IndexMap<String, ParamDecl>,
    broken_params: HashSet<String>,
    environments: &'r IndexMap<String, Environment>,
    steps: HashMap<&'t str, usize>,
    /// By step and name: the index in the step.
    inputs: HashMap<(usize, &'t str), usize>,
    outputs: HashMap<(usize, &'t str), usize>,
    roots: Roots,
    /// For each step, what it waits for, and where it says so.
    dependencies: Vec<Vec<(usize, Span)>>,
    /// What may be picked on the axes that were picked on, and what was already compared.
    domains: HashMap<(usize, &'t str), Domain>,
    compared: HashSet<(usize, usize, &'t str)>,
    used_params: HashSet<String>,
}

impl<'r, 't> Resolver<'r, 't> {
    fn new(
        reader: &'r mut Reader<'t>,
        drafts: &'r [StepDraft<'t>],
        params: &'r IndexMap<String, ParamDecl>,
        environments: &'r IndexMap<String, Environment>,
    ) -> Self {
        let steps: HashMap<_, _> = drafts.iter().enumerate().map(|(ix, draft)| (draft.name, ix)).collect();
        let (mut inputs, mut outputs) = (HashMap::with_capacity(drafts.len()), HashMap::with_capacity(drafts.len()));
        for (ix, draft) in drafts.iter().enumerate() {
            inputs.extend(draft.inputs.iter().enumerate().map(|(input, draft)| ((ix, draft.name), input)));
            outputs.extend(draft.outputs.iter().enumerate().map(|(output, draft)| ((ix, draft.name), output)));
        }
        Self {
            reader,
            drafts,
            params,
            broken_params: HashSet::new(),
            environments,
            steps,
            inputs,
            outputs,
            roots: Roots::default(),
            dependencies: vec![Vec::new(); drafts.len()],
            domains: HashMap::new(),
            compared: HashSet::new(),
            used_params: HashSet::new(),
        }
    }

    /// The step of this name, or an error with the nearest one.
    fn find_step(&mut self, name: &str, span: Span) -> Option<usize> {
        let found = self.steps.get(name).copied();
        if found.is_none() {
            let names = self.drafts.iter().map(|draft| draft.name);
            self.reader.unknown("unknown-step", span, format!("there is no step {}", quote(name)), name, names);
        }
        found
    }

    fn default_steps(&mut self, names: &[Text<'t>]) -> Vec<StepIx> {
        let mut steps = Vec::with_capacity(names.len());
        for name in names {
            let Some(ix) = self.find_step(name.text, name.span) else { continue };
            if self.drafts[ix].common.finally {
                let message = format!("{} is a `finally` step", quote(name.text));
                self.reader.push(
                    Diag::error("finally-default", name.span, message).help("it runs whatever is made: remove it here"),
                );
            }
            steps.push(step_ix(ix));
        }
        steps
    }

    fn step(&mut self, ix: usize, draft: &'r StepDraft<'t>, matrix: Option<Matrix>) -> Option<Step> {
        let common = &draft.common;
        let mut params = BTreeSet::new();
        for name in &draft.params {
            self.check_param(name.text, Part::whole(*name), &mut params);
        }
        let program = self.program(ix, draft, &mut params);
        let env = self.env(ix, draft, &mut params);
        let inputs = draft.inputs.iter().map(|input| self.input(ix, input, &mut params)).collect::<Vec<_>>();
        let outputs = draft.outputs.iter().map(|output| self.output(ix, output)).collect::<Vec<_>>();
        let when = draft.when.map(|text| self.when(ix, text));
        let needs = self.needs(ix, &common.needs);
        let environment = self.environment(common.environment);
        self.check_variables(draft);
        self.check_places(draft);
        if let Some(script) = draft.script {
            self.check_script(ix, script, &params);
        } else if let Some((argv, _)) = &draft.command {
            self.check_command(argv);
        }
        Some(Step {
            name: draft.name.to_owned(),
            span: draft.span,
            program: program?,
            env: env?,
            params,
            inputs: inputs.into_iter().collect::<Option<_>>()?,
            outputs: outputs.into_iter().collect::<Option<_>>()?,
            matrix: matrix?,
            when: match when {
                Some(when) => Some(when?),
                None => None,
            },
            needs: needs?,
            environment,
            sources: common.sources.clone(),
            secrets: owned(&common.secrets),
            settings: owned(&common.settings),
            caches: owned(&common.caches),
            cache: common.cache.unwrap_or(true) && !common.finally,
            checkpoint: common.checkpoint,
            allow_failure: common.allow_failure,
            finally: common.finally,
            resources: common.resources,
            resources_span: common.resources_span,
            retry: Retry {
                limit: common.retry_limit.unwrap_or_default(),
                backoff: common.retry_backoff.unwrap_or_default(),
            },
            timeout: common.timeout,
        })
    }

    fn needs(&mut self, ix: usize, names: &[Text<'t>]) -> Option<Vec<StepIx>> {
        let mut needs = Vec::with_capacity(names.len());
        for name in names {
            let needed = self.find_step(name.text, name.span)?;
            self.depend(ix, needed, name.span)?;
            needs.push(step_ix(needed));
        }
        Some(needs)
    }

    /// Notes that `ix` waits for `producer`.
    fn depend(&mut self, ix: usize, producer: usize, span: Span) -> Option<()> {
        if self.drafts[producer].common.finally {
            let message =
                format!("{} is a `finally` step: nothing can depend on it", quote(self.drafts[producer].name));
            self.reader.push(
                Diag::error("depends-on-finally", span, message)
                    .related(self.drafts[producer].span, "runs after all others"),
            );
            return None;
        }
        self.dependencies[ix].push((producer, span));
        Some(())
    }

    /// The environment's name: the one written, else `default` where there is one.
    fn environment(&mut self, name: Option<Text<'t>>) -> Option<String> {
        let Some(name) = name else {
            return self.environments.contains_key("default").then(|| "default".to_owned());
        };
        if !self.environments.contains_key(name.text) {
            let message = format!("there is no environment {}", quote(name.text));
            let names = self.environments.keys().map(String::as_str);
            match self.environments.is_empty() {
                false => self.reader.unknown("unknown-environment", name.span, message, name.text, names),
                true => {
                    let help = format!("declare it: `[environments.{}]` with `python = \"3.12\"`", name.text);
                    self.reader.push(Diag::error("unknown-environment", name.span, message).help(help));
                }
            }
        }
        Some(name.text.to_owned())
    }

    fn input(&mut self, ix: usize, draft: &InputDraft<'t>, params: &mut BTreeSet<String>) -> Option<Input> {
        let several = |resolver: &mut Self, texts: &[Text<'t>], params: &mut BTreeSet<String>, how| {
            let refs: Vec<_> =
                texts.iter().map(|text| resolver.reference(ix, Part::whole(*text), how, params)).collect();
            refs.into_iter().collect::<Option<Vec<OutputRef>>>()
        };
        let from = match draft.from.as_ref()? {
            FromDraft::Path(text) => InputFrom::Project { path: self.project_path(ix, *text, params)? },
            FromDraft::Url { url, sha256 } => InputFrom::Url { url: url.clone(), sha256: sha256.clone() },
            FromDraft::One(text) => {
                let one = self.reference(ix, Part::whole(*text), Use::Input, params)?;
                if one.gather { InputFrom::Gather(vec![one]) } else { InputFrom::One(one) }
            }
            FromDraft::Gather(texts) => {
                let refs = several(self, texts, params, Use::Input)?;
                self.check_members(&refs);
                InputFrom::Gather(refs)
            }
            FromDraft::First(texts) => {
                let refs = several(self, texts, params, Use::First)?;
                self.check_candidates(&refs);
                InputFrom::First(refs)
            }
        };
        self.check_place_of_value(draft, &from);
        Some(Input {
            name: draft.name.to_owned(),
            span: draft.span,
            from,
            at: draft.at.as_ref().map(|(at, _)| at.clone()),
            optional: draft.optional || self.drafts[ix].common.finally,
        })
    }

    /// A path of the project; it may name params and matrix values.
    fn project_path(&mut self, ix: usize, text: Text<'t>, params: &mut BTreeSet<String>) -> Option<Template> {
        if text.text.contains("{{") {
            let part = Part::whole(text);
            self.check_entry_path(part)?;
            return self.template(ix, part, templates::PATH, params);
        }
        let path = paths::of_project(self.reader, "path", text)?;
        if path.contains(['*', '?']) {
            let message = "`path` is one file or directory: `*` and `?` are not replaced";
            self.reader.push(Diag::warning("glob-in-path", text.span, message).help("name the directory"));
        }
        Some(Template(vec![crate::template::Piece::Text(path)]))
    }

    fn output(&mut self, ix: usize, draft: &super::draft::OutputDraft<'t>) -> Option<Output> {
        let what = match (draft.ty, draft.from) {
            (None, _) => OutputKind::Artifact(draft.role),
            (Some(ty), None) => OutputKind::Value { ty, from: None },
            (Some(ty), Some(from)) => OutputKind::Value { ty, from: Some(self.value_source(ix, draft.name, from)?) },
        };
        Some(Output {
            name: draft.name.to_owned(),
            span: draft.span,
            what,
            at: draft.at.as_ref().map(|(at, _)| at.clone()),
            export: draft.export.as_ref().map(|(export, _)| export.clone()),
        })
    }

    /// No two of `env`, `secrets`, `settings` set one variable.
    fn check_variables(&mut self, draft: &StepDraft<'t>) {
        let common = &draft.common;
        let names =
            |texts: &[Text<'t>], what| texts.iter().map(|text| (text.text, text.span, what)).collect::<Vec<_>>();
        let secrets = names(&common.secrets, "a secret");
        let mut seen: HashMap<&str, (Span, &str)> = HashMap::new();
        for (name, span, what) in secrets.into_iter().chain(names(&common.settings, "a setting")) {
            let earlier = common.env.get(name).map(|(span, _)| (*span, "`env`")).or(seen.insert(name, (span, what)));
            if let Some((other, by)) = earlier {
                let message = format!("{} is set twice: by {by} and as {what}", quote(name));
                self.reader.push(
                    Diag::error("same-variable", span, message).related(other, "the other one").help("remove one"),
                );
            }
        }
    }

    /// Nothing in the working directory stands at or inside the place of another.
    fn check_places(&mut self, draft: &StepDraft<'t>) {
        let mut places = Vec::new();
        for output in &draft.outputs {
            if let Some((path, span)) = &output.at {
                places.push(Occupied { path: path.clone(), span: *span, by: format!("output {}", quote(output.name)) });
            }
        }
        for input in &draft.inputs {
            let by = format!("input {}", quote(input.name));
            match (&input.at, &input.from) {
                (Some((path, span)), _) => places.push(Occupied { path: path.clone(), span: *span, by }),
                (None, Some(FromDraft::Path(text))) if !text.text.contains("{{") => {
                    let path =
                        text.text.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
                    places.push(Occupied { path, span: text.span, by });
                }
                _ => {}
            }
        }
        if places.len() > 1 {
            paths::check_disjoint(self.reader, places);
        }
    }

    /// Exports of the whole workflow do not overwrite one another.
    fn check_exports(&mut self) {
        let mut places = Vec::new();
        for (ix, draft) in self.drafts.iter().enumerate() {
            let has_axes = self.axes(ix).is_some_and(|axes| !axes.is_empty());
            for output in &draft.outputs {
                let Some((path, span)) = &output.export else { continue };
                if has_axes {
                    let message = format!(
                        "{} has a matrix: its instances would overwrite one another's export",
                        quote(draft.name)
                    );
                    let help = format!(
                        "gather \"{}[*].{}\" in a step without a matrix and export from there",
                        draft.name, output.name
                    );
                    self.reader.push(Diag::error("export-of-matrix", *span, message).help(help));
                    continue;
                }
                let by = format!("the export of {}", quote(&format!("{}.{}", draft.name, output.name)));
                places.push(Occupied { path: path.clone(), span: *span, by });
            }
        }
        if places.len() > 1 {
            paths::check_disjoint(self.reader, places);
        }
    }

    /// Warns of params that nothing uses.
    fn check_unused(&mut self) {
        for (name, decl) in self.params {
            if !self.used_params.contains(name) {
                let message = format!("no step uses the param {}", quote(name));
                let help =
                    format!("name it in a step: `{{{{ params.{name} }}}}` in a command, or `params = [\"{name}\"]`");
                self.reader.push(Diag::warning("unused-param", decl.span, message).help(help));
            }
        }
    }
}

fn step_ix(ix: usize) -> StepIx {
    // A file of at most 256 MiB has no more steps than fit.
    StepIx(u32::try_from(ix).unwrap_or(u32::MAX))
}

fn owned(texts: &[Text<'_>]) -> Vec<String> {
    texts.iter().map(|text| text.text.to_owned()).collect()
}
