//! `mlctl runs`

use std::process::ExitCode;

use clap::Args;
use mlctl_core::event::{Event, Outcome, Recorded};
use serde_json::json;

use crate::error::CommandError;
use crate::record::{Ended, Run, RunMeta, counts};
use crate::run::attach;
use crate::session::Session;
use crate::ui::table::Table;
use crate::ui::{Format, run_view, time};

/// The arguments of `mlctl runs`.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Show at most N runs, the latest first.
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Show all runs.
    #[arg(short, long, conflicts_with = "limit")]
    all: bool,
}

/// A run in the list.
struct Listed {
    meta: RunMeta,
    /// How it ended, and when.
    ended: Option<(Outcome, u64)>,
    /// How many instances ended how, or are where.
    instances: String,
    report: serde_json::Value,
}

/// Lists the runs, the latest first.
pub(super) fn runs(session: &Session, args: &RunsArgs) -> Result<ExitCode, CommandError> {
    let limit = if args.all { usize::MAX } else { args.limit };
    let elsewhere = attach::listed(session)?;
    let runs = session.runs()?;
    let here = runs.names();
    let elsewhere: Vec<_> = elsewhere.into_iter().filter(|(meta, _)| !here.contains(&meta.id)).collect();
    let total = here.len() + elsewhere.len();
    let ui = &session.ui;
    if ui.format == Format::Name && elsewhere.is_empty() {
        ui.result(&here.iter().take(limit).map(|id| format!("{id}\n")).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut all: Vec<Listed> = runs.list().take(limit).map(|run| known(session, &run)).collect();
    let here = all.len();
    all.extend(elsewhere.into_iter().map(|(meta, ended)| of_store(meta, ended.as_ref())));
    // Those here are in order, whatever clocks say.
    if all.len() > here {
        all.sort_by_key(|listed| std::cmp::Reverse(listed.meta.started));
        all.truncate(limit);
    }
    match ui.format {
        Format::Json => ui.json(&all.iter().map(|listed| &listed.report).collect::<Vec<_>>())?,
        Format::Name => ui.result(&all.iter().map(|listed| format!("{}\n", listed.meta.id)).collect::<String>())?,
        Format::Text if all.is_empty() => ui.note("there are no runs yet: `mlctl run` makes the first one"),
        Format::Text => {
            let now = time::now();
            let mut table = Table::new(&["RUN", "STATUS", "STARTED", "TOOK", "INSTANCES", "COMMAND"]);
            for listed in &all {
                table.row(row(listed, now));
            }
            ui.result(&table.render())?;
            if total > limit {
                ui.note(&format!("{limit} of {total} runs; `-a` shows all"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A run with a record here, brought up to date.
fn known(session: &Session, run: &Run) -> Listed {
    attach::refresh(session, run);
    let ended = run.ended();
    let instances = match &ended {
        Some(ended) => run_view::tally(&ended.tally),
        None => run_view::counts(&counts(run.fold().instances.values())),
    };
    let report = report(run, ended.as_ref());
    Listed { meta: run.meta.clone(), ended: ended.map(|ended| (ended.outcome, ended.at)), instances, report }
}

/// A run that only a cluster's store knows. Its instances are counted when somebody looks at it.
fn of_store(meta: RunMeta, ended: Option<&Recorded>) -> Listed {
    let ended = ended.and_then(|recorded| match recorded.event {
        Event::RunFinished { outcome } => Some((outcome, recorded.at)),
        _ => None,
    });
    let report = report_of(&meta, ended);
    Listed { meta, ended, instances: String::new(), report }
}

fn row(listed: &Listed, now: u64) -> [String; 6] {
    let started = listed.meta.started;
    let until = listed.ended.map_or(now, |(_, at)| at);
    [
        listed.meta.id.clone(),
        super::status::outcome(listed.ended.map(|(outcome, _)| outcome)),
        time::ago(now, started),
        time::duration(until.saturating_sub(started)),
        listed.instances.clone(),
        super::status::command_line(&listed.meta.argv, 60),
    ]
}

/// A run as JSON, without its instances.
pub(super) fn report(run: &Run, ended: Option<&Ended>) -> serde_json::Value {
    let mut report = report_of(&run.meta, ended.map(|ended| (ended.outcome, ended.at)));
    report["tally"] = json!(ended.map(|ended| ended.tally));
    report["dirty"] = json!(ended.and_then(|ended| ended.dirty));
    report["dir"] = json!(run.dir());
    report
}

fn report_of(meta: &RunMeta, ended: Option<(Outcome, u64)>) -> serde_json::Value {
    json!({
        "run": meta.id,
        "status": super::status::word(ended.map(|(outcome, _)| outcome)),
        "started": meta.started,
        "ended": ended.map(|(_, at)| at),
        "tally": null,
        "argv": meta.argv,
        "targets": meta.targets,
        "params": meta.params,
        "context": meta.context,
        "cluster": meta.cluster,
        "spec": meta.spec,
        "commit": meta.commit,
        "dirty": null,
        "mlctl": meta.mlctl,
        "reused": meta.reused,
        "dir": null,
    })
}
