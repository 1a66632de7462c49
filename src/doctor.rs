//! What a context needs, checked piece by piece: each with what to do about it.

use std::path::Path;

use mlctl_core::context::EngineKind;
use mlctl_exec::store::Store;
use serde::Serialize;

use crate::config::Context;
use crate::engine::argo;
use crate::environment;
use crate::error::CommandError;
use crate::platform::docker::Daemon;
use crate::platform::python;
use crate::session::Project;
use crate::ui::size;
use crate::{prepare, remote, session};

mod cluster;

/// What is known of one thing that a context needs.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// What it is.
    pub(crate) name: &'static str,
    /// Whether it is as it has to be.
    pub(crate) state: State,
    /// How it is, or what is wrong, down to the last cause.
    pub(crate) found: String,
    /// What to do.
    pub(crate) remedies: Vec<String>,
}

/// Whether something is as it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It is.
    Good,
    /// It will do, and could be better.
    Poor,
    /// It is not.
    Bad,
    /// It could not be found out: something else is wrong first, or that is not allowed.
    Unknown,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Good, found: found.into(), remedies: Vec::new() }
    }

    fn poor(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Poor, found: found.into(), remedies: vec![remedy.into()] }
    }

    fn unknown(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Unknown, found: found.into(), remedies: Vec::new() }
    }

    fn bad(name: &'static str, error: &CommandError) -> Self {
        Self { name, state: State::Bad, found: error.to_string(), remedies: error.hints.clone() }
    }

    /// What was found, or the error that it is not there.
    fn of(name: &'static str, found: Result<String, CommandError>) -> Self {
        found.map_or_else(|error| Self::bad(name, &error), |found| Self::good(name, found))
    }
}

/// Checks all that a context needs, in the order in which a run needs it. `told` is given each as soon as it is known.
pub(crate) fn examine(project: Option<&Project>, context: &Context, told: &mut dyn FnMut(Check)) {
    let store = session::open_store();
    told(Check::of("store", store.as_ref().map_err(Clone::clone).and_then(|store| room(store.root()))));
    if context.merged.ca.is_some() {
        told(Check::of("certificate authorities", authorities(context)));
    }
    match context.engine() {
        EngineKind::Process => {
            told(tools());
            told(confinement());
        }
        EngineKind::Docker => docker(told),
        EngineKind::Argo => {
            docker(told);
            cluster::examine(context, told);
            if let (Some(project), Ok(store)) = (project, &store) {
                cluster::images((project, context), store.root(), told);
            }
        }
    }
    if let (Some(at), Ok(store)) = (&context.merged.store, &store)
        && !argo::shares_store(context, store.root())
    {
        shared(context, store, &at.url, told);
    }
}

/// How much room there is for the store.
fn room(root: &Path) -> Result<String, CommandError> {
    let disk = rustix::fs::statvfs(root);
    let disk = disk.map_err(|error| CommandError::missing("cannot look at the store's disk").because(&error))?;
    let probe = tempfile::NamedTempFile::new_in(root.join("tmp"));
    probe.map_err(|error| {
        CommandError::missing(format!("cannot write to {}", root.display()))
            .because(&error)
            .hint("make it writable, or name another place by MLCTL_STORE")
    })?;
    Ok(format!("{}, {} free", root.display(), size(disk.f_bavail.saturating_mul(disk.f_frsize))))
}

fn authorities(context: &Context) -> Result<String, CommandError> {
    let file = prepare::authorities(context)?;
    Ok(file.map(|file| file.display().to_string()).unwrap_or_default())
}

/// What makes environments.
fn tools() -> Check {
    const NAME: &str = "Python";
    let uv = environment::uv();
    match (python::usual(), uv) {
        (Some(python), Some(uv)) => Check::good(NAME, format!("{python}, environments by {}", uv.display())),
        (Some(python), None) => {
            Check::poor(NAME, format!("{python}, environments by pip"), "install uv: it takes a tenth of the time")
        }
        (None, Some(uv)) => Check::good(NAME, format!("none, {} fetches what is asked for", uv.display())),
        (None, None) => Check::poor(
            NAME,
            "there is none: steps with an environment cannot run here",
            "install Python 3 or uv, or use `--context docker`",
        ),
    }
}

fn confinement() -> Check {
    if mlctl_exec::sandbox::is_available() {
        return Check::good("confined steps", "this system has Landlock");
    }
    Check::poor(
        "confined steps",
        "this system has no Landlock: a step can write to what is not its own",
        "Linux 5.13 or newer has it; `--context docker` confines steps everywhere",
    )
}

fn docker(told: &mut dyn FnMut(Check)) {
    let daemon = Daemon::connect();
    let about = |daemon: &std::sync::Arc<Daemon>| {
        let builder = if daemon.has_buildkit() { "BuildKit" } else { "the classic builder" };
        format!("{daemon}, for {}, with {builder}", daemon.platform())
    };
    told(Check::of("Docker", daemon.as_ref().map(about).map_err(Clone::clone)));
    if daemon.is_ok_and(|daemon| !daemon.has_buildkit()) {
        told(Check::poor(
            "builds",
            "without BuildKit nothing is built at a time, and there are no cache mounts and no secrets",
            "use Docker 19.03 or newer, and unset DOCKER_BUILDKIT",
        ));
    }
}

/// The store that machines share.
fn shared(context: &Context, store: &Store, url: &str, told: &mut dyn FnMut(Check)) {
    const NAME: &str = "shared store";
    let remote = match remote::open(context, store) {
        Ok(remote) => remote,
        Err(error) => return told(Check::bad(NAME, &error)),
    };
    told(match remote.is_conditional() {
        Ok(true) => Check::good(NAME, url),
        Ok(false) => Check::poor(
            NAME,
            format!(
                "{url} has no put-if-absent: of two machines that compute the same at once, each goes on with its own"
            ),
            "use a server that has it: S3 itself, or a current version of yours",
        ),
        Err(error) => {
            let error = remote::failure(format!("cannot write to the store `{url}`"), url, &error);
            Check::bad(NAME, &error)
        }
    });
}
