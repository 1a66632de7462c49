//! `mlctl context check`

use serde_json::json;

use crate::config::{Context, secret};
use crate::engine::Engine;
use crate::error::CommandError;
use crate::lock::Lock;
use crate::prepare::{self, Asked};
use crate::session::{Project, Session};

/// Checks what of a context can be checked without any effect, for all that the project runs when nothing else is asked
/// for. No network is reached.
pub(super) fn check(session: &Session, (project, context): (&Project, &Context)) -> Result<(), CommandError> {
    prepare::authorities(context)?;
    let engine = Engine::at_hand(context)?;
    let plan = prepare::plan(project, context, &Asked::default())?;
    prepare::check_capabilities(project, (context, &engine), &plan)?;
    secret::settings(context, &project.source, prepare::steps(&plan))?;
    if !matches!(engine, Engine::Argo(_)) {
        secret::check(context, &project.source, prepare::steps(&plan))?;
    }
    // A lock that cannot be read would only be found by a run.
    Lock::read(&project.root)?;
    if session.ui.is_json() {
        return session.ui.json(&json!({ "name": context.name, "engine": context.engine() }));
    }
    session.ui.note(&format!(
        "the context `{}` can run `{}`, as far as can be told without trying",
        context.name, project.workflow.name
    ));
    Ok(())
}
