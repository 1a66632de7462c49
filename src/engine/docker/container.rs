//! The life of a container: made, attached to, started, followed to its end, removed.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerState, ContainerStateStatusEnum};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptionsBuilder,
};
use futures_util::TryStreamExt as _;
use mlctl_core::action::StepFailure;
use mlctl_exec::init::{How, News, Order};
use mlctl_exec::{Ended, Launch};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::attached::{Attached, Followed, cancelled};
use super::{Containers, body, failed};
use crate::platform::docker::failure;

/// How long the daemon may take to say what became of a container, or to remove it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a command in a container.
pub(super) async fn run(
    containers: &Containers<'_>,
    launch: &mut Launch<'_>,
    body: ContainerCreateBody,
    started: &mut dyn FnMut(),
) -> Ended {
    let docker = containers.daemon.client();
    let name = body::name(launch.task);
    let (argv, env) = (std::mem::take(&mut launch.argv), std::mem::take(&mut launch.env));
    let order = match Order::new(argv, env, &launch.bundle.work).to_bytes() {
        Ok(order) => order,
        Err(error) => return failed(&error),
    };
    let since = Instant::now();
    // A daemon that hangs is not waited for by who wants to go.
    let begun = tokio::select! {
        begun = begin(docker, &name, body, &order) => begun,
        () = cancelled(launch.cancel.forced_fd()) => Err(StepFailure::Cancelled),
    };
    let ended = match begun {
        Ok(attached) => {
            let followed = attached.follow(launch, started).await;
            let limit = launch.task.resources.memory;
            conclude(docker, &name, followed, (since, limit)).await
        }
        Err(failure) => Ended { result: Err(failure), time: Duration::ZERO },
    };
    containers.remove(name);
    ended
}

/// Starts it, and sends what it is to run.
async fn begin(docker: &Docker, name: &str, body: ContainerCreateBody, order: &[u8]) -> Result<Attached, StepFailure> {
    let explain = |what: &str, error| StepFailure::Executor { reason: failure(what, error).to_string() };
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    docker.create_container(Some(options), body).await.map_err(|error| explain("cannot make the container", error))?;
    let options = AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
    let mut attached = docker
        .attach_container(name, Some(options))
        .await
        .map_err(|error| explain("cannot attach to the container", error))?;
    let start = async {
        let started = docker.start_container(name, None::<StartContainerOptions>).await;
        started.map_err(|error| explain("cannot start the container", error))
    };
    let send = async {
        let sent = async {
            attached.input.write_all(order).await?;
            attached.input.flush().await
        };
        sent.await.map_err(|error| explain("cannot tell the container what to run", error.into()))
    };
    // What is long is only taken once the container runs.
    tokio::try_join!(start, send)?;
    Ok(Attached::new(attached))
}

/// What the end of a container means.
async fn conclude(docker: &Docker, name: &str, followed: Followed, (since, limit): (Instant, Option<u64>)) -> Ended {
    let Followed { by_us, last, lost } = followed;
    let mut time = since.elapsed();
    let result = match last {
        Some(News::Started) | None if by_us.is_some() => Ok(()),
        Some(News::NotStarted(reason)) => {
            time = Duration::ZERO;
            Err(StepFailure::NotStarted { reason })
        }
        Some(News::Ended { how, millis, out_of_memory, alone }) => {
            time = Duration::from_millis(millis);
            if !alone {
                gone(docker, name).await;
            }
            match how {
                How::Exit(0) => Ok(()),
                _ if out_of_memory || state(docker, name).await.is_ok_and(|state| was_short(&state)) => {
                    Err(StepFailure::OutOfMemory { limit })
                }
                How::Exit(code) => Err(StepFailure::Exit { code }),
                How::Signal(signal) => Err(StepFailure::Signal { signal }),
            }
        }
        Some(News::Started) | None => Err(silent(docker, name, lost, limit).await),
    };
    Ended { result: by_us.map_or(result, Err), time }
}

/// Why the first process said nothing of the command's end.
async fn silent(docker: &Docker, name: &str, lost: Option<String>, limit: Option<u64>) -> StepFailure {
    const KILLED: i64 = 128 + 9;
    let what = "lost the container";
    let removed = || StepFailure::Executor { reason: "somebody removed its container".to_owned() };
    match state(docker, name).await {
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => removed(),
        // It is killed for that.
        Ok(state) if state.status == Some(ContainerStateStatusEnum::REMOVING) => removed(),
        Err(error) => StepFailure::Executor { reason: failure(what, error).to_string() },
        Ok(state) if was_short(&state) => StepFailure::OutOfMemory { limit },
        Ok(state) if state.running == Some(false) && state.exit_code == Some(KILLED) && lost.is_none() => {
            StepFailure::Signal { signal: 9 }
        }
        Ok(state) => {
            let said = lost.or(state.error.filter(|error| !error.is_empty()));
            let why = said.unwrap_or_else(|| "it ended without telling how".to_owned());
            StepFailure::Executor { reason: format!("{what}: {why}") }
        }
    }
}

fn was_short(state: &ContainerState) -> bool {
    state.oom_killed == Some(true)
}

async fn state(docker: &Docker, name: &str) -> Result<ContainerState, Error> {
    let found = timeout(PATIENCE, docker.inspect_container(name, None)).await;
    Ok(found.map_err(|_| Error::RequestTimeoutError)??.state.unwrap_or_default())
}

/// Waits until nothing runs in it: what its first process may not end, the system does.
async fn gone(docker: &Docker, name: &str) {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let _ = timeout(PATIENCE, docker.wait_container(name, Some(options)).try_next()).await;
}

/// Removes it, with the volumes that its image declares. A daemon that is slow goes on with it alone.
pub(super) async fn remove(docker: &Docker, name: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    timeout(PATIENCE, docker.remove_container(name, Some(options))).await.map_err(|_| Error::RequestTimeoutError)?
}
