//! `mlctl submit`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::run::{Request, Resume, asked, duration};
use crate::error::{CommandError, Kind, outcome_code};
use crate::run::{How, Submit};
use crate::session::Session;
use crate::ui::Format;

/// The arguments of `mlctl submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// What is to be made.
    #[command(flatten)]
    pub(crate) request: Request,
    #[command(flatten)]
    resume: Resume,
    /// Follow the run to its end, and end with its result. Ctrl-C ends the following only.
    #[arg(long)]
    wait: bool,
    /// Give the run this id. A run of that id that is asked for the same is not submitted again.
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Run at most N pods at a time [default: $MLCTL_JOBS, or the context's parallelism].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// After a failure start nothing new; what runs finishes.
    #[arg(long)]
    fail_fast: bool,
    /// End the run when it takes longer, as `90s`, `30m` or `2h`: the cluster does, whoever follows it.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
}

/// Submits the workflow to the context's cluster, where it goes on without this machine.
pub(super) fn submit(session: &Session, args: SubmitArgs) -> Result<ExitCode, CommandError> {
    let how = How {
        jobs: args.jobs,
        locked: args.request.locked,
        fail_fast: args.fail_fast,
        deadline: args.timeout.as_deref().map(duration).transpose()?,
        sandbox: true,
        submit: Some(Submit { run: args.run_id, wait: args.wait }),
    };
    let asked = args.resume.asked(session, asked(args.request)?)?;
    let (outcome, run) = crate::run::run(session, &asked, &how)?;
    match (session.ui.format, outcome) {
        (Format::Json, Some(_)) => session.ui.json(&super::status::report(&run, run.ended().as_ref(), &run.fold()))?,
        (Format::Json, None) => {
            session.ui.json(&json!({ "run": run.id(), "status": "running", "context": run.meta.context }))?
        }
        // What waits has told of it.
        (Format::Text, Some(_)) if args.wait => {}
        (Format::Text | Format::Name, _) => session.ui.result(&format!("{}\n", run.id()))?,
    }
    // Who was to wait and saw no end was interrupted.
    let unknown = if args.wait { Kind::Interrupted.code() } else { 0 };
    Ok(ExitCode::from(outcome.map_or(unknown, outcome_code)))
}
