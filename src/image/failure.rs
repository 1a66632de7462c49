//! Why an image could not be made, for people: where in the Dockerfile or the spec, what was printed, what to do.

use std::path::PathBuf;

use mlctl_core::diag::{Diag, Source, Span};

use super::recipe::{Recipe, RecipeKind};
use super::request::Unbuilt;
use super::trace::FailedStep;
use super::wire::Failure;
use super::{Builder, dockerfile, registry};
use crate::error::{CommandError, Kind};
use crate::session::Project;

mod generated;

/// What BuildKit wraps a reason in.
const WRAPPERS: [&str; 9] = [
    "failed to solve with frontend dockerfile.v0: ",
    "failed to solve with frontend gateway.v0: ",
    "failed to solve: ",
    "failed to create LLB definition: ",
    "failed to read dockerfile: ",
    "failed to compute cache key: ",
    "failed to load cache key: ",
    "rpc error: code = Unknown desc = ",
    "executor failed running ",
];

/// What BuildKit calls the step that looks for the image of `# syntax=`.
const FRONTEND: &str = "resolve image config for ";

/// The daemon could not be spoken to.
pub(super) fn wire(builder: &Builder<'_>, recipe: &Recipe, failure: Failure) -> CommandError {
    let error = CommandError::missing(format!("cannot build the environment `{}`", recipe.environment));
    match failure {
        Failure::Refused(status, why) => {
            error.cause(format!("the daemon at {} says: {why} ({})", builder.daemon, status.as_u16()))
        }
        Failure::Lost(why) => error
            .cause(format!("the connection to the daemon at {} ended: {why}", builder.daemon))
            .hint("`docker info` shows whether the daemon still runs"),
        Failure::Unreadable(why) => error.cause(why),
    }
}

/// The build failed. `text` is the Dockerfile.
pub(super) fn unbuilt(builder: &Builder<'_>, recipe: &Recipe, text: &str, unbuilt: Unbuilt) -> CommandError {
    let (message, step) = match unbuilt {
        Unbuilt::Wire(failure) => return wire(builder, recipe, failure),
        Unbuilt::Failed { message, step } => (message, step),
    };
    let step = step.unwrap_or_default();
    let reason = unwrapped(&message);
    if let Some(error) = of_daemon(recipe, reason, &step) {
        return error;
    }
    let (source, spec) = match &recipe.kind {
        RecipeKind::File(file) => {
            (Source { name: crate::ui::relative(&file.path), text: text.to_owned() }, &builder.project.source)
        }
        RecipeKind::Described { .. } => {
            let error = generated::explain(recipe, reason, &step);
            return with_log(CommandError::new(Kind::Missing, "").about(&builder.project.source, vec![error]), &step);
        }
    };
    let of = format!("the environment `{}` cannot be built", recipe.environment);
    if let Some((number, what)) = parse_error(reason) {
        let span = dockerfile::line(text, number).unwrap_or_default();
        let diag = Diag::error("dockerfile-invalid", span, what);
        let diag = match frontend_help(what) {
            Some(help) => diag.help(help),
            None => diag,
        };
        return CommandError::new(Kind::Usage, "").about(&source, vec![diag]).cause(of);
    }
    let all = dockerfile::instructions(text);
    if step.name.starts_with(FRONTEND)
        && let Some(span) = dockerfile::line(text, 1)
        && let Some(error) = of_image(builder, &source, span, reason, &step)
    {
        return error
            .cause(of)
            .hint("it is what `# syntax=` asks for: without that line the daemon's own frontend is used");
    }
    let Some(at) = dockerfile::step(&all, &step.name) else {
        // Of the Dockerfile as a whole: a stage that is not there, nothing in it.
        let diag = Diag::error("dockerfile-invalid", recipe.span, format!("{of}: {reason}"));
        let diag = diag.label(format!("from `{}`", source.name));
        return with_log(CommandError::new(Kind::Usage, "").about(spec, vec![diag]), &step);
    };
    if let Some(error) = of_image(builder, &source, at.span, reason, &step) {
        return error.cause(of);
    }
    let (kind, diag) = of_step(recipe, at.span, reason);
    with_log(CommandError::new(kind, "").about(&source, vec![diag]).cause(of), &step)
}

/// The reason itself.
fn unwrapped(message: &str) -> &str {
    let mut rest = message.trim();
    while let Some(shorter) = WRAPPERS.iter().find_map(|wrapper| rest.strip_prefix(wrapper)) {
        rest = shorter;
    }
    // `[/bin/sh -c id]: unable to find user`: the step is shown anyway.
    rest.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(rest, |(_, reason)| reason)
}

/// `dockerfile parse error line 2: unknown instruction: RUNN`, and as later versions say it.
fn parse_error(reason: &str) -> Option<(usize, &str)> {
    let (_, rest) = reason.to_ascii_lowercase().find("parse error").map(|at| reason.split_at(at))?;
    let (_, rest) = rest.split_once("line ")?;
    let (number, what) = rest.split_once(": ")?;
    Some((number.trim().parse().ok()?, what.trim()))
}

/// What an older builder does not know yet.
fn frontend_help(what: &str) -> Option<&'static str> {
    let newer = what.contains("Unknown flag") || what.contains("unknown flag");
    newer.then_some("this daemon's own frontend is older than that: `# syntax=docker/dockerfile:1` as the first line fetches a newer one")
}

/// What the daemon itself lacks.
fn of_daemon(recipe: &Recipe, reason: &str, step: &FailedStep) -> Option<CommandError> {
    let message = format!("cannot build the environment `{}`", recipe.environment);
    let log = String::from_utf8_lossy(&step.log).to_ascii_lowercase();
    if reason.to_ascii_lowercase().contains("no space left on device") || log.contains("no space left on device") {
        let error = CommandError::missing(message).cause(reason);
        return Some(
            with_log(error, step)
                .hint("`docker system df` shows what takes the space, `docker builder prune` frees some of it"),
        );
    }
    if reason.contains("exec format error") || log.contains("exec format error") {
        let error = CommandError::missing(message).cause("a program in it is for another kind of processor");
        return Some(with_log(error, step).hint("the daemon runs other platforms only where QEMU is set up (binfmt)"));
    }
    if reason.contains("context canceled") || reason.contains("Canceled") {
        return Some(CommandError::new(Kind::Cancelled, message).cause("the daemon cancelled the build"));
    }
    None
}

/// An image that cannot be had, where it is named.
fn of_image(
    builder: &Builder<'_>,
    source: &Source,
    span: Span,
    reason: &str,
    step: &FailedStep,
) -> Option<CommandError> {
    let image = ["[internal] load metadata for ", FRONTEND].iter().find_map(|what| step.name.strip_prefix(what));
    let image = image.or_else(|| step.name.strip_prefix("FROM ")).or_else(|| {
        let from = step.name.split_once("] ").and_then(|(_, step)| step.strip_prefix("FROM "))?;
        from.split_whitespace().next()
    })?;
    let why = registry::explained(image, reason);
    // The daemon may well have it, for its own platform.
    let other = Some(builder.platform()).filter(|platform| *platform != builder.daemon.platform());
    let other = other.map(|platform| format!(" for {}", super::platform::docker(platform))).unwrap_or_default();
    let diag = Diag::error("base-image", span, format!("the image `{}` cannot be had{other}", short(image)));
    let mut error = CommandError::new(Kind::Missing, "").about(source, vec![diag]);
    error.causes = why.causes;
    error.hints = why.hints;
    Some(error)
}

fn short(image: &str) -> &str {
    image.strip_prefix("docker.io/library/").unwrap_or(image)
}

/// A step of the user's that failed.
fn of_step(recipe: &Recipe, span: Span, reason: &str) -> (Kind, Diag) {
    let code = reason.rsplit_once("exit code: ").or_else(|| reason.rsplit_once("returned a non-zero code: "));
    if let Some((_, code)) = code {
        let message = format!("this step failed with exit code {}", code.trim());
        return (Kind::Failed, Diag::error("build-failed", span, message));
    }
    let quoted = reason.split('"').nth(1).map(|path| path.trim_start_matches('/'));
    if let (Some(path), true, RecipeKind::File(file)) = (quoted, reason.contains("not found"), &recipe.kind) {
        let dir = crate::ui::relative(&file.dir);
        let place = if dir.is_empty() { "the project".to_owned() } else { format!("`{dir}`") };
        let message = format!("`{path}` is not in the build context");
        let diag = Diag::error("build-failed", span, message);
        return (
            Kind::Usage,
            if file.dir.join(path).exists() {
                diag.help("it is in the directory, and .dockerignore leaves it out")
            } else {
                diag.help(format!("the context is {place}: `dir` in the spec chooses another"))
            },
        );
    }
    if let Some((_, rest)) = reason.split_once("secret ")
        && let Some((id, _)) = rest.split_once(" not found").or_else(|| rest.split_once(": not found"))
    {
        let message = format!("the environment declares no secret `{id}`");
        let diag = Diag::error("missing-secret", span, message);
        return (Kind::Usage, diag.help(format!("add it: build.secrets = [\"{id}\"]")));
    }
    if reason.contains("ssh") && reason.contains("unset ssh forward key") || reason.contains("declare `ssh = true`") {
        let diag =
            Diag::error("no-ssh-agent", span, "this step wants an ssh agent, which the environment does not give it");
        return (Kind::Usage, diag.help("add it: build.ssh = true"));
    }
    (Kind::Failed, Diag::error("build-failed", span, reason))
}

/// With all that the step printed.
fn with_log(error: CommandError, step: &FailedStep) -> CommandError {
    let log = String::from_utf8_lossy(&step.log);
    if log.trim().is_empty() { error } else { error.cause(format!("it printed:\n{}", log.trim_end())) }
}

/// An error about the files of an environment.
pub(super) fn of(environment: &str, error: CommandError) -> CommandError {
    if error.message.is_empty() {
        return error;
    }
    CommandError { message: format!("environment `{environment}`: {}", error.message), ..error }
}

/// The socket of the user's ssh agent.
pub(super) fn agent(project: &Project, recipe: &Recipe) -> Result<PathBuf, CommandError> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from);
    socket.ok_or_else(|| {
        let message = format!("the environment `{}` needs your ssh agent, and there is none", recipe.environment);
        let diag = Diag::error("no-ssh-agent", recipe.span, message).label("$SSH_AUTH_SOCK is not set");
        let diag = diag.help("start one and add your key: `eval $(ssh-agent) && ssh-add`");
        CommandError::new(Kind::Missing, "").about(&project.source, vec![diag])
    })
}
