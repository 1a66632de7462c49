//! Values for the shells to complete. They read files only: nothing is executed, no network is reached, and what
//! cannot be read offers nothing.

use std::ffi::OsStr;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use indexmap::IndexSet;
use mlctl_core::plan::Request;
use mlctl_core::value::Type;
use mlctl_core::workflow::ParamDecl;

use super::select::step_of;
use crate::session::{Project, Session};
use crate::ui::{Color, Format, Ui, Verbosity};

/// How many runs are worth offering.
const RUNS: usize = 20;
/// How many instances are offered beside the steps.
const FEW: usize = 50;

/// The contexts there are.
pub(super) fn contexts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let names = project().and_then(|project| {
            let layers = session().contexts(&project).ok()?;
            Some(layers.names().map(CompletionCandidate::new).collect())
        });
        names.unwrap_or_default()
    })
}

/// Steps, and their instances as far as the spec alone tells.
pub(super) fn instances() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let ids = project().map(|project| planned(&project)).unwrap_or_default();
        instances_of(ids, current)
    })
}

/// The steps and instances of the run that the line names, or of the latest.
pub(super) fn run_instances() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let run = session().runs().and_then(|runs| runs.find(&named(&["--run"]).unwrap_or_else(|| "@latest".into())));
        instances_of(run.map(|run| run.instances()).unwrap_or_default(), current)
    })
}

/// The environments of the project.
pub(super) fn environments() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Some(project) = project() else { return Vec::new() };
        project.workflow.environments.keys().map(CompletionCandidate::new).collect()
    })
}

/// What steps make, or once an instance is begun, what it makes.
pub(super) fn outputs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(project) = project() else { return Vec::new() };
        let ids = if is_instance(current) { planned(&project) } else { Vec::new() };
        let mut found = Vec::new();
        for step in &project.workflow.steps {
            let ids = ids.iter().filter(|id| step_of(id) == step.name).chain([&step.name]);
            found.extend(ids.flat_map(|id| step.outputs.iter().map(move |output| format!("{id}.{}", output.name))));
        }
        beginning_with(current, found)
    })
}

/// Params, with `=` behind them; then the values that they may have.
pub(super) fn params() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(project) = project() else { return Vec::new() };
        let params = &project.workflow.params;
        if let Some((name, _)) = current.to_str().and_then(|current| current.split_once('=')) {
            let values = params.get(name).map(|param| match param.ty {
                Type::Bool => vec!["true".into(), "false".into()],
                _ => param.choices.iter().map(ToString::to_string).collect(),
            });
            let values = values.unwrap_or_default().into_iter().map(|value| format!("{name}={value}"));
            return beginning_with(current, values.collect());
        }
        let begin = current.to_string_lossy();
        let named = params.iter().filter(|(name, _)| name.starts_with(&*begin));
        let help = |param: &ParamDecl| param.help.clone().map(Into::into);
        named.map(|(name, param)| CompletionCandidate::new(format!("{name}=")).help(help(param))).collect()
    })
}

/// The latest runs.
pub(super) fn runs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Ok(runs) = session().runs() else { return Vec::new() };
        let latest = runs.names().iter().take(RUNS).map(CompletionCandidate::new);
        std::iter::once(CompletionCandidate::new("@latest")).chain(latest).collect()
    })
}

/// Every instance that the spec and the params' defaults tell of: none where a param has no default.
fn planned(project: &Project) -> Vec<String> {
    let steps = &project.workflow.steps;
    let names = steps.iter().map(|step| step.name.clone());
    let targets = steps.iter().filter(|step| !step.finally).map(|step| step.name.clone()).collect();
    let plan = mlctl_core::params::bind(&project.workflow, &[]).ok().and_then(|params| {
        let request = Request { targets, ..Request::default() };
        mlctl_core::plan::plan(project.workflow.clone(), params, &request).ok()
    });
    match plan {
        Some(plan) => plan.instances().map(|instance| plan.graph.id(instance)).collect(),
        None => names.collect(),
    }
}

/// The steps of these instances; the instances too once one is begun, or where they are few.
fn instances_of(ids: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let steps: IndexSet<String> = ids.iter().map(|id| step_of(id).to_owned()).collect();
    let listed = if is_instance(current) || ids.len() <= FEW { ids } else { Vec::new() };
    let mut found: Vec<String> = steps.into_iter().chain(listed).collect();
    found.sort();
    found.dedup();
    beginning_with(current, found)
}

fn is_instance(current: &OsStr) -> bool {
    current.to_str().is_some_and(|current| current.contains('@'))
}

fn beginning_with(current: &OsStr, found: Vec<String>) -> Vec<CompletionCandidate> {
    let begin = current.to_string_lossy();
    found.into_iter().filter(|value| value.starts_with(&*begin)).map(CompletionCandidate::new).collect()
}

/// The value of an option on the line at hand: `mlctl -- mlctl -C DIR ...` is what the shells ask with.
fn named(option: &[&str]) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| word != "--");
    words.find(|word| option.contains(&word.as_str())).and_then(|_| words.next())
}

/// A session for the project that the line at hand names.
fn session() -> Session {
    let start = named(&["-C", "--project"]).map_or_else(|| ".".into(), Into::into);
    Session::new(Ui::new(Color::Never, Format::Text, Verbosity::Quiet), start, None)
}

fn project() -> Option<Project> {
    session().project().ok()
}
