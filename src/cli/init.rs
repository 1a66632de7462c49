//! `mlctl init`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::error::CommandError;
use crate::session::Session;

/// The arguments of `mlctl init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where to make the project.
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true, value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Which template: sklearn, sweep or minimal.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) template: Option<String>,
    /// The project's name [default: that of the directory].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Ask nothing: take the defaults.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Makes a new project.
pub(super) fn init(_session: &Session, _args: InitArgs) -> Result<ExitCode, CommandError> {
    Err(CommandError::failed("`mlctl init` is not wired yet"))
}
