//! The store that a context shares with other machines, and what it has of a plan's results.

use std::collections::HashMap;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_core::forecast::{Forecast, Known, Outlook, Why, forecast};
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::Facts;
use mlctl_exec::manifest::Manifest;
use mlctl_exec::store::Store;
use mlctl_remote::{Location, Options, Remote, RemoteError};

use crate::config::Context;
use crate::engine::argo::own_directory;
use crate::error::CommandError;
use crate::forecast::Stored;
use crate::{prepare, trust};

pub(crate) mod shared;

/// Where this machine's store keeps what makes transfers resumable.
const STATE: &str = "remotes";

/// Opens the store of a context. It has one.
pub(crate) fn open(context: &Context, store: &Store) -> Result<Remote, CommandError> {
    open_with(context, store, |_| {})
}

/// Opens the records of a cluster's runs: in the context's store.
pub(crate) fn records(context: &Context, store: &Store) -> Result<Remote, CommandError> {
    let Some(directory) = own_directory(context, store.root())? else { return open(context, store) };
    let url = mlctl_core::records::location(&format!("file://{directory}"));
    let made = std::fs::create_dir_all(url.trim_start_matches("file://"));
    made.map_err(|error| CommandError::missing("cannot use the store").cause(format!("{url}: {error}")))?;
    let opened = Location::parse(&url);
    let opened = opened.and_then(|location| Remote::open(&location, &Options::new(store.root().join(STATE))));
    opened.map_err(|error| failure(format!("cannot use the store `{url}`"), &url, &error))
}

/// The same, used otherwise than usually.
fn open_with(context: &Context, store: &Store, change: impl FnOnce(&mut Options)) -> Result<Remote, CommandError> {
    let Some(at) = &context.merged.store else {
        return Err(CommandError::usage(format!("the context `{}` has no store to share", context.name)).hint(
            format!("`store = {{ url = \"s3://BUCKET/PREFIX\" }}` in [contexts.{}] gives it one", context.name),
        ));
    };
    let failed = |error: &RemoteError| failure(format!("cannot use the store `{}`", at.url), &at.url, error);
    let location = Location::parse(&at.url).map_err(|error| failed(&error))?;
    trust::confirm("store", &at.url, context.origins.get("store.url"))?;
    let mut options = Options::new(store.root().join(STATE));
    options.ca = prepare::authorities(context)?;
    change(&mut options);
    Remote::open(&location, &options).map_err(|error| failed(&error))
}

/// What a remote store's trouble means for a command.
pub(crate) fn failure(message: impl Into<String>, url: &str, error: &RemoteError) -> CommandError {
    let failed = CommandError::missing(message).because(error);
    error.hint(url).into_iter().fold(failed, CommandError::hint)
}

/// The keys, and ids, of a plan's instances, as far as they are known from the results of both stores. What depends on a result that neither
/// has is none of them. The remote store is asked once for each level of the plan at most.
pub(crate) fn keyed(
    plan: &Plan,
    facts: &Facts,
    stored: Stored<'_>,
    remote: &Remote,
) -> Result<Vec<(Digest, String)>, RemoteError> {
    let found = explore(plan, facts, Both { here: true, ..Both::there(stored, remote) })?;
    Ok(found.iter().filter_map(|(instance, _)| Some((instance.key()?, instance.id()))).collect())
}

/// What a run would do that has the remote store's results and no others.
pub(crate) fn forecast_there(
    plan: &Plan,
    facts: &Facts,
    stored: Stored<'_>,
    remote: &Remote,
) -> Result<Forecast, RemoteError> {
    explore(plan, facts, Both::there(stored, remote))
}

/// Looks results up until nothing more depends on one that was not looked for.
fn explore(plan: &Plan, facts: &Facts, mut both: Both<'_>) -> Result<Forecast, RemoteError> {
    loop {
        let outlook = forecast(plan.clone(), facts.clone(), &mut both);
        let unknown: Vec<Digest> = outlook
            .iter()
            .filter(|(_, outlook)| matches!(outlook, Outlook::Runs(Why::NoResult)))
            .filter_map(|(instance, _)| instance.key().filter(|key| !both.there.contains_key(key)))
            .collect();
        if unknown.is_empty() {
            return Ok(outlook);
        }
        // What is not fetched before it is used must be there, with all that it names.
        let found = if both.here { both.remote.lookup(&unknown)? } else { both.remote.results(&unknown)? };
        both.there.extend(unknown.into_iter().zip(found.into_iter().map(|entry| entry.map(|entry| entry.result))));
    }
}

/// What is known here and there.
pub(crate) struct Both<'a> {
    stored: Stored<'a>,
    remote: &'a Remote,
    /// Whether results of this machine count.
    here: bool,
    /// Results of the remote store, as far as they were looked up.
    there: HashMap<Digest, Option<Arc<ActionResult>>>,
}

impl<'a> Both<'a> {
    /// The project's files, and the remote store, whose directories this machine may have too.
    pub(crate) fn there(stored: Stored<'a>, remote: &'a Remote) -> Self {
        Self { stored, remote, here: false, there: HashMap::new() }
    }
}

impl Known for Both<'_> {
    fn result(&mut self, key: &Digest) -> Option<Arc<ActionResult>> {
        let here = if self.here { self.stored.result(key) } else { None };
        here.or_else(|| self.there.get(key).cloned().flatten())
    }

    fn entries(&mut self, directory: &Artifact) -> Result<Vec<String>, String> {
        entries(self.stored.store, self.remote, directory)
    }

    fn entry(&mut self, directory: &Artifact, path: &str) -> Result<Artifact, String> {
        entry(self.stored.store, self.remote, directory, path)
    }

    fn file(&mut self, path: &str) -> Result<Artifact, String> {
        self.stored.file(path)
    }
}

/// The names of what is directly in a stored directory.
pub(crate) fn entries(store: &Store, remote: &Remote, directory: &Artifact) -> Result<Vec<String>, String> {
    Ok(manifest(store, remote, directory)?.names().into_iter().map(str::to_owned).collect())
}

/// What is at a path in a stored directory.
pub(crate) fn entry(store: &Store, remote: &Remote, directory: &Artifact, path: &str) -> Result<Artifact, String> {
    manifest(store, remote, directory)?.sub(path).ok_or_else(|| format!("there is no `{path}` in it"))
}

/// What a stored directory holds. This machine may have it; the remote store has it without its being fetched.
fn manifest(store: &Store, remote: &Remote, directory: &Artifact) -> Result<Arc<Manifest>, String> {
    if let Ok(manifest) = store.manifest(&directory.digest) {
        return Ok(Arc::new(manifest));
    }
    let found = remote.tree(&directory.digest).map_err(|error| error.to_string())?;
    found.ok_or_else(|| "the store has lost the directory".to_owned())
}
