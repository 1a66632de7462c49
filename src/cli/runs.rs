//! `mlctl runs`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::error::CommandError;
use crate::record::{Ended, Run, counts};
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

/// Lists the runs, the latest first.
pub(super) fn runs(session: &Session, args: &RunsArgs) -> Result<ExitCode, CommandError> {
    let runs = session.runs()?;
    let limit = if args.all { usize::MAX } else { args.limit };
    let ui = &session.ui;
    match ui.format {
        Format::Json => {
            ui.json(&runs.list().take(limit).map(|run| report(&run, run.ended().as_ref())).collect::<Vec<_>>())?
        }
        Format::Name => ui.result(&runs.names().iter().take(limit).map(|id| format!("{id}\n")).collect::<String>())?,
        Format::Text if runs.names().is_empty() => ui.note("there are no runs yet: `mlctl run` makes the first one"),
        Format::Text => {
            let now = time::now();
            let mut table = Table::new(&["RUN", "STATUS", "STARTED", "TOOK", "INSTANCES", "COMMAND"]);
            for run in runs.list().take(limit) {
                table.row(row(&run, now));
            }
            ui.result(&table.render())?;
            if runs.names().len() > limit {
                ui.note(&format!("{} of {} runs; `-a` shows all", limit, runs.names().len()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(run: &Run, now: u64) -> [String; 6] {
    let ended = run.ended();
    let started = run.meta.started;
    let until = ended.as_ref().map_or(now, |ended| ended.at);
    let tally = match &ended {
        Some(ended) => run_view::tally(&ended.tally),
        None => run_view::counts(&counts(run.fold().instances.values())),
    };
    [
        run.id().to_owned(),
        super::status::outcome(ended.as_ref().map(|ended| ended.outcome)),
        time::ago(now, started),
        time::duration(until.saturating_sub(started)),
        tally,
        super::status::command_line(&run.meta.argv, 60),
    ]
}

/// A run as JSON, without its instances.
pub(super) fn report(run: &Run, ended: Option<&Ended>) -> serde_json::Value {
    let meta = &run.meta;
    json!({
        "run": meta.id,
        "status": super::status::word(ended.map(|ended| ended.outcome)),
        "started": meta.started,
        "ended": ended.map(|ended| ended.at),
        "tally": ended.map(|ended| ended.tally),
        "argv": meta.argv,
        "targets": meta.targets,
        "params": meta.params,
        "context": meta.context,
        "spec": meta.spec,
        "commit": meta.commit,
        "dirty": ended.and_then(|ended| ended.dirty),
        "mlctl": meta.mlctl,
        "reused": meta.reused,
        "dir": run.dir(),
    })
}
