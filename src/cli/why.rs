//! `mlctl why`

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use mlctl_core::digest::Digest;
use mlctl_core::event::{Reason, Status};
use serde_json::json;

use super::{complete, select};
use crate::error::CommandError;
use crate::record::{InstanceState, Phase, Run, Runs};
use crate::run::attach;
use crate::session::{Session, open_store};
use crate::ui::run_view;
use crate::ui::style::STRONG;

pub(super) mod changes;

use changes::{Change, Side};

/// How many earlier runs are searched for a result to compare with.
const SEARCHED: usize = 50;

/// The arguments of `mlctl why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// An instance, as `train@depth=2`, or a step that has only one.
    #[arg(value_name = "INSTANCE", add = complete::run_instances())]
    instance: String,
    /// In which run: its id, the beginning of it, or @latest.
    #[arg(long, value_name = "RUN", default_value = "@latest", hide_default_value = true, add = complete::runs())]
    run: String,
}

/// What became of an instance in a run, and why.
#[derive(Default)]
struct Explanation {
    /// One sentence.
    why: String,
    /// The earlier run that it is compared with.
    compared: Option<String>,
    /// What is different.
    changes: Vec<Change>,
    /// Further sentences.
    notes: Vec<String>,
}

impl Explanation {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), ..Self::default() }
    }
}

/// Explains why an instance ran, was reused, skipped or cancelled.
pub(super) fn why(session: &Session, args: &WhyArgs) -> Result<ExitCode, CommandError> {
    let run = attach::find_fresh(session, &args.run)?;
    let state = run.fold();
    let id = select::instance(&run, &state, &args.instance)?;
    let instance = &state.instances[&id];
    let explanation = explain(session, &run, &id, instance)?;
    if session.ui.is_json() {
        session.ui.json(&json!({
            "run": run.id(),
            "instance": id,
            "status": instance.phase.name(),
            "why": explanation.why,
            "key": instance.key,
            "components": instance.components,
            "compared_with": explanation.compared,
            "changes": explanation.changes,
            "notes": explanation.notes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text =
        format!("{STRONG}{id}{STRONG:#} {} in run {}: {}\n", instance.phase.name(), run.id(), explanation.why);
    for change in &explanation.changes {
        let _ = writeln!(text, "  {}: {}", change.component, change.what);
    }
    for note in &explanation.notes {
        let _ = writeln!(text, "  {note}");
    }
    session.ui.result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn explain(session: &Session, run: &Run, id: &str, instance: &InstanceState) -> Result<Explanation, CommandError> {
    Ok(match instance.phase {
        Phase::Pending => Explanation::new("what it needs is not done yet, or there is no room for it"),
        Phase::Finished(Status::Skipped | Status::Cancelled) => {
            let mut explanation =
                Explanation::new(instance.reason.as_ref().map_or_else(String::new, run_view::explain));
            if let Some(Reason::DependencyFailed { instance, .. } | Reason::DependencySkipped { instance }) =
                &instance.reason
            {
                explanation.notes.push(format!("see: mlctl why {instance} --run {}", run.id()));
            }
            explanation
        }
        Phase::Finished(Status::Cached) => reused(session, run, instance),
        Phase::Running | Phase::Retrying | Phase::Finished(Status::Succeeded | Status::Failed) => {
            let mut explanation = ran(&session.runs()?, run, id, instance);
            explanation.notes.extend(instance.failure.as_ref().map(|failure| format!("it failed: {failure}")));
            explanation
        }
    })
}

/// It was reused: everything that its key is made of is as it was.
fn reused(session: &Session, run: &Run, instance: &InstanceState) -> Explanation {
    let mut explanation = Explanation::new("everything that it depends on is as it was when its result was made");
    if let Some(maker) = instance.key.and_then(|key| attach::provenance(session, run, &key)) {
        explanation.notes.push(format!("made by `{}` in run {}", maker.instance, maker.run));
    } else if let Some(base) = &run.meta.reused {
        explanation.notes.push(format!("nothing had to be done in this run: all is as run {base} made it"));
    }
    explanation
}

/// It ran: because there was no result for its key. What is different from the latest one that there was?
fn ran(runs: &Runs, run: &Run, id: &str, instance: &InstanceState) -> Explanation {
    let Some(key) = instance.key else {
        return Explanation::new("its result may not be reused (`cache = false`, `finally`, or it uses `run.id`)");
    };
    let Some((other, before)) = earlier(runs, run, id) else {
        return Explanation::new("no earlier run has a result of it");
    };
    if before.key == Some(key) {
        let why = match before.phase {
            Phase::Finished(Status::Succeeded | Status::Cached) => "it was forced, or the store had lost its result",
            _ => "but it did not succeed there",
        };
        let why = format!("nothing changed since run {}: {why}", other.id());
        return Explanation { compared: Some(other.id().to_owned()), ..Explanation::new(why) };
    }
    let store = open_store().ok();
    // Components stand in the record of what ran and is done; the store has those of what was reused.
    let components = |state: &InstanceState| match (&state.key, &store) {
        (Some(key), Some(store)) if state.components.is_empty() => {
            store.peek(key).map(|entry| entry.components).unwrap_or_default()
        }
        _ => state.components.clone(),
    };
    let (was, is) = (components(&before), components(instance));
    let mut explanation = Explanation { compared: Some(other.id().to_owned()), ..Explanation::default() };
    if was.is_empty() || is.is_empty() {
        explanation.why = format!("something that it depends on changed since run {}", other.id());
        return explanation;
    }
    let (before, now) = (Side::of(&was, &other.meta), Side::of(&is, &run.meta));
    let manifest = |digest: &Digest| store.as_ref()?.manifest(digest).ok();
    explanation.changes = changes::between(&before, &now, &manifest);
    let what = if explanation.changes.len() == 1 { "this" } else { "these" };
    explanation.why = format!("{what} changed since run {}", other.id());
    explanation
}

/// The latest earlier result of an instance; where there is none, its latest attempt at one.
fn earlier(runs: &Runs, run: &Run, id: &str) -> Option<(Run, InstanceState)> {
    let earlier = runs.list().skip_while(|other| other.id() != run.id()).skip(1).take(SEARCHED);
    let mut attempt = None;
    for other in earlier {
        let Some(state) = other.fold().instances.swap_remove(id).filter(|state| state.key.is_some()) else { continue };
        if matches!(state.phase, Phase::Finished(Status::Succeeded | Status::Cached)) {
            return Some((other, state));
        }
        attempt = attempt.or(Some((other, state)));
    }
    attempt
}
