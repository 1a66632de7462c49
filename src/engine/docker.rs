//! The launcher `docker`: a step's command in a container of its own, under the shared scheduler.
//!
//! Everything stands in the container where it stands outside: paths in arguments and links mean the same. The first
//! process is mlctl itself ([`mlctl_exec::init`]), attached to before the container starts, so that no log is lost
//! however fast it ends, and nothing of a step is in the container's configuration.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mlctl_core::action::StepFailure;
use mlctl_exec::{Ended, Launch, Realised};
use rustix::fs::{AtFlags, CWD, linkat};
use tokio::task::JoinHandle;

use crate::error::CommandError;
use crate::image::platform;
use crate::platform::docker::Daemon;

pub(crate) mod accounts;
mod attached;
mod body;
mod container;
mod image;
pub(crate) mod leftovers;

use image::Image;

/// Which image a step of an environment runs in: its id, or a name that the daemon knows.
pub(crate) type ImageOf<'a> = dyn Fn(Option<&str>) -> Result<String, CommandError> + Sync + 'a;

/// Runs commands in containers.
pub(crate) struct Containers<'a> {
    daemon: Arc<Daemon>,
    /// The store's root.
    store: PathBuf,
    /// In it, the run's own directory.
    directory: PathBuf,
    /// mlctl, for the containers.
    program: PathBuf,
    image_of: &'a ImageOf<'a>,
    images: Mutex<HashMap<String, Arc<Image>>>,
    /// Containers that are being removed.
    removals: Mutex<Vec<JoinHandle<()>>>,
}

impl<'a> Containers<'a> {
    /// Containers of `daemon`, with what they need in `directory`, which is in the store.
    pub(crate) fn new(
        daemon: Arc<Daemon>,
        store: &Path,
        directory: &Path,
        image_of: &'a ImageOf<'a>,
    ) -> Result<Self, CommandError> {
        let program = directory.join("mlctl");
        give_program(&program)
            .map_err(|error| CommandError::missing("cannot give mlctl to containers").because(&error))?;
        let (store, directory) = (store.to_owned(), directory.to_owned());
        let (images, removals) = (Mutex::default(), Mutex::default());
        Ok(Self { daemon, store, directory, program, image_of, images, removals })
    }

    /// What a step of `environment` finds in its image.
    pub(crate) fn realise(&self, environment: Option<&str>) -> Result<Realised, CommandError> {
        Ok(Realised { base: self.image(environment)?.env.clone(), ..Realised::default() })
    }

    /// Runs a command, with these GPUs. Returns when it is gone, and everything that it started.
    pub(crate) fn run(&self, mut launch: Launch<'_>, gpus: &[u32], started: &mut dyn FnMut()) -> Ended {
        let image = match self.image(launch.task.environment.as_deref()) {
            Ok(image) => image,
            Err(error) => return failed(&error),
        };
        let body = body::body(&launch, &image, &self.program, &self.store, &self.user(), gpus, self.daemon.network());
        let mut ended = self.daemon.block_on(container::run(self, &mut launch, body, started));
        if let (Err(StepFailure::NotStarted { reason }), Some(foreign)) = (&mut ended.result, &image.foreign) {
            let own = platform::docker(self.daemon.platform());
            *reason += &format!("; its image is for {foreign}, and the daemon's containers run on {own}");
        }
        ended
    }

    /// Waits until no container of this run is left.
    pub(crate) fn finish(&self) {
        let removals = std::mem::take(&mut *self.removals.lock().unwrap_or_else(PoisonError::into_inner));
        self.daemon.block_on(async {
            for removal in removals {
                // One that failed is found by the next mlctl.
                let _ = removal.await;
            }
        });
    }

    /// Who runs the command: this user, so that what it writes is this user's.
    fn user(&self) -> (u32, u32) {
        // Root in a container of a rootless daemon is the user outside.
        let of_user = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if self.daemon.is_rootless() { (0, 0) } else { of_user() }
    }

    fn image(&self, environment: Option<&str>) -> Result<Arc<Image>, CommandError> {
        let name = (self.image_of)(environment)?;
        // Held while it is looked at: many steps begin at once, and most have the same image.
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.get(&name) {
            return Ok(image.clone());
        }
        let found =
            self.daemon.block_on(Image::look(&self.daemon, &name, (&self.store, &self.directory), self.user()))?;
        Ok(images.entry(name).or_insert(Arc::new(found)).clone())
    }

    /// Removes a container, without making anybody wait for it. From within the daemon's runtime.
    fn remove(&self, container: String) {
        let client = self.daemon.client().clone();
        let removal = tokio::spawn(async move {
            // One that cannot be removed is found by the next mlctl.
            let _ = container::remove(&client, &container).await;
        });
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        removals.retain(|removal| !removal.is_finished());
        removals.push(removal);
    }
}

/// Whether this program is one that containers of `daemon` can start.
pub(crate) fn can_run(daemon: &Daemon) -> Result<(), CommandError> {
    let own = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    if daemon.platform() == own {
        return Ok(());
    }
    Err(CommandError::usage(format!("this mlctl cannot run steps in containers of the Docker daemon at {daemon}"))
        .cause(format!(
            "it is a program for {own}, the containers are {}, and it has to start there",
            daemon.platform()
        ))
        .hint(format!("run the mlctl for {} there, or use `--context local`", daemon.platform())))
}

/// Puts this program at `path`: a link where possible, so that what is built or installed meanwhile is not mixed in.
fn give_program(path: &Path) -> io::Result<()> {
    const THIS: &str = "/proc/self/exe";
    if linkat(CWD, THIS, CWD, path, AtFlags::SYMLINK_FOLLOW).is_err() {
        std::fs::copy(THIS, path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The command was not run, for a reason that is not its own.
fn failed(error: &dyn std::fmt::Display) -> Ended {
    Ended { result: Err(StepFailure::Executor { reason: error.to_string() }), time: Duration::ZERO }
}
