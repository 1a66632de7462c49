//! `mlctl cancel`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use mlctl_core::event::Reason;
use serde_json::json;

use super::complete;
use crate::engine::argo::Manner;
use crate::error::CommandError;
use crate::record::{Ended, Run};
use crate::run::attach::{self, Attached};
use crate::session::Session;
use crate::ui::time;

/// How often it is looked whether another process has seen the end of a run.
const LOOK: Duration = Duration::from_millis(20);

/// The arguments of `mlctl cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Which run: its id, the beginning of it, or @latest.
    #[arg(value_name = "RUN", add = complete::runs())]
    run: String,
}

/// Ends a run: its steps are told to stop, then killed. Returns when the run has ended.
pub(super) fn cancel(session: &Session, args: &CancelArgs) -> Result<ExitCode, CommandError> {
    let run = attach::find(session, &args.run)?;
    let ui = &session.ui;
    if let Some(ended) = run.ended() {
        ui.note(&format!("run {} has ended already: {}", run.id(), super::status::word(Some(ended.outcome))));
        if ui.is_json() {
            ui.json(&super::runs::report(&run, Some(&ended)))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ended = match Attached::to(session, &run)? {
        Some(attached) => on_cluster(session, &run, &attached)?,
        None => here(session, &run)?,
    };
    if ui.is_json() {
        ui.json(&super::runs::report(&run, Some(&ended)))?;
    } else {
        ui.result(&format!("run {} {}\n", run.id(), super::status::word(Some(ended.outcome))))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn here(session: &Session, run: &Run) -> Result<Ended, CommandError> {
    let by = json!({ "at": time::now(), "pid": std::process::id(), "user": std::env::var("USER").ok() });
    run.request_cancel(&by).map_err(|error| {
        CommandError::missing(format!("cannot ask run `{}` to end", run.id()))
            .because(&error)
            .hint("only who may write to the project can cancel its runs")
    })?;
    session.ui.note(&format!("run {}: waiting for its steps to end", run.id()));
    Ok(until_ended(run))
}

/// Waits for the record of a run that another process writes.
fn until_ended(run: &Run) -> Ended {
    loop {
        if let Some(ended) = run.ended() {
            return ended;
        }
        std::thread::sleep(LOOK);
    }
}

/// Tells the cluster, and stays until nothing of the run is left there.
fn on_cluster(session: &Session, run: &Run, attached: &Attached) -> Result<Ended, CommandError> {
    session.ui.note(&format!("run {}: waiting for its pods to end", run.id()));
    let mut told = false;
    let follow = attached.follow_in_turn(|| {
        // Whoever follows it writes the record, and may stop doing so.
        if !std::mem::replace(&mut told, true) {
            attached.place.cancel(Reason::Cancelled, false)?;
        }
        std::thread::sleep(LOOK);
        Ok(())
    })?;
    let ended = match follow {
        None => run.ended(),
        Some(mut follow) => {
            follow.notes = Some(&session.ui);
            follow.until_ended(Manner::Watching, None, Some(Reason::Cancelled))?;
            attached.close(&session.ui, follow)?
        }
    };
    let ended = ended.ok_or_else(|| {
        CommandError::new(
            crate::error::Kind::Interrupted,
            format!("run `{}` was told to end, and still runs", run.id()),
        )
    })?;
    attached.place.sweep().map(|()| ended)
}
