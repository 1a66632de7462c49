//! `mlctl plan`

use std::process::ExitCode;

use clap::Args;

use super::run::Request;
use crate::error::CommandError;
use crate::session::Session;

/// The arguments of `mlctl plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What would be made.
    #[command(flatten)]
    pub(crate) request: Request,
}

/// Shows what a run would do.
pub(super) fn plan(_session: &Session, _args: PlanArgs) -> Result<ExitCode, CommandError> {
    Err(CommandError::failed("`mlctl plan` is not wired yet"))
}
