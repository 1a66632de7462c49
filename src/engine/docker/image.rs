//! What of an image matters to the steps that run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bollard::Docker;

use super::accounts;
use crate::error::CommandError;
use crate::platform::docker::failure;

/// An image that the daemon has.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) id: String,
    /// Its variables.
    pub(super) env: BTreeMap<String, String>,
    /// Files with the names of users and groups, and where they belong.
    pub(super) accounts: Vec<(PathBuf, PathBuf)>,
}

impl Image {
    /// The image of that id or name.
    pub(super) async fn look(
        docker: &Docker,
        name: &str,
        store: &Path,
        user: (u32, u32),
    ) -> Result<Self, CommandError> {
        let found = docker.inspect_image(name).await;
        let found = found.map_err(|error| failure(&format!("cannot use the image `{name}`"), error))?;
        let id = found.id.unwrap_or_else(|| name.to_owned());
        let variables = found.config.and_then(|config| config.env).unwrap_or_default();
        let named =
            |variable: &String| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = variables.iter().filter_map(named).collect();
        let accounts = accounts::files(docker, &id, store, user).await?;
        Ok(Self { id, env, accounts })
    }
}
