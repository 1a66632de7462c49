//! The Docker daemon: found as the docker command finds it, connected, and asked what it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use mlctl_core::scheduler::Capacity;
use tokio::runtime::Runtime;

use crate::error::CommandError;
use crate::spare;

mod address;
mod contexts;
mod dial;
mod failure;
mod find;
mod open;
mod patient;
mod probe;
mod remembered;
mod ssh;
mod tls;

use address::Address;
pub(crate) use dial::send;
pub(crate) use failure::{failure, reason};
use find::Variable;
pub(crate) use find::config_dir;
pub(crate) use remembered::Remembered;
use remembered::Socket;

/// The engine of 2019 (19.03) and what came after it: build with BuildKit, and give containers GPUs.
const OLDEST_API: (u32, u32) = (1, 40);
/// The store's directory of what it knows of daemons: a file for each that sees it, and for each socket what is there.
const NOTES: &str = "daemons";
/// Threads for what goes on at once: waiting for containers, reading their logs, streaming contexts.
const WORKERS: usize = 2;

/// The label that says of which store a container is.
pub(crate) const STORE_LABEL: &str = "dev.mlctl.store";

/// A daemon that answers.
#[derive(Debug)]
pub(crate) struct Daemon {
    runtime: Runtime,
    client: Docker,
    address: Address,
    /// The socket where it was asked.
    socket: Option<Socket>,
    about: About,
}

/// What a daemon says of itself.
#[derive(Debug)]
struct About {
    /// Its own among all daemons, where it has one.
    id: Option<String>,
    /// The version of its API.
    api: String,
    /// As the lock writes platforms: `linux-x86_64`.
    platform: String,
    buildkit: bool,
    rootless: bool,
    /// Whether users in containers are others outside.
    remapped: bool,
    capacity: Capacity,
}

impl Daemon {
    /// Connects to the daemon that `DOCKER_HOST`, `DOCKER_CONTEXT` or the current Docker context names; without any of
    /// them to the first that answers at a place where Docker and its kin listen.
    pub(crate) fn connect() -> Result<Arc<Self>, CommandError> {
        Self::connect_as(&variable)
    }

    /// The daemon that [`Daemon::connect`] would give, if it answers at a socket: no network is reached, and nothing
    /// started.
    pub(crate) fn at_hand() -> Option<Arc<Self>> {
        let wanted = find::wanted(&variable).ok().filter(find::Wanted::is_local)?;
        Self::open(wanted).ok()
    }

    /// Which daemon [`Daemon::connect`] would try, in a text that is another one for another daemon.
    pub(crate) fn meant() -> String {
        format!("{:?}", find::wanted(&variable).ok())
    }

    /// The same by what `variable` says of the environment.
    fn connect_as(variable: &Variable<'_>) -> Result<Arc<Self>, CommandError> {
        Self::open(find::wanted(variable)?)
    }

    fn open(wanted: find::Wanted) -> Result<Arc<Self>, CommandError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().map_err(
                |error| CommandError::missing("cannot start the threads that talk to Docker").because(&error),
            )?;
        let found = runtime.block_on(open::first(wanted))?;
        let open::Found { client, address, socket, about } = found;
        Ok(Arc::new(Self { runtime, client, address, socket, about }))
    }

    /// The client. It waits two minutes for the head of an answer: what takes longer (sending a context, waiting for a
    /// container) takes a clone with another [`Docker::with_timeout`].
    pub(crate) fn client(&self) -> &Docker {
        &self.client
    }

    /// The daemon's own threads.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Waits for `future`, whose tasks run on the daemon's own threads. Not to be called from a task.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Where containers run, as the lock writes platforms: `linux-x86_64`.
    pub(crate) fn platform(&self) -> &str {
        &self.about.platform
    }

    /// Whether it builds with BuildKit.
    pub(crate) fn has_buildkit(&self) -> bool {
        self.about.buildkit
    }

    /// Whether root in a container is the user who runs the daemon.
    pub(crate) fn is_rootless(&self) -> bool {
        self.about.rootless
    }

    /// The network of a step's container: the machine's own, as a process has. Making one takes longer than all else of
    /// a container. A daemon that maps users to others refuses that.
    pub(crate) fn network(&self) -> &'static str {
        if self.about.remapped { "default" } else { "host" }
    }

    /// What containers may use together.
    pub(crate) fn capacity(&self) -> Capacity {
        self.about.capacity
    }

    /// Whether what this process sees in the store at `store` is what a container with it mounted sees, both ways. It is
    /// tried with a container of `image` that is not started, which takes as long as to run one: that a daemon does is
    /// noted in the store.
    pub(crate) fn shares_files(&self, store: &Path, image: &str) -> Result<bool, CommandError> {
        let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let id = self.about.id.as_ref().map(|id| id.chars().map(clean).collect::<String>());
        let note = id.map(|id| store.join(NOTES).join(id));
        if let Some(note) = note.as_ref().filter(|note| note.exists()) {
            spare::used(note);
            return Ok(true);
        }
        let shares = self.block_on(probe::shares_files(&self.client, store, image))?;
        if let Some(note) = note.filter(|_| shares) {
            // Without the note it is tried again.
            let _ = std::fs::create_dir_all(store.join(NOTES)).and_then(|()| std::fs::write(note, ""));
        }
        Ok(shares)
    }
}

/// Forgets what the store at `store` knows of daemons that were not used for so long.
pub(crate) fn forget(store: &Path, unused_for: Duration) -> std::io::Result<()> {
    spare::collect(&store.join(NOTES), unused_for)
}

/// A variable of the environment; empty is as good as absent.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl std::fmt::Display for Daemon {
    /// Its address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests;
