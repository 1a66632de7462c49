//! What of an image matters to the steps that run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::accounts;
use crate::error::CommandError;
use crate::image::platform;
use crate::platform::docker::{Daemon, failure};

/// An image that the daemon has.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) id: String,
    /// What its programs are for, where that is not what containers run on: `linux/arm64`.
    pub(super) foreign: Option<String>,
    /// Its variables.
    pub(super) env: BTreeMap<String, String>,
    /// Files with the names of users and groups, and where they belong.
    pub(super) accounts: Vec<(PathBuf, PathBuf)>,
}

impl Image {
    /// The image of that id or name. `places`: the store, and in it the directory of the run.
    pub(super) async fn look(
        daemon: &Daemon,
        name: &str,
        places: (&Path, &Path),
        user: (u32, u32),
    ) -> Result<Self, CommandError> {
        let docker = daemon.client();
        let found = docker.inspect_image(name).await;
        let found = found.map_err(|error| failure(&format!("cannot use the image `{name}`"), error))?;
        let id = found.id.unwrap_or_else(|| name.to_owned());
        let platform = found.os.zip(found.architecture).map(|(os, processor)| format!("{os}/{processor}"));
        let foreign = platform.filter(|theirs| *theirs != platform::docker(daemon.platform()));
        let variables = found.config.and_then(|config| config.env).unwrap_or_default();
        let named =
            |variable: &String| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = variables.iter().filter_map(named).collect();
        let accounts = accounts::files(docker, &id, places, user).await?;
        Ok(Self { id, foreign, env, accounts })
    }
}
