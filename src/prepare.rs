//! From what was asked for to a plan and the facts it needs: what `run` and `plan` have in common.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlctl_core::action::Artifact;
use mlctl_core::diag::Diag;
use mlctl_core::params::{self, Given, GivenValue};
use mlctl_core::plan::{self, Declared, Plan, PlanError};
use mlctl_core::scheduler::Facts;
use mlctl_core::spec::words::suggest;
use mlctl_core::value::Value;
use mlctl_core::workflow::{Step, StepIx};
use mlctl_exec::sources::{Inputs, Snapshot, SourceError, SourceTree};
use mlctl_exec::store::StoreError;

use crate::config::{Context, secret};
use crate::engine::{Engine, argo};
use crate::environment::{self, Realisation, Target};
use crate::error::{CommandError, Kind};
use crate::lock::Lock;
use crate::record::Run;
use crate::session::Project;

/// What a command line asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Steps and instances; empty: the project's default.
    pub(crate) targets: Vec<String>,
    /// Steps whose results are replaced.
    pub(crate) force: Vec<String>,
    /// `-p NAME=VALUE`, as given.
    pub(crate) params: Vec<String>,
    /// Files of params, with their text.
    pub(crate) params_files: Vec<(PathBuf, String)>,
    /// The run that is to be finished: what it made is not made again.
    pub(crate) resume: Option<Run>,
}

/// The project's files, as they are now.
pub(crate) struct Files {
    /// For sources.
    pub(crate) snapshot: Snapshot,
    /// For inputs.
    pub(crate) inputs: Inputs,
}

impl Files {
    /// Looks at the project's files.
    pub(crate) fn look(project: &Path) -> Result<Self, CommandError> {
        let stamps = project.join(".mlctl/stamps");
        let unreadable =
            |error: StoreError| CommandError::missing("cannot look at the project's files").because(&error);
        let snapshot = Snapshot::take(project, &stamps.join("sources")).map_err(unreadable)?;
        let inputs = Inputs::of(project, &stamps.join("inputs")).map_err(unreadable)?;
        Ok(Self { snapshot, inputs })
    }

    /// Remembers what was hashed: only saves time the next time.
    pub(crate) fn save(&self) {
        let _ = self.snapshot.save();
        let _ = self.inputs.save();
    }
}

/// Makes the plan.
pub(crate) fn plan(project: &Project, context: &Context, asked: &Asked) -> Result<Plan, CommandError> {
    let params = bind(project, asked)?;
    let resources = context.merged.steps.iter().map(|(name, placement)| (name.clone(), placement.resources)).collect();
    let request = plan::Request { targets: asked.targets.clone(), force: asked.force.clone(), resources };
    plan::plan(project.workflow.clone(), params, &request).map_err(|error| match error {
        PlanError::Workflow(diags) => CommandError::diags(project.source.clone(), diags),
        PlanError::UnknownTarget { ref target } => {
            let names = || project.workflow.steps.iter().map(|step| step.name.as_str());
            let error = CommandError::usage(error.to_string());
            if let Some((step, _)) = target.split_once('@')
                && names().any(|name| name == step)
            {
                return error.hint(instances_of(project, step));
            }
            let list = || format!("steps: {}", names().take(20).collect::<Vec<_>>().join(", "));
            error.hint(suggest(target, names()).unwrap_or_else(list))
        }
    })
}

/// How a step's instances are named.
fn instances_of(project: &Project, step: &str) -> String {
    let workflow = &project.workflow;
    let axes = (0..).zip(&workflow.steps).find(|(_, found)| found.name == step);
    let axes = axes.map(|(number, _)| plan::matrix::axes(workflow, StepIx(number))).unwrap_or_default();
    if axes.is_empty() {
        return format!("`{step}` has no matrix, and one instance: `{step}`");
    }
    let axes: Vec<String> = axes.into_iter().map(|axis| format!("{axis}=...")).collect();
    format!("instances of `{step}` are named `{step}@{}`; `mlctl plan {step} -v` lists them", axes.join(","))
}

/// Says which steps are forced to no effect: the targets do not need them.
pub(crate) fn warn_of_idle_force(ui: &crate::ui::Ui, plan: &Plan) {
    for (step, planned) in plan.workflow.steps.iter().zip(&plan.steps) {
        if planned.forced.any() && !planned.wanted.any() {
            ui.warning(&format!("`--force {0}` does nothing: the targets do not need `{0}`", step.name));
        }
    }
}

/// Binds params: files first, `-p` over them.
fn bind(project: &Project, asked: &Asked) -> Result<BTreeMap<String, Value>, CommandError> {
    let mut given = Vec::new();
    for (path, text) in &asked.params_files {
        given.extend(params_of(path, text)?);
    }
    for param in &asked.params {
        let (name, value) =
            param.split_once('=').ok_or_else(|| CommandError::usage(format!("`-p {param}` is not NAME=VALUE")))?;
        given.push(Given { name: name.to_owned(), value: GivenValue::Text(value.to_owned()), from: "-p".to_owned() });
    }
    params::bind(&project.workflow, &given).map_err(|errors| {
        let mut lines = errors.iter().map(ToString::to_string);
        let error = CommandError::usage(lines.next().unwrap_or_default());
        let error = lines.fold(error, CommandError::cause);
        let helps = errors.iter().filter_map(|error| error.help.clone());
        helps.fold(error, CommandError::hint).hint("`mlctl params` lists them")
    })
}

/// The params in a file: JSON if it is called so, else TOML.
fn params_of(path: &Path, text: &str) -> Result<Vec<Given>, CommandError> {
    let from = path.display().to_string();
    let values: Result<BTreeMap<String, Value>, String> = match path.extension() {
        Some(extension) if extension == "json" => serde_json::from_str(text).map_err(|error| error.to_string()),
        _ => toml::from_str(text).map_err(|error| error.to_string()),
    };
    let values = values.map_err(|why| {
        CommandError::usage(format!("`{from}` does not hold params"))
            .cause(why.trim_end())
            .hint("a params file is TOML, or JSON where its name ends in `.json`")
    })?;
    Ok(values
        .into_iter()
        .map(|(name, value)| Given { name, value: GivenValue::Typed(value), from: from.clone() })
        .collect())
}

/// Refuses what this context cannot do, before anything happens.
pub(crate) fn check_capabilities(
    project: &Project,
    (context, engine): (&Context, &Engine),
    plan: &Plan,
) -> Result<(), CommandError> {
    if matches!(engine, Engine::Argo(_)) {
        argo::check(project, context, plan)?;
    }
    let capacity = engine.capacity();
    let environments =
        plan.environments().into_iter().filter_map(|name| Some((name, project.workflow.environments.get(name)?)));
    let is_process = matches!(engine, Engine::Process);
    let mut refused: Vec<Diag> = environments
        .filter(|_| is_process)
        .filter_map(|(name, environment)| Some(*environment::check_process(name, environment).err()?))
        .collect();
    for step in plan.needed() {
        let (wants, Step { name, span, resources_span, .. }) = (plan.steps[step.0 as usize].resources, plan.step(step));
        let span = resources_span.unwrap_or(*span);
        let mut refuse = |(what, has): (String, String)| {
            let message = format!("`{name}` asks for {what}; {} has {has}", engine.machine());
            refused.push(Diag::error("too-large", span, message).help(format!(
                "ask for less, for this context alone in [contexts.{}.steps.{name}], or run it elsewhere",
                context.name
            )));
        };
        let cpus = |millis: u32| format!("{} CPUs", f64::from(millis) / 1000.0);
        let memory = |bytes: u64| format!("{} of memory", crate::ui::size(bytes));
        let gpus = |gpus: u32| crate::ui::count(gpus.into(), "GPU");
        more(wants.cpu_millis, capacity.cpu_millis, cpus).map(&mut refuse);
        more(wants.memory, capacity.memory, memory).map(&mut refuse);
        more(wants.gpu, capacity.gpu, gpus).map(&mut refuse);
    }
    if refused.is_empty() { Ok(()) } else { Err(CommandError::diags(project.source.clone(), refused)) }
}

/// The context's certificate authorities: a file that must be there.
pub(crate) fn authorities(context: &Context) -> Result<Option<PathBuf>, CommandError> {
    let Some(path) = context.merged.ca.as_ref().map(PathBuf::from) else { return Ok(None) };
    let origin = context.origins.get("ca").map(ToString::to_string).unwrap_or_default();
    let what = format!("`ca` of the context `{}` ({origin}) is `{}`", context.name, path.display());
    let text = std::fs::read(&path).map_err(|error| CommandError::missing(what.clone()).because(&error))?;
    if !text.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Err(CommandError::missing(what).cause("it holds no certificate in PEM form"));
    }
    Ok(Some(path))
}

/// What a certificate in PEM form begins with.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What is asked for and what there is, in words, if it is more.
fn more<T: PartialOrd + Copy>(
    wanted: Option<T>,
    there: Option<T>,
    words: impl Fn(T) -> String,
) -> Option<(String, String)> {
    let (wanted, there) = (wanted?, there?);
    (wanted > there).then(|| (words(wanted), words(there)))
}

/// The steps that a plan needs.
pub(crate) fn steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.needed().map(|ix| plan.step(ix))
}

/// A step's `sources`, and those of its outputs' places where there is something.
type Wishes<'a> = (Option<&'a [String]>, Vec<&'a str>);

/// The source trees of steps.
pub(crate) type Trees = HashMap<StepIx, Arc<SourceTree>>;

/// The source tree of every step that the plan needs.
pub(crate) fn sources(project: &Project, plan: &Plan, files: &Files) -> Result<Trees, CommandError> {
    let everywhere = excluded(plan, files);
    let mut trees = HashMap::new();
    // Thousands of steps mostly have few different trees.
    let mut known: HashMap<Wishes<'_>, Arc<SourceTree>> = HashMap::new();
    let mut errors = BTreeMap::<String, (String, BTreeSet<String>)>::new();
    for ix in plan.needed() {
        let step = plan.step(ix);
        // A file left by a run by hand must not pass for an output.
        let places = step.outputs.iter().filter_map(|output| output.at.as_deref());
        let own: Vec<&str> = places.filter(|place| files.snapshot.has(place)).collect();
        let alike = (step.sources.as_deref(), own);
        if let Some(tree) = known.get(&alike) {
            trees.insert(ix, Arc::clone(tree));
            continue;
        }
        let mut excluded = everywhere.clone();
        excluded.extend(alike.1.iter().map(|&place| place.to_owned()));
        match files.snapshot.tree(step.sources.as_deref(), &excluded) {
            Ok(tree) => {
                known.insert(alike, tree.clone());
                trees.insert(ix, tree);
            }
            Err(found) => {
                for SourceError { path, problem } in found {
                    errors.entry(path).or_insert_with(|| (problem, BTreeSet::new())).1.insert(step.name.clone());
                }
            }
        }
    }
    if errors.is_empty() {
        return Ok(trees);
    }
    let error = CommandError::new(Kind::Usage, format!("the sources of `{}` cannot be used", project.workflow.name));
    let lines = errors.into_iter().map(|(path, (problem, steps))| {
        let steps: Vec<String> = steps.into_iter().take(3).collect();
        format!("{path} {problem} (a source of {})", steps.join(", "))
    });
    Err(lines.fold(error, CommandError::cause).hint(SourceError::HELP))
}

/// Globs of `sources` that match nothing: mostly a slip of the pen.
pub(crate) fn unmatched_sources(plan: &Plan, trees: &Trees) -> Vec<Diag> {
    let of_step = |ix: StepIx| {
        let step = plan.step(ix);
        trees.get(&ix).into_iter().flat_map(|tree| &tree.unmatched).map(move |glob| {
            let message = format!("`sources` of `{}` names `{glob}`, which matches no file", step.name);
            Diag::warning("unmatched-source", step.span, message)
                .help("ignored files, declared inputs and exports are never sources")
        })
    };
    plan.needed().flat_map(of_step).collect()
}

/// What is never a source: declared inputs, and what runs export.
fn excluded(plan: &Plan, files: &Files) -> Vec<String> {
    let Declared { mut paths, globs } = plan.declared_paths();
    paths.extend(files.snapshot.matching(&globs));
    let outputs = plan.workflow.steps.iter().flat_map(|step| &step.outputs);
    paths.extend(outputs.filter_map(|output| output.export.clone()));
    paths.into_iter().collect()
}

/// The digest of each project file that is an input; `digest` may store it too. All that is missing is one error.
pub(crate) fn inputs(
    project: &Project,
    plan: &Plan,
    digest: impl Fn(&str) -> Result<Artifact, StoreError>,
) -> Result<HashMap<String, Result<Artifact, String>>, CommandError> {
    let mut found = HashMap::new();
    let mut missing = Vec::new();
    for (path, ix, span) in plan.project_paths() {
        if found.contains_key(&path) {
            continue;
        }
        match digest(&path) {
            Ok(artifact) => drop(found.insert(path, Ok(artifact))),
            Err(error) => {
                let message = format!("`{}` needs `{path}`, which cannot be read", plan.step(ix).name);
                missing.push(
                    Diag::error("missing-input", span, message)
                        .label(CommandError::missing("").because(&error).causes.join(": ")),
                );
            }
        }
    }
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(CommandError::new(Kind::Missing, "").about(&project.source, missing))
    }
}

/// Puts the facts together.
pub(crate) fn facts(
    (project, context, plan): (&Project, &Context, &Plan),
    target: &Target,
    trees: &Trees,
    realisations: &BTreeMap<String, Realisation>,
    files: HashMap<String, Result<Artifact, String>>,
    lock: &Lock,
) -> Result<Facts, CommandError> {
    Ok(Facts {
        sources: trees.iter().map(|(ix, tree)| (*ix, tree.digest)).collect(),
        environments: realisations.iter().map(|(name, realisation)| (name.clone(), realisation.digest)).collect(),
        host: Some(environment::host(&target.platform)),
        files,
        urls: lock.urls.iter().map(|(url, locked)| (url.clone(), locked.artifact())).collect(),
        settings: secret::settings(context, &project.source, steps(plan))?,
    })
}
