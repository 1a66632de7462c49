//! Why an image could not be made, for people: where in the Dockerfile or the spec, what was printed, what to do.

use std::path::PathBuf;

use mlctl_core::diag::Diag;

use super::Builder;
use super::recipe::Recipe;
use super::request::Unbuilt;
use super::wire::Failure;
use crate::error::{CommandError, Kind};

/// The daemon could not be spoken to.
pub(super) fn wire(builder: &Builder<'_>, recipe: &Recipe, failure: Failure) -> CommandError {
    let message = format!("cannot build the environment `{}`", recipe.environment);
    match failure {
        Failure::Refused(status, why) => CommandError::missing(message).cause(format!(
            "Docker at {} says: {why} ({})",
            builder.daemon,
            status.as_u16()
        )),
        Failure::Lost(why) => CommandError::missing(message)
            .cause(format!("the connection to Docker at {} ended: {why}", builder.daemon))
            .hint("look whether it runs: `docker version`"),
        Failure::Unreadable(why) => CommandError::missing(message).cause(why),
    }
}

/// The build failed.
pub(super) fn unbuilt(builder: &Builder<'_>, recipe: &Recipe, _text: &str, unbuilt: Unbuilt) -> CommandError {
    let (message, step) = match unbuilt {
        Unbuilt::Wire(failure) => return wire(builder, recipe, failure),
        Unbuilt::Failed { message, step } => (message, step),
    };
    let diag =
        Diag::error("build-failed", recipe.span, format!("the environment `{}` cannot be built", recipe.environment));
    let mut error = CommandError::new(Kind::Failed, "").about(&builder.project.source, vec![diag]).cause(message);
    if let Some(step) = step {
        error = error.cause(format!("{}\n{}", step.name, String::from_utf8_lossy(&step.log)));
    }
    error
}

/// The socket of the user's ssh agent.
pub(super) fn agent(builder: &Builder<'_>, recipe: &Recipe) -> Result<PathBuf, CommandError> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from);
    socket.ok_or_else(|| {
        let message = format!("the environment `{}` needs your ssh agent, and there is none", recipe.environment);
        let diag = Diag::error("no-ssh-agent", recipe.span, message).label("$SSH_AUTH_SOCK is not set");
        let diag = diag.help("start one and add your key: `eval $(ssh-agent) && ssh-add`");
        CommandError::new(Kind::Missing, "").about(&builder.project.source, vec![diag])
    })
}
