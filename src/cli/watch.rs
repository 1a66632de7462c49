//! `mlctl watch`

use std::process::ExitCode;

use clap::Args;
use mlctl_core::event::Outcome;

use super::complete;
use crate::engine::argo::{Manner, Wanted};
use crate::error::{CommandError, Kind, outcome_code};
use crate::record::Run;
use crate::run::attach::{self, Attached, Upkeep};
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
    let run = attach::find(session, &args.run)?;
    if session.ui.is_json() {
        let upkeep = Upkeep::of(session, &run, Wanted::Failed)?;
        return follow_json(session, &run, upkeep).map(|outcome| ExitCode::from(outcome_code(outcome)));
    }
    if let Some(attached) = Attached::to(session, &run)? {
        let view = RunView::new(&session.ui, run.id(), run.dir(), run.planned());
        if let Some(mut follow) = attached.follow(Some(view))? {
            follow.until_ended(Manner::Watching, None, None)?;
            return match attached.close(&session.ui, follow)? {
                Some(ended) => Ok(ExitCode::from(outcome_code(ended.outcome))),
                None => {
                    session.ui.note(&format!("run {} goes on", run.id()));
                    Ok(ExitCode::from(Kind::Interrupted.code()))
                }
            };
        }
    }
    // Another process of this machine keeps the record.
    let upkeep = Upkeep::of(session, &run, Wanted::Failed)?;
    follow(session, &run, upkeep).map(|outcome| ExitCode::from(outcome_code(outcome)))
}

fn follow(session: &Session, run: &Run, mut upkeep: Option<Upkeep>) -> Result<Outcome, CommandError> {
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
        upkeep = upkeep.map(Upkeep::check).transpose()?;
        std::thread::sleep(RunView::TICK);
    }
}

/// Every event as a line.
fn follow_json(session: &Session, run: &Run, mut upkeep: Option<Upkeep>) -> Result<Outcome, CommandError> {
    let mut follower = run.follow();
    loop {
        let ended = run.ended();
        for recorded in follower.read().unwrap_or_default() {
            session.ui.json_line(&recorded)?;
        }
        if let Some(ended) = ended {
            return Ok(ended.outcome);
        }
        upkeep = upkeep.map(Upkeep::check).transpose()?;
        std::thread::sleep(RunView::TICK);
    }
}
