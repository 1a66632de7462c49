//! `mlctl status`

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use indexmap::IndexMap;
use mlctl_core::event::{Outcome, Status};
use serde_json::json;

use super::complete;
use crate::error::CommandError;
use crate::record::{Ended, InstanceState, Phase, Run, RunState, counts};
use crate::run::attach;
use crate::session::Session;
use crate::ui::style::{BUSY, ERROR, FAINT, GOOD, STRONG, WARNING};
use crate::ui::table::Table;
use crate::ui::{Format, run_view, time};

/// More instances than this are told by step, unless `-v`.
const LISTED: usize = 50;

/// The arguments of `mlctl status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Which run: its id, the beginning of it, or @latest.
    #[arg(value_name = "RUN", default_value = "@latest", hide_default_value = true, add = complete::runs())]
    run: String,
}

/// Shows a run: how it ended or where it is, and each instance.
pub(super) fn status(session: &Session, args: &StatusArgs) -> Result<ExitCode, CommandError> {
    let run = attach::find_fresh(session, &args.run)?;
    let ended = run.ended();
    let state = run.fold();
    match session.ui.format {
        Format::Json => session.ui.json(&report(&run, ended.as_ref(), &state))?,
        Format::Name => session.ui.result(&state.instances.keys().map(|id| format!("{id}\n")).collect::<String>())?,
        Format::Text => {
            let listed = session.ui.verbosity == crate::ui::Verbosity::Verbose || state.instances.len() <= LISTED;
            let table = if listed { by_instance(&state) } else { by_step(&state) };
            session.ui.result(&(head(&run, ended.as_ref(), &state) + "\n" + &table.render()))?;
            if !listed {
                session.ui.note("`-v` lists every instance");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A run and its instances as JSON.
pub(super) fn report(run: &Run, ended: Option<&Ended>, state: &RunState) -> serde_json::Value {
    let mut report = super::runs::report(run, ended);
    let now = time::now();
    let instances = state.instances.iter().map(|(id, instance)| {
        json!({
            "instance": id,
            "status": instance.phase.name(),
            "attempts": instance.attempts,
            "started": instance.started,
            "finished": instance.finished,
            "took": instance.took(now),
            "reason": instance.reason,
            "failure": instance.failure,
            "key": instance.key,
            "values": instance.result.as_ref().map(|result| &result.values),
            "artifacts": instance.result.as_ref().map(|result| &result.artifacts),
        })
    });
    report["tally"] = json!(state.tally());
    report["instances"] = instances.collect();
    report["highlights"] = json!(ended.map(|ended| &ended.highlights));
    report
}

fn head(run: &Run, ended: Option<&Ended>, state: &RunState) -> String {
    let now = time::now();
    let meta = &run.meta;
    let until = ended.map_or(now, |ended| ended.at);
    let mut text = format!(
        "run {STRONG}{}{STRONG:#} {}, started {}, {} {}\n",
        run.id(),
        outcome(ended.map(|ended| ended.outcome)),
        time::ago(now, meta.started),
        if ended.is_some() { "took" } else { "runs for" },
        time::duration(until.saturating_sub(meta.started)),
    );
    let _ = writeln!(text, "  instances  {}", run_view::counts(&counts(state.instances.values())));
    if let Some(base) = &meta.reused {
        let _ = writeln!(text, "  reused     nothing had to be done: all is as run {base} made it");
    }
    let _ = writeln!(text, "  command    {}", command_line(&meta.argv, 200));
    let _ = writeln!(text, "  context    {}", meta.context);
    if !meta.params.is_empty() {
        let params: Vec<String> = meta.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = writeln!(text, "  params     {}", crate::ui::clean::line(params.join(" ").as_bytes(), 200));
    }
    if let Some(commit) = &meta.commit {
        let changed = match ended.and_then(|ended| ended.dirty) {
            Some(true) => ", with changes",
            _ => "",
        };
        let _ = writeln!(text, "  commit     {}{changed}", commit.get(..12).unwrap_or(commit));
    }
    let _ = writeln!(text, "  record     {}", crate::ui::relative(run.dir()));
    text
}

fn by_instance(state: &RunState) -> Table {
    let mut table = Table::new(&["INSTANCE", "STATUS", "ATTEMPTS", "TOOK", "WHY"]);
    for (id, instance) in &state.instances {
        table.row(row(id, instance));
    }
    table
}

fn row(id: &str, instance: &InstanceState) -> [String; 5] {
    let attempts = if instance.attempts > 0 { instance.attempts.to_string() } else { String::new() };
    let took = instance.took(time::now()).map(time::duration).unwrap_or_default();
    [id.to_owned(), phase(instance.phase), attempts, took, why(instance)]
}

/// Why it failed, was skipped or cancelled, in a few words.
pub(super) fn why(instance: &InstanceState) -> String {
    let failure = instance.failure.as_ref().map(ToString::to_string);
    let reason = instance.reason.as_ref().map(run_view::explain);
    [failure, reason].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// One row a step, and one each for what failed.
fn by_step(state: &RunState) -> Table {
    let mut steps: IndexMap<&str, Vec<&InstanceState>> = IndexMap::new();
    for (id, instance) in &state.instances {
        steps.entry(super::select::step_of(id)).or_default().push(instance);
    }
    let mut table = Table::new(&["STEP", "INSTANCES", "STATUS"]);
    for (step, instances) in steps {
        let number = instances.len().to_string();
        table.row([step.to_owned(), number, run_view::counts(&counts(instances))]);
    }
    let failed = state.instances.iter().filter(|(_, instance)| instance.phase == Phase::Finished(Status::Failed));
    for (id, instance) in failed.take(LISTED) {
        table.row([id.clone(), String::new(), format!("{}: {}", phase(instance.phase), why(instance))]);
    }
    table
}

/// The word for a run's status, coloured.
pub(super) fn outcome(outcome: Option<Outcome>) -> String {
    let style = match outcome {
        None => BUSY,
        Some(Outcome::Succeeded) => GOOD,
        Some(Outcome::Failed | Outcome::TimedOut) => ERROR,
        Some(Outcome::Cancelled | Outcome::Interrupted) => WARNING,
    };
    format!("{style}{}{style:#}", word(outcome))
}

/// The word for a run's status.
pub(super) const fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        None => "running",
        Some(Outcome::Succeeded) => "succeeded",
        Some(Outcome::Failed) => "failed",
        Some(Outcome::TimedOut) => "timed-out",
        Some(Outcome::Cancelled) => "cancelled",
        Some(Outcome::Interrupted) => "interrupted",
    }
}

fn phase(phase: Phase) -> String {
    let style = match phase {
        Phase::Finished(Status::Succeeded) => GOOD,
        Phase::Finished(Status::Failed) => ERROR,
        Phase::Running | Phase::Retrying => BUSY,
        Phase::Finished(Status::Cancelled) => WARNING,
        Phase::Pending | Phase::Finished(Status::Cached | Status::Skipped) => FAINT,
    };
    format!("{style}{}{style:#}", phase.name())
}

/// A command line, quoted where a shell would need it, and cut.
pub(super) fn command_line(argv: &[String], most: usize) -> String {
    let plain = |word: &String| {
        let safe = |c: char| c.is_alphanumeric() || "-_./=:@,+%*[]".contains(c);
        if !word.is_empty() && word.chars().all(safe) { word.clone() } else { format!("{word:?}") }
    };
    // What it was called by is of no interest, nor where it lay.
    let line = std::iter::once("mlctl".to_owned()).chain(argv.iter().skip(1).map(plain)).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
