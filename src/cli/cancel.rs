//! `mlctl cancel`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::complete;
use crate::error::CommandError;
use crate::session::Session;
use crate::ui::time;

/// The arguments of `mlctl cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Which run: its id, the beginning of it, or @latest.
    #[arg(value_name = "RUN", add = complete::runs())]
    run: String,
}

/// Ends a run: its steps are told to stop, then killed. Returns when the run has ended.
pub(super) fn cancel(session: &Session, args: &CancelArgs) -> Result<ExitCode, CommandError> {
    let run = session.runs()?.find(&args.run)?;
    let ui = &session.ui;
    if let Some(ended) = run.ended() {
        ui.note(&format!("run {} has ended already: {}", run.id(), super::status::word(Some(ended.outcome))));
        return Ok(ExitCode::SUCCESS);
    }
    let by = json!({ "at": time::now(), "pid": std::process::id(), "user": std::env::var("USER").ok() });
    run.request_cancel(&by).map_err(|error| {
        CommandError::missing(format!("cannot ask run `{}` to end", run.id()))
            .because(&error)
            .hint("only who may write to the project can cancel its runs")
    })?;
    ui.note(&format!("run {}: waiting for its steps to end", run.id()));
    let ended = loop {
        if let Some(ended) = run.ended() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if ui.is_json() {
        ui.json(&super::runs::report(&run, Some(&ended)))?;
    } else {
        ui.result(&format!("run {} {}\n", run.id(), super::status::word(Some(ended.outcome))))?;
    }
    Ok(ExitCode::SUCCESS)
}
