//! `mlctl doctor`

use std::process::ExitCode;

use crate::config::Layers;
use crate::doctor::{self, Check, State};
use crate::error::{CommandError, Kind};
use crate::session::Session;
use crate::ui::style::{ERROR, GOOD, HINT, WARNING};
use crate::ui::{Format, count};

/// Checks all that a context needs, and says what to do about what is not as it has to be.
pub(super) fn doctor(session: &Session) -> Result<ExitCode, CommandError> {
    // Outside of projects there are the built-in contexts.
    let project = session.root().is_ok().then(|| session.project()).transpose()?;
    let context = match &project {
        Some(project) => session.context(project)?,
        None => session.named_context(&Layers::built_in(), session.context_name())?,
    };
    let mut checks = Vec::new();
    let mut printed = Ok(());
    doctor::examine(project.as_ref(), &context, &mut |check| {
        if session.ui.format == Format::Text && printed.is_ok() {
            printed = session.ui.result(&text(&check));
        }
        checks.push(check);
    });
    printed?;
    let bad = checks.iter().filter(|check| check.state == State::Bad).count() as u64;
    match session.ui.format {
        Format::Json => session.ui.json(&serde_json::json!({ "context": context.name, "checks": checks }))?,
        Format::Name => {
            let bad = checks.iter().filter(|check| check.state == State::Bad);
            session.ui.result(&bad.map(|check| format!("{}\n", check.name)).collect::<String>())?;
        }
        Format::Text if bad == 0 => session.ui.note(&format!("context `{}` has what it needs", context.name)),
        Format::Text => session.ui.note(&format!("context `{}`: {} to mend", context.name, count(bad, "thing"))),
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::from(Kind::Missing.code()) })
}

fn text(check: &Check) -> String {
    let (style, word) = match check.state {
        State::Good => (GOOD, "ok"),
        State::Poor => (WARNING, "poor"),
        State::Bad => (ERROR, "bad"),
        State::Unknown => (HINT, "unknown"),
    };
    let mut text = format!("{style}{word:<8}{style:#} {}: {}\n", check.name, check.found.replace('\n', "\n         "));
    for remedy in &check.remedies {
        text += &format!("         {HINT}help{HINT:#}: {}\n", remedy.replace('\n', "\n               "));
    }
    text
}
