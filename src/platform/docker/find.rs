//! Which daemon is meant: what a setting names, else the places where Docker and its kin listen.

use std::path::{Path, PathBuf};

use super::address::{Address, Tls, shown};
use super::contexts;
use crate::error::CommandError;

/// A variable of the environment; empty is as good as absent.
pub(super) type Variable<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What to connect to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This daemon and no other: what names it.
    Named(Address, String),
    /// The first of these that answers.
    Any(Vec<PathBuf>),
}

impl Wanted {
    /// Whether it is reached without a network.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Any(_) | Self::Named(Address::Unix(_), _))
    }
}

/// Decides as the docker command does: `DOCKER_HOST`, then `DOCKER_CONTEXT`, then the current Docker context.
pub(super) fn wanted(variable: &Variable<'_>) -> Result<Wanted, CommandError> {
    let config = config_dir(variable);
    if let Some(host) = variable("DOCKER_HOST") {
        let address = Address::parse(&host, tls(variable, config.as_deref())).map_err(|reason| {
            CommandError::missing(format!("$DOCKER_HOST is `{}`: {reason}", shown(&host)))
                .hint("set it to an address like unix:///var/run/docker.sock, or unset it")
        })?;
        return Ok(Wanted::Named(address, "$DOCKER_HOST".to_owned()));
    }
    let named = variable("DOCKER_CONTEXT").map(|name| (name, "$DOCKER_CONTEXT".to_owned()));
    let named = match (named, &config) {
        (None, Some(config)) => contexts::current(config)?,
        (named, _) => named,
    };
    match (named, config) {
        (Some((name, by)), Some(config)) if name != contexts::DEFAULT => {
            let address = contexts::address(&config, &name, &by)?;
            Ok(Wanted::Named(address, format!("the Docker context `{name}` of {by}")))
        }
        _ => Ok(Wanted::Any(sockets(variable))),
    }
}

/// Where the settings of the docker command are.
pub(crate) fn config_dir(variable: &Variable<'_>) -> Option<PathBuf> {
    let named = variable("DOCKER_CONFIG").map(PathBuf::from);
    named.or_else(|| Some(Path::new(&variable("HOME")?).join(".docker")))
}

/// How `DOCKER_HOST` is secured.
fn tls(variable: &Variable<'_>, config: Option<&Path>) -> Option<Tls> {
    let verify = variable("DOCKER_TLS_VERIFY").is_some();
    if !verify && variable("DOCKER_TLS").is_none() {
        return None;
    }
    let dir = variable("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| config.map(Path::to_owned));
    Some(Tls { unverified: !verify, ..dir.map(|dir| contexts::tls_of(&dir)).unwrap_or_default() })
}

/// Where daemons listen without being told: Docker, rootless Docker, Docker Desktop, OrbStack, Colima, Rancher Desktop,
/// Podman.
fn sockets(variable: &Variable<'_>) -> Vec<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let runtime = variable("XDG_RUNTIME_DIR").map_or_else(|| format!("/run/user/{uid}").into(), PathBuf::from);
    let mut sockets = vec!["/var/run/docker.sock".into(), runtime.join("docker.sock")];
    if let Some(home) = variable("HOME").map(PathBuf::from) {
        let colima = variable("COLIMA_HOME").map_or_else(|| home.join(".colima"), PathBuf::from);
        sockets.extend([
            home.join(".docker/run/docker.sock"),
            home.join(".docker/desktop/docker.sock"),
            home.join(".orbstack/run/docker.sock"),
            colima.join("default/docker.sock"),
            home.join(".config/colima/default/docker.sock"),
            home.join(".rd/docker.sock"),
            home.join(".local/share/containers/podman/machine/podman.sock"),
        ]);
    }
    sockets.extend([runtime.join("podman/podman.sock"), "/run/podman/podman.sock".into()]);
    sockets
}
