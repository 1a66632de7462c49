//! Bringing the lock up to date: what a run, `mlctl lock` and `--locked` have in common.

use std::collections::BTreeSet;
use std::path::Path;

use mlctl_core::diag::Source;
use mlctl_core::workflow::Workflow;

use super::requirements::{self, Inputs};
use super::resolve;
use super::{FILE_NAME, Lock, file, platform};
use crate::environment::{Maker, Progress, described};
use crate::error::CommandError;

/// What may be changed in a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: `--locked`, `lock --check`.
    Frozen,
    /// What is missing or stale: a run, `mlctl lock`.
    Complete,
    /// Everything asked for: `lock --update`.
    Update,
}

/// What a lock is for.
#[derive(Clone, Copy)]
pub(crate) struct Project<'a> {
    /// The project's directory.
    pub(crate) root: &'a Path,
    /// The text of its spec.
    pub(crate) spec: &'a Source,
    /// What that says.
    pub(crate) workflow: &'a Workflow,
    /// The store's root: resolvers keep their tools there.
    pub(crate) store: &'a Path,
}

/// The lock with a current entry for each of `environments`, resolved where `mode` allows it, and written if changed.
/// Environments that are images have no entry here and are passed over.
pub(crate) fn environments(
    project: Project<'_>,
    environments: &BTreeSet<&str>,
    mode: Mode,
    progress: &Progress<'_>,
) -> Result<Lock, CommandError> {
    let lock = Lock::read(project.root)?;
    let wanted = wanted(project, environments)?;
    let outdated = outdated(&lock, &wanted, mode);
    if outdated.is_empty() {
        return Ok(lock);
    }
    if mode == Mode::Frozen {
        return Err(frozen(&lock, &outdated));
    }
    let _alone = file::exclusively(project.root)
        .map_err(|error| CommandError::missing(format!("cannot write {FILE_NAME}")).because(&error))?;
    // Another mlctl may have resolved meanwhile.
    let mut lock = Lock::read(project.root)?;
    for (name, inputs) in self::outdated(&lock, &wanted, mode) {
        let environment = &project.workflow.environments[name.as_str()];
        let Ok(described) = described(name, environment) else { continue };
        let maker = Maker::new(name, project.root, project.store, progress);
        let locked = resolve::resolve(&maker, project.spec, &described, inputs.clone())?;
        lock.environments.entry(name.clone()).or_default().insert(platform(), locked);
    }
    lock.write(project.root)?;
    Ok(lock)
}

/// What each environment asks for, of those that have a Python.
fn wanted(project: Project<'_>, environments: &BTreeSet<&str>) -> Result<Vec<(String, Inputs)>, CommandError> {
    let mut wanted = Vec::new();
    for name in environments {
        let Some(environment) = project.workflow.environments.get(*name) else { continue };
        let Ok(described) = described(name, environment) else { continue };
        if described.has_python() {
            wanted.push(((*name).to_owned(), requirements::read(project.root, project.spec, &described)?));
        }
    }
    Ok(wanted)
}

fn outdated<'a>(lock: &Lock, wanted: &'a [(String, Inputs)], mode: Mode) -> Vec<&'a (String, Inputs)> {
    let current =
        |(name, inputs): &(String, Inputs)| lock.environment(name).is_some_and(|locked| locked.inputs == inputs.digest);
    wanted.iter().filter(|entry| mode == Mode::Update || !current(entry)).collect()
}

/// What would have to change, and is not allowed to.
fn frozen(lock: &Lock, outdated: &[&(String, Inputs)]) -> CommandError {
    let changes = outdated.iter().map(|(name, _)| match lock.environment(name) {
        Some(_) => format!("environment `{name}` asks for something else than it was locked from"),
        None => format!("environment `{name}` is not locked for {}", platform()),
    });
    changes
        .fold(
            CommandError::missing(format!("{FILE_NAME} is not up to date, and may not be changed")),
            CommandError::cause,
        )
        .hint("run `mlctl lock` and commit the file")
}
