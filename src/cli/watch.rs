//! `mlctl watch`

use std::process::ExitCode;

use clap::Args;

use super::complete;
use crate::error::{CommandError, outcome_code};
use crate::record::Run;
use crate::session::Session;
use crate::ui::run_view::{self, RunView};

/// The arguments of `mlctl watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Which run: its id, the beginning of it, or @latest.
    #[arg(value_name = "RUN", default_value = "@latest", hide_default_value = true, add = complete::runs())]
    run: String,
}

/// Follows a run to its end, and ends with its result.
pub(super) fn watch(session: &Session, args: &WatchArgs) -> Result<ExitCode, CommandError> {
    let run = session.runs()?.find(&args.run)?;
    let ended = if session.ui.is_json() { follow_json(session, &run)? } else { follow(session, &run)? };
    Ok(ExitCode::from(outcome_code(ended)))
}

fn follow(session: &Session, run: &Run) -> Result<mlctl_core::event::Outcome, CommandError> {
    let begun = run.meta.started;
    if let Some(ended) = run.ended() {
        run_view::summarise(&session.ui, run.id(), &ended, ended.at.saturating_sub(begun), run.meta.reused.as_deref())?;
        return Ok(ended.outcome);
    }
    let mut follower = run.follow();
    let mut view = RunView::new(&session.ui, run.id(), run.dir(), run.planned());
    loop {
        // Asked before reading: so what was written last is read.
        let ended = run.ended();
        for recorded in follower.read().unwrap_or_default() {
            view.event(&recorded);
        }
        view.tick();
        if let Some(ended) = ended {
            view.finish(&ended, ended.at.saturating_sub(begun))?;
            return Ok(ended.outcome);
        }
        std::thread::sleep(RunView::TICK);
    }
}

/// Every event as a line.
fn follow_json(session: &Session, run: &Run) -> Result<mlctl_core::event::Outcome, CommandError> {
    let mut follower = run.follow();
    loop {
        let ended = run.ended();
        for recorded in follower.read().unwrap_or_default() {
            session.ui.json_line(&recorded)?;
        }
        if let Some(ended) = ended {
            return Ok(ended.outcome);
        }
        std::thread::sleep(RunView::TICK);
    }
}
