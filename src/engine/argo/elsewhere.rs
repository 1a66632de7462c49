//! What is in a store that no network is reached to ask: nothing is known of it.

use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_core::forecast::Known;
use mlctl_exec::sources::Inputs;

/// A store elsewhere, and the project's files here.
pub(crate) struct Elsewhere<'a>(pub(crate) &'a Inputs);

impl Known for Elsewhere<'_> {
    fn result(&mut self, _: &Digest) -> Option<Arc<ActionResult>> {
        None
    }

    fn entries(&mut self, _: &Artifact) -> Result<Vec<String>, String> {
        Err("the directory is in another store".to_owned())
    }

    fn entry(&mut self, _: &Artifact, path: &str) -> Result<Artifact, String> {
        Err(format!("`{path}` is in another store"))
    }

    fn file(&mut self, path: &str) -> Result<Artifact, String> {
        self.0.digest(path).map_err(|error| error.to_string())
    }
}
