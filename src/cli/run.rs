//! `mlctl run`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::complete;
use crate::error::{CommandError, Kind, outcome_code};
use crate::prepare::Asked;
use crate::run::{How, attach};
use crate::session::Session;
use crate::ui::Format;

/// What is to be made, and with which params: shared with `plan`.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// Steps or instances (`train@depth=2`), with all they need [default: `default` of the project, or every step].
    #[arg(value_name = "STEP", add = complete::instances())]
    pub(crate) targets: Vec<String>,
    /// Set a param.
    #[arg(short, long = "param", value_name = "NAME=VALUE", add = complete::params())]
    pub(crate) params: Vec<String>,
    /// Read params from a TOML or JSON file; `-p` wins.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) params_file: Vec<PathBuf>,
    /// Run this step or instance again, whatever is cached.
    #[arg(long, value_name = "STEP", add = complete::instances())]
    pub(crate) force: Vec<String>,
    /// Refuse to change mlctl.lock.
    #[arg(long)]
    pub(crate) locked: bool,
}

/// Which run is to be finished.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Finish this run, wherever it was: with its steps and params, and with what it made.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["targets", "params", "params_file"], add = complete::runs())]
    pub(crate) resume: Option<String>,
}

impl Resume {
    /// What that run was asked for.
    pub(crate) fn asked(&self, session: &Session, asked: Asked) -> Result<Asked, CommandError> {
        let Some(name) = &self.resume else { return Ok(asked) };
        let run = attach::find_fresh(session, name)?;
        let params = serde_json::to_string(&run.meta.params);
        let params = params.map_err(|error| CommandError::failed("cannot write params").because(&error))?;
        let file = (PathBuf::from(format!("run {}.json", run.id())), params);
        Ok(Asked { targets: run.meta.targets.clone(), params_files: vec![file], resume: Some(run), ..asked })
    }
}

/// The arguments of `mlctl run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What is to be made.
    #[command(flatten)]
    pub(crate) request: Request,
    #[command(flatten)]
    pub(crate) resume: Resume,
    /// Run at most N steps at a time [default: $MLCTL_JOBS, the context's parallelism, or the number of CPUs].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) jobs: Option<u32>,
    /// After a failure start nothing new; what runs finishes.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// End the run when it takes longer, as `90s`, `30m` or `2h`.
    #[arg(long, value_name = "DURATION")]
    pub(crate) deadline: Option<String>,
    /// Do not confine what steps may write to.
    #[arg(long)]
    pub(crate) no_sandbox: bool,
}

/// Runs the workflow.
pub(super) fn run(session: &Session, args: RunArgs) -> Result<ExitCode, CommandError> {
    let how = How {
        jobs: args.jobs,
        locked: args.request.locked,
        fail_fast: args.fail_fast,
        deadline: args.deadline.as_deref().map(duration).transpose()?,
        sandbox: !args.no_sandbox,
        submit: None,
    };
    let asked = args.resume.asked(session, asked(args.request)?)?;
    let (outcome, run) = crate::run::run(session, &asked, &how)?;
    match session.ui.format {
        Format::Json => session.ui.json(&super::status::report(&run, run.ended().as_ref(), &run.fold()))?,
        Format::Name => session.ui.result(&format!("{}\n", run.id()))?,
        Format::Text => {}
    }
    Ok(ExitCode::from(outcome.map_or(Kind::Interrupted.code(), outcome_code)))
}

/// What a command line asks for, with the texts of the files it names.
pub(super) fn asked(request: Request) -> Result<Asked, CommandError> {
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(CommandError::missing(format!("cannot read `{}`", path.display())).because(&error)),
    };
    Ok(Asked {
        targets: request.targets,
        force: request.force,
        params: request.params,
        params_files: request.params_file.into_iter().map(read).collect::<Result<_, _>>()?,
        resume: None,
    })
}

pub(super) fn duration(text: &str) -> Result<Duration, CommandError> {
    mlctl_core::spec::quantity::duration(text).ok_or_else(|| {
        CommandError::usage(format!("`{text}` is not a duration")).hint("write it as `90s`, `30m` or `2h`")
    })
}
