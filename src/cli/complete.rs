//! Values for the shells to complete. They read files only: nothing is executed, no network is reached, and what
//! cannot be read offers nothing.

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::session::{Project, Session};
use crate::ui::{Color, Format, Ui, Verbosity};

/// How many runs are worth offering.
const RUNS: usize = 20;

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
pub(super) fn instances() -> ArgValueCandidates {
    ArgValueCandidates::new(|| project().map(|project| instance_ids(&project)).unwrap_or_default())
}

/// The environments of the project.
pub(super) fn environments() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Some(project) = project() else { return Vec::new() };
        project.workflow.environments.keys().map(CompletionCandidate::new).collect()
    })
}

/// What steps make.
pub(super) fn outputs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Some(project) = project() else { return Vec::new() };
        let steps = project.workflow.steps.iter();
        steps
            .flat_map(|step| step.outputs.iter().map(|output| format!("{}.{}", step.name, output.name)))
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// Params, with `=` behind them.
pub(super) fn params() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Some(project) = project() else { return Vec::new() };
        let params = project.workflow.params.iter();
        params
            .map(|(name, declared)| {
                CompletionCandidate::new(format!("{name}=")).help(declared.help.clone().map(Into::into))
            })
            .collect()
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

/// A session for the project that the line at hand names: `mlctl -- mlctl -C DIR ...` is what the shells ask with.
fn session() -> Session {
    let mut words = std::env::args_os().skip_while(|word| word != "--");
    let named = words.by_ref().find(|word| word == "-C" || word == "--project").and_then(|_| words.next());
    let start = named.map_or_else(|| ".".into(), Into::into);
    Session::new(Ui::new(Color::Never, Format::Text, Verbosity::Quiet), start, None)
}

fn project() -> Option<Project> {
    session().project().ok()
}

fn instance_ids(project: &Project) -> Vec<CompletionCandidate> {
    project.workflow.steps.iter().map(|step| CompletionCandidate::new(&step.name)).collect()
}
