//! `mlctl schema`

use std::process::ExitCode;

use crate::error::CommandError;
use crate::session::Session;

/// Prints the JSON Schema of `mlctl.toml`.
pub(super) fn schema(session: &Session) -> Result<ExitCode, CommandError> {
    session.ui.json(&mlctl_core::schema::json_schema())?;
    Ok(ExitCode::SUCCESS)
}
