//! `mlctl why`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use mlctl_core::digest::Digest;
use mlctl_core::event::{Reason, Status};
use serde_json::json;

use super::{complete, select};
use crate::error::CommandError;
use crate::record::{InstanceState, Phase, Run, Runs};
use crate::session::{Session, provenance};
use crate::ui::run_view;
use crate::ui::style::{FAINT, STRONG};

/// How many earlier runs are searched for a result to compare with.
const SEARCHED: usize = 50;

/// The arguments of `mlctl why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// An instance, as `train@depth=2`, or a step that has only one.
    #[arg(value_name = "INSTANCE", add = complete::instances())]
    instance: String,
    /// In which run: its id, the beginning of it, or @latest.
    #[arg(long, value_name = "RUN", default_value = "@latest", hide_default_value = true, add = complete::runs())]
    run: String,
}

/// What became of an instance in a run, and why.
struct Explanation {
    /// One sentence.
    why: String,
    /// The earlier run that it is compared with.
    compared: Option<String>,
    /// What is different, by component: before and now.
    changes: BTreeMap<String, (Option<Digest>, Option<Digest>)>,
    /// Further sentences.
    notes: Vec<String>,
}

/// Explains why an instance ran, was reused, skipped or cancelled.
pub(super) fn why(session: &Session, args: &WhyArgs) -> Result<ExitCode, CommandError> {
    let runs = session.runs()?;
    let run = runs.find(&args.run)?;
    let state = run.fold();
    let id = select::instance(&run, &state, &args.instance)?;
    let instance = &state.instances[&id];
    let explanation = explain(&runs, &run, &id, instance);
    if session.ui.is_json() {
        let changes: BTreeMap<_, _> = explanation
            .changes
            .iter()
            .map(|(name, (before, now))| (name, json!({ "before": before, "now": now })))
            .collect();
        session.ui.json(&json!({
            "run": run.id(),
            "instance": id,
            "status": instance.phase.name(),
            "why": explanation.why,
            "key": instance.key,
            "components": instance.components,
            "compared_with": explanation.compared,
            "changes": changes,
            "notes": explanation.notes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text =
        format!("{STRONG}{id}{STRONG:#} {} in run {}: {}\n", instance.phase.name(), run.id(), explanation.why);
    for (name, (before, now)) in &explanation.changes {
        let change = match (before, now) {
            (Some(before), Some(now)) => format!("changed  {FAINT}{} -> {}{FAINT:#}", before.short(), now.short()),
            (None, _) => "added".into(),
            (_, None) => "removed".into(),
        };
        let _ = writeln!(text, "  {name}  {change}");
    }
    for note in &explanation.notes {
        let _ = writeln!(text, "  {note}");
    }
    session.ui.result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn explain(runs: &Runs, run: &Run, id: &str, instance: &InstanceState) -> Explanation {
    let plain = |why: String| Explanation { why, compared: None, changes: BTreeMap::new(), notes: Vec::new() };
    match instance.phase {
        Phase::Pending => plain("what it needs is not done yet, or there is no room for it".into()),
        Phase::Finished(Status::Skipped | Status::Cancelled) => {
            let mut explanation = plain(instance.reason.as_ref().map_or_else(String::new, run_view::explain));
            if let Some(Reason::DependencyFailed { instance, .. } | Reason::DependencySkipped { instance }) =
                &instance.reason
            {
                explanation.notes.push(format!("see: mlctl why {instance} --run {}", run.id()));
            }
            explanation
        }
        Phase::Finished(Status::Cached) => reused(run, instance),
        Phase::Running | Phase::Retrying | Phase::Finished(Status::Succeeded | Status::Failed) => {
            let mut explanation = ran(runs, run, id, instance);
            explanation.notes.extend(instance.failure.as_ref().map(|failure| format!("it failed: {failure}")));
            explanation
        }
    }
}

/// It was reused: everything that its key is made of is as it was.
fn reused(run: &Run, instance: &InstanceState) -> Explanation {
    let mut notes = Vec::new();
    let maker = instance.key.as_ref().and_then(provenance);
    if let Some(maker) = maker {
        notes.push(format!("made by `{}` in run {}", maker.instance, maker.run));
    } else if let Some(base) = &run.meta.reused {
        notes.push(format!("nothing had to be done in this run: all is as run {base} made it"));
    }
    Explanation {
        why: "everything that it depends on is as it was when its result was made".into(),
        compared: None,
        changes: BTreeMap::new(),
        notes,
    }
}

/// It ran: because there was no result for its key. What is different from the latest one that there was?
fn ran(runs: &Runs, run: &Run, id: &str, instance: &InstanceState) -> Explanation {
    let none = |why: &str| Explanation { why: why.into(), compared: None, changes: BTreeMap::new(), notes: Vec::new() };
    let Some(key) = instance.key else {
        return none("its result may not be reused (`cache = false`, `finally`, or its command uses `run.id`)");
    };
    let earlier = runs.list().skip_while(|other| other.id() != run.id()).skip(1).take(SEARCHED);
    let earlier = earlier.filter_map(|other| {
        let state = other.fold().instances.swap_remove(id)?;
        state.key.is_some().then(|| (other.id().to_owned(), state))
    });
    let Some((other, before)) = earlier.into_iter().next() else {
        return none("no earlier run has a result of it");
    };
    if before.key == Some(key) {
        let why = match before.phase {
            Phase::Finished(Status::Succeeded | Status::Cached) => {
                format!("nothing changed since run {other}: it was forced, or the store had lost the result")
            }
            _ => format!("nothing changed since run {other}, but it did not succeed there"),
        };
        return Explanation { compared: Some(other), ..none(&why) };
    }
    let changes = differences(&before.components, &instance.components);
    let why = if changes.is_empty() {
        // Components are recorded when an instance is done.
        format!("what its key is made of changed since run {other}")
    } else {
        format!("{} since run {other}", if changes.len() == 1 { "one thing changed" } else { "these changed" })
    };
    Explanation { why, compared: Some(other), changes, notes: Vec::new() }
}

fn differences(
    before: &BTreeMap<String, Digest>,
    now: &BTreeMap<String, Digest>,
) -> BTreeMap<String, (Option<Digest>, Option<Digest>)> {
    if before.is_empty() || now.is_empty() {
        return BTreeMap::new();
    }
    let names = before.keys().chain(now.keys());
    names
        .map(|name| (name.clone(), (before.get(name).copied(), now.get(name).copied())))
        .filter(|(_, (before, now))| before != now)
        .collect()
}
