//! Registries, by way of the daemon: what a reference stands for, pulling, pushing. The daemon speaks to them; what it
//! needs of the user's credentials is found where the docker command keeps them.

use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::{CreateImageOptionsBuilder, PushImageOptionsBuilder};
use futures_util::{Stream, StreamExt as _};

use crate::error::CommandError;
use crate::platform::docker::{self, Daemon, config_dir};

mod credentials;
mod failure;
mod progress;
mod reference;
mod upload;

use failure::{explain, is_passing};
use progress::Layers;
pub(super) use reference::{Reference, is_digest};
pub(crate) use upload::push_executor;

/// Tries in a row before a connection that breaks is given up. The daemon has tried each layer several times then.
const TRIES: u32 = 3;
/// The wait before the second try; it doubles with each.
const BACKOFF: Duration = Duration::from_secs(1);
/// For a registry's word on one reference.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the beginning of a transfer and its first message.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Whether a daemon, such as Podman's service, cannot ask a registry.
fn is_unsupported(error: &Error) -> bool {
    let said = docker::reason(error);
    said == "Not Found" || said.contains("json is not supported")
}

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// The digest by which its registry has it: the same on every machine.
    Registry(String),
    /// The id of an image that only this daemon has.
    Local(String),
}

/// Whoever asks: to a registry, the user of Docker's config.
#[derive(Debug, Clone)]
struct User {
    /// Docker's `config.json`, if there is a place for it.
    config: Option<PathBuf>,
}

impl Default for User {
    fn default() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { config: config_dir(&variable).map(|dir| dir.join("config.json")) }
    }
}

/// Told how far a transfer is: `12 MB of 40 MB`.
pub(crate) type Progress<'a> = dyn Fn(&str) + 'a;

/// What `reference` stands for: the digest under which the daemon once pulled it, else the id of the daemon's image, else
/// what its registry says now. With `fresh` the registry is asked first, and has the last word on what came from it.
pub(crate) fn resolve(daemon: &Daemon, reference: &str, fresh: bool) -> Result<Resolved, CommandError> {
    User::default().resolve(daemon, reference, fresh)
}

/// The user's credentials for a registry (`docker.io`, `localhost:5000`); `None`: there are none.
pub(crate) fn credentials(host: &str) -> Result<Option<DockerCredentials>, CommandError> {
    User::default().credentials(host)
}

/// The digest by which a registry has `reference`; `None`: it has none of that name.
pub(crate) async fn look_up(daemon: &Daemon, reference: &str) -> Result<Option<String>, CommandError> {
    User::default().look_up(daemon, reference).await
}

/// The registry of an image; nothing for what is no image's name.
pub(super) fn host(image: &str) -> Option<String> {
    Some(Reference::parse(image).ok()?.host().to_owned())
}

/// Explains what a builder says of an image that it cannot have.
pub(super) fn explained(image: &str, said: &str) -> CommandError {
    let error = Error::DockerStreamError { error: said.to_owned() };
    match Reference::parse(image) {
        Ok(reference) => {
            let known = credentials(reference.host()).is_ok_and(|found| found.is_some());
            explain("", &reference, known, error)
        }
        Err(_) => CommandError::missing("").cause(said),
    }
}

/// Fetches an image, for `platform` (`linux/arm64`) if that is not the daemon's own.
pub(crate) async fn pull(
    daemon: &Daemon,
    reference: &str,
    platform: Option<&str>,
    progress: &Progress<'_>,
) -> Result<(), CommandError> {
    User::default().pull(daemon, reference, platform, progress).await
}

/// Sends an image to the registry that its name says; the digest by which the registry has it.
pub(crate) async fn push(daemon: &Daemon, reference: &str, progress: &Progress<'_>) -> Result<String, CommandError> {
    User::default().push(daemon, reference, progress).await
}

impl User {
    fn credentials(&self, host: &str) -> Result<Option<DockerCredentials>, CommandError> {
        self.config.as_deref().map_or(Ok(None), |config| credentials::of(config, host))
    }

    fn resolve(&self, daemon: &Daemon, reference: &str, fresh: bool) -> Result<Resolved, CommandError> {
        let parsed = Reference::parse(reference)?;
        if let Some(digest) = parsed.digest {
            return Ok(Resolved::Registry(digest.to_owned()));
        }
        let local = daemon.block_on(local(daemon, &parsed))?;
        let known = local.map(|local| match local.pulled {
            Some(digest) => Resolved::Registry(digest),
            None => Resolved::Local(local.id),
        });
        match known {
            // As `docker run` does: a name means the daemon's own image, if it has one.
            Some(known) if !fresh => Ok(known),
            known => match (self.ask(daemon, &parsed), known) {
                (Ok(Some(digest)), _) => Ok(Resolved::Registry(digest)),
                (Ok(None), _) => self.fetch(daemon, &parsed),
                // No registry ever had it.
                (Err(_), Some(known @ Resolved::Local(_))) => Ok(known),
                (Err(refused), _) => Err(refused),
            },
        }
    }

    /// The registry's word; `None`: the daemon has no way to ask for it.
    fn ask(&self, daemon: &Daemon, reference: &Reference<'_>) -> Result<Option<String>, CommandError> {
        let what = format!("cannot find out what `{}` stands for", reference.text);
        let (known, answer) = daemon.block_on(self.inquire(daemon, reference))?;
        match answer {
            Err(error) if is_unsupported(&error) => Ok(None),
            Err(error) => Err(explain(&what, reference, known, error)),
            Ok(None) => Err(CommandError::missing(what).cause("its registry names no digest")),
            Ok(digest) => Ok(digest),
        }
    }

    /// What the daemon has after a pull.
    fn fetch(&self, daemon: &Daemon, reference: &Reference<'_>) -> Result<Resolved, CommandError> {
        daemon.block_on(self.pull(daemon, reference.text, None, &|_| {}))?;
        let pulled = daemon.block_on(local(daemon, reference))?.and_then(|local| local.pulled);
        pulled.map(Resolved::Registry).ok_or_else(|| {
            CommandError::missing(format!("cannot find out what `{}` stands for", reference.text))
                .cause("the daemon pulled it, and does not tell its digest")
        })
    }

    async fn look_up(&self, daemon: &Daemon, reference: &str) -> Result<Option<String>, CommandError> {
        let parsed = Reference::parse(reference)?;
        let (known, answer) = self.inquire(daemon, &parsed).await?;
        answer.or_else(|error| {
            let said = docker::reason(&error).to_ascii_lowercase();
            let absent = ["manifest unknown", "name unknown", "not found", "no such manifest"];
            if is_unsupported(&error) || absent.iter().any(|part| said.contains(part)) {
                return Ok(None);
            }
            Err(explain(&format!("cannot look for `{reference}` in its registry"), &parsed, known, error))
        })
    }

    /// What the registry says of `reference`, and whether the user has credentials for it.
    async fn inquire(
        &self,
        daemon: &Daemon,
        reference: &Reference<'_>,
    ) -> Result<(bool, Result<Option<String>, Error>), CommandError> {
        let credentials = self.clone().credentials_soon(reference.host()).await?;
        let known = credentials.is_some();
        let asking = daemon.client().inspect_registry_image(reference.text, credentials);
        let answer = tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Err(Error::RequestTimeoutError));
        Ok((known, answer.map(|answer| answer.descriptor.digest)))
    }

    /// The credentials for a registry: a helper may take its time, or ask.
    async fn credentials_soon(self, host: &str) -> Result<Option<DockerCredentials>, CommandError> {
        let host = host.to_owned();
        tokio::task::spawn_blocking(move || self.credentials(&host)).await.unwrap_or(Ok(None))
    }

    async fn pull(
        &self,
        daemon: &Daemon,
        reference: &str,
        platform: Option<&str>,
        progress: &Progress<'_>,
    ) -> Result<(), CommandError> {
        let parsed = Reference::parse(reference)?;
        let options = CreateImageOptionsBuilder::new()
            .from_image(parsed.name)
            .tag(parsed.digest.or(parsed.tag).unwrap_or("latest"))
            .platform(platform.unwrap_or_default())
            .build();
        let what = format!("cannot pull `{reference}`");
        self.transfer(daemon, &what, &parsed, progress, |client, credentials| {
            client.create_image(Some(options.clone()), None, credentials).map(|message| {
                message.map(|message| progress::Message {
                    layer: message.id,
                    status: message.status,
                    detail: message.progress_detail,
                })
            })
        })
        .await
        .map(drop)
    }

    async fn push(&self, daemon: &Daemon, reference: &str, progress: &Progress<'_>) -> Result<String, CommandError> {
        let parsed = Reference::parse(reference)?;
        let options = PushImageOptionsBuilder::new().tag(parsed.tag.unwrap_or("latest")).build();
        let what = format!("cannot push `{reference}`");
        let digest = self
            .transfer(daemon, &what, &parsed, progress, |client, credentials| {
                client.push_image(parsed.name, Some(options.clone()), credentials).map(|message| {
                    message.map(|message| progress::Message {
                        layer: None,
                        status: message.status,
                        detail: message.progress_detail,
                    })
                })
            })
            .await?;
        digest.ok_or_else(|| CommandError::missing(what).cause("the daemon does not tell the digest that it was given"))
    }

    /// Goes on until a transfer is complete, or fails in a way that another try would not change. The digest, if one is told.
    async fn transfer<S>(
        &self,
        daemon: &Daemon,
        what: &str,
        reference: &Reference<'_>,
        progress: &Progress<'_>,
        begin: impl Fn(Docker, Option<DockerCredentials>) -> S,
    ) -> Result<Option<String>, CommandError>
    where
        S: Stream<Item = Result<progress::Message, Error>> + Unpin,
    {
        let credentials = self.clone().credentials_soon(reference.host()).await?;
        let known = credentials.is_some();
        let mut tries = 1;
        loop {
            let client = daemon.client().clone().with_timeout(SILENCE);
            match follow(begin(client, credentials.clone()), progress).await {
                Ok(digest) => return Ok(digest),
                Err(error) if tries < TRIES && is_passing(&error) => {
                    progress(&format!("the connection broke; trying again ({} of {TRIES})", tries + 1));
                    tokio::time::sleep(BACKOFF * 2_u32.pow(tries - 1)).await;
                    tries += 1;
                }
                Err(error) => {
                    let error = explain(what, reference, known, error);
                    return Err(if tries > 1 { error.cause(format!("tried {tries} times")) } else { error });
                }
            }
        }
    }
}

/// An image that the daemon has.
struct Local {
    id: String,
    /// The digest by which its registry has it.
    pulled: Option<String>,
}

async fn local(daemon: &Daemon, reference: &Reference<'_>) -> Result<Option<Local>, CommandError> {
    match daemon.client().inspect_image(reference.text).await {
        Ok(image) => {
            let digests = image.repo_digests.unwrap_or_default();
            let pulled = digests.iter().find_map(|name| {
                let (name, digest) = name.split_once('@')?;
                (Reference::parse(name).ok()?.repository() == reference.repository()).then(|| digest.to_owned())
            });
            Ok(image.id.map(|id| Local { id, pulled }))
        }
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(docker::failure(&format!("cannot look `{}` up", reference.text), error)),
    }
}

async fn follow(
    mut messages: impl Stream<Item = Result<progress::Message, Error>> + Unpin,
    progress: &Progress<'_>,
) -> Result<Option<String>, Error> {
    let mut layers = Layers::default();
    while let Some(message) = messages.next().await {
        if let Some(text) = layers.take(message?) {
            progress(&text);
        }
    }
    Ok(layers.digest)
}

#[cfg(test)]
mod tests;
