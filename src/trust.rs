//! Whom the user trusts: a destination that only a project's own file names is confirmed once, before anything is sent
//! there or taken from there. A project that was cloned from anywhere could name any.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use crate::config::Origin;
use crate::error::CommandError;
use crate::session::user_config;
use crate::ui::prompt;

/// Answers for the user where nobody can be asked.
const VARIABLE: &str = "MLCTL_TRUST_PROJECT";
/// Beside the user's config: a line for each destination, `KIND NAME`.
const FILE: &str = "trusted";

/// Makes sure that the user knows `destination`, which `origin` names: `kind` is what it is, as `store`.
pub(crate) fn confirm(kind: &str, destination: &str, origin: Option<&Origin>) -> Result<(), CommandError> {
    let Some(Origin::Project(file)) = origin else { return Ok(()) };
    let line = format!("{kind} {destination}");
    if std::env::var_os(VARIABLE).is_some_and(|value| value == "1") || known().lines().any(|known| known == line) {
        return Ok(());
    }
    let only = format!("only this project's `{file}` names it");
    if !prompt::can_ask() {
        return Err(CommandError::missing(format!("the {kind} `{destination}` is not confirmed")).cause(only).hint(format!(
            "look whether it is yours: {VARIABLE}=1 confirms what the project names, and in a terminal you are asked once"
        )));
    }
    let choices = ["no".to_owned(), "yes, from now on".to_owned()];
    if prompt::choose(&format!("{only}: use the {kind} {destination}?"), &choices)? == 0 {
        return Err(CommandError::missing(format!("the {kind} `{destination}` was not confirmed")));
    }
    remember(&line)
}

fn path() -> Option<PathBuf> {
    Some(user_config()?.with_file_name(FILE))
}

fn known() -> String {
    path().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

fn remember(line: &str) -> Result<(), CommandError> {
    let cannot = || CommandError::missing("cannot remember the answer");
    let path = path().ok_or_else(|| cannot().cause("neither $XDG_CONFIG_HOME nor $HOME is set"))?;
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(format!("{line}\n").as_bytes())
    };
    write().map_err(|error: std::io::Error| cannot().cause(format!("{}: {error}", path.display())))
}
