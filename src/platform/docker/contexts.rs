//! Docker contexts, as the docker command keeps them: named addresses of daemons, with their TLS material.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::address::{Address, Tls, shown};
use crate::error::CommandError;

/// The context that means: no context.
pub(super) const DEFAULT: &str = "default";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Deserialize, Default)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The name of the current context, and what says so.
pub(super) fn current(config: &Path) -> Result<Option<(String, String)>, CommandError> {
    let path = config.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Whoever never logged in nor chose a context has none; whoever may not read it cannot have meant it.
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(unreadable(&path).because(&error)),
    };
    let config: Config = serde_json::from_slice(&text).map_err(|error| unreadable(&path).because(&error))?;
    let name = config.current_context.filter(|name| !name.is_empty());
    Ok(name.map(|name| (name, path.display().to_string())))
}

/// The address of the daemon that the context `name` stands for, which `by` names.
pub(super) fn address(config: &Path, name: &str, by: &str) -> Result<Address, CommandError> {
    let id: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = config.join("contexts/meta").join(&id).join("meta.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(CommandError::missing(format!("there is no Docker context `{name}`"))
                .cause(format!("{by} names it, and {} is not there", path.display()))
                .hint(
                    "`docker context ls` shows those that there are, `docker context use default` goes back to none",
                ));
        }
        Err(error) => return Err(unreadable(&path).because(&error)),
    };
    let meta: Meta = serde_json::from_slice(&text).map_err(|error| unreadable(&path).because(&error))?;
    let none = || {
        CommandError::missing(format!("the Docker context `{name}` names no daemon")).cause(format!("{by} names it"))
    };
    let endpoint = meta.endpoints.docker.ok_or_else(none)?;
    let host = endpoint.host.filter(|host| !host.is_empty()).ok_or_else(none)?;
    let files = tls_of(&config.join("contexts/tls").join(id).join("docker"));
    let secured = endpoint.skip_tls_verify || files != Tls::default();
    let tls = secured.then_some(Tls { unverified: endpoint.skip_tls_verify, ..files });
    Address::parse(&host, tls).map_err(|reason| {
        CommandError::missing(format!("the Docker context `{name}` is of no use"))
            .cause(format!("its address is `{}`: {reason}", shown(&host)))
            .cause(format!("{by} names it"))
            .hint("`docker context use default` goes back to the daemon of this machine")
    })
}

/// The TLS material in a directory, under the names that Docker gives it.
pub(super) fn tls_of(dir: &Path) -> Tls {
    let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    Tls { ca: file("ca.pem"), client: file("cert.pem").zip(file("key.pem")), unverified: false }
}

fn unreadable(path: &Path) -> CommandError {
    CommandError::missing(format!("cannot read Docker's settings in {}", path.display()))
}
