//! Connecting, and asking a daemon what it is.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use bollard::models::{SystemInfo, SystemVersion};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use mlctl_core::scheduler::Capacity;
use tokio::net::UnixStream;

use super::address::Address;
use super::failure::reason;
use super::find::Wanted;
use super::remembered::Socket;
use super::{About, OLDEST_API, ssh, tls};
use crate::error::CommandError;
use crate::platform::machine;

/// For a daemon's first answers: a machine that is busy may need seconds, one that hangs needs for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same over ssh, which has to log in first.
const SSH_PATIENCE: Duration = Duration::from_secs(30);
/// For the head of any later answer, in seconds.
const TIMEOUT: u64 = 120;

/// A daemon that answered.
pub(super) struct Found {
    pub(super) client: Docker,
    pub(super) address: Address,
    pub(super) socket: Option<Socket>,
    pub(super) about: About,
}

/// Connects to what is wanted.
pub(super) async fn first(wanted: Wanted) -> Result<Found, CommandError> {
    let sockets = match wanted {
        Wanted::Named(address, by) => return named(address, &by).await,
        Wanted::Any(sockets) => sockets,
    };
    let mut tried = Vec::new();
    for socket in sockets {
        let address = Address::Unix(socket.clone());
        match open(address).await {
            Ok(found) => return Ok(found),
            Err(reason) => tried.push((socket, reason)),
        }
    }
    Err(nowhere(&tried))
}

async fn named(address: Address, by: &str) -> Result<Found, CommandError> {
    open(address.clone()).await.map_err(|reason| {
        let error = CommandError::missing(format!("the Docker daemon at {address} cannot be used"))
            .cause(&reason)
            .cause(format!("{by} names it, and nothing else was tried"));
        let hint = match &address {
            Address::Unix(_) if reason == DENIED => GROUP.to_owned(),
            Address::Ssh(ssh) => {
                let target = ssh.user.iter().fold(ssh.host.clone(), |host, user| format!("{user}@{host}"));
                format!("`ssh {target} docker version` must work without asking for anything")
            }
            Address::Tcp { tls, .. } => tls_hint(tls.is_some(), &reason).unwrap_or(START).to_owned(),
            Address::Unix(_) => START.to_owned(),
        };
        error.hint(hint)
    })
}

/// What to do about a secured connection that does not come about.
fn tls_hint(secured: bool, reason: &str) -> Option<&'static str> {
    match reason.to_ascii_lowercase() {
        said if said.contains("https server") => Some(
            "the daemon wants TLS: DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH names the directory of ca.pem, cert.pem and key.pem",
        ),
        said if said.contains("invalidcontenttype") => Some("the daemon speaks no TLS: unset DOCKER_TLS_VERIFY"),
        said if secured && (said.contains("certificate") || said.contains("alert")) => Some(
            "ca.pem is of the authority that signed the daemon's certificate, cert.pem and key.pem are yours: DOCKER_CERT_PATH names their directory",
        ),
        _ => None,
    }
}

const START: &str = "start it, or name another: `DOCKER_HOST`, or `docker context use NAME`";
const DENIED: &str = "permission denied";
const GROUP: &str = "add yourself to the group that may use it and log in again: `sudo usermod -aG docker $USER`";

fn nowhere(tried: &[(std::path::PathBuf, String)]) -> CommandError {
    let lines: Vec<String> = tried.iter().map(|(path, reason)| format!("  {}: {reason}", path.display())).collect();
    let error = CommandError::missing("there is no Docker daemon").cause(format!("tried:\n{}", lines.join("\n")));
    let denied = tried.iter().any(|(_, reason)| reason == DENIED);
    let error = if denied { error.hint(GROUP) } else { error };
    error.hint("install and start Docker (https://docs.docker.com/engine/install), or say where it is: `DOCKER_HOST`")
}

/// Connects and asks. The error is the reason.
async fn open(address: Address) -> Result<Found, String> {
    let patience = if matches!(address, Address::Ssh(_)) { SSH_PATIENCE } else { PATIENCE };
    // As it was before the questions: whoever has another one since then asks again.
    let socket = if let Address::Unix(path) = &address { Socket::at(path) } else { None };
    let opening = async {
        let client = connect(&address).await?.with_request_modifier(spell_credentials);
        // Both at once, and nothing else: for each the daemon starts programs.
        let asked = tokio::try_join!(client.version(), client.info());
        let (version, info) = asked.map_err(|error| reason(&error))?;
        let about = about(&version, &info, &address)?;
        Ok((client, about))
    };
    match tokio::time::timeout(patience, opening).await {
        Ok(opened) => opened.map(|(client, about)| Found { client, address, socket, about }),
        Err(_) => Err(format!("no answer within {} seconds", patience.as_secs())),
    }
}

/// Daemons read credentials in the alphabet of base64 that is safe in URLs, bollard writes the other one.
fn spell_credentials(mut request: BollardRequest) -> BollardRequest {
    for name in ["x-registry-auth", "x-registry-config"] {
        let Some(value) = request.headers_mut().get_mut(name) else { continue };
        let respelled = value.to_str().map(|text| text.replace('+', "-").replace('/', "_")).unwrap_or_default();
        if let Ok(mut respelled) = http::HeaderValue::from_str(&respelled) {
            respelled.set_sensitive(true);
            *value = respelled;
        }
    }
    request
}

pub(super) async fn connect(address: &Address) -> Result<Docker, String> {
    let explain = |error: bollard::errors::Error| reason(&error);
    match address {
        Address::Unix(path) => {
            knock(path).await?;
            let path = path.to_str().ok_or("its path is not UTF-8")?;
            Docker::connect_with_unix(path, TIMEOUT, API_DEFAULT_VERSION).map_err(explain)
        }
        Address::Tcp { host, tls: None } => {
            Docker::connect_with_http(host, TIMEOUT, API_DEFAULT_VERSION).map_err(explain)
        }
        Address::Tcp { host, tls: Some(files) } => tls::connect(host, files, TIMEOUT),
        Address::Ssh(target) => ssh::connect(target, TIMEOUT).map_err(explain),
    }
}

/// Whether anybody listens at a socket: the reason why not, without what an HTTP client says around it.
async fn knock(path: &Path) -> Result<(), String> {
    UnixStream::connect(path).await.map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "not there".to_owned(),
        ErrorKind::PermissionDenied => DENIED.to_owned(),
        ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
        _ => error.to_string(),
    })
}

fn about(version: &SystemVersion, info: &SystemInfo, address: &Address) -> Result<About, String> {
    let api = version.api_version.as_deref().unwrap_or_default();
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    let (major, minor) = api.split_once('.').unwrap_or((api, ""));
    if number(Some(major)).zip(number(Some(minor))).is_none_or(|api| api < OLDEST_API) {
        let (major, minor) = OLDEST_API;
        return Err(format!("it is too old: its API is `{api}`, mlctl needs {major}.{minor} (Docker 19.03)"));
    }
    let os = version.os.as_deref().unwrap_or_default();
    if os != "linux" {
        return Err(format!("its containers run `{os}`: mlctl needs a daemon for Linux containers"));
    }
    let arch = match version.arch.as_deref().unwrap_or_default() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    let components = version.components.iter().flatten();
    let podman = components.into_iter().any(|component| component.name.starts_with("Podman"));
    let options = || info.security_options.iter().flatten().flat_map(|option| option.split(','));
    let has = |name: &str| options().any(|part| part.strip_prefix("name=") == Some(name));
    Ok(About {
        id: info.id.clone().filter(|id| !id.is_empty()),
        api: api.to_owned(),
        platform: format!("linux-{arch}"),
        // Podman's service speaks the API, but BuildKit's part. The variable is the docker command's own.
        buildkit: !podman && std::env::var("DOCKER_BUILDKIT").as_deref() != Ok("0"),
        rootless: has("rootless"),
        remapped: has("userns"),
        capacity: Capacity {
            cpu_millis: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).map(|cpus| cpus.saturating_mul(1000)),
            memory: info.mem_total.and_then(|memory| u64::try_from(memory).ok()),
            // A daemon does not say. One at a socket is on this machine, or in a virtual one that has none of its own.
            gpu: matches!(address, Address::Unix(_)).then(machine::gpus),
        },
    })
}
