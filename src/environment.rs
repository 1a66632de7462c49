//! Environments on this machine: from what the spec and the lock say to programs that steps can run.
//!
//! A *realisation* is what runs, and part of every key: operating system and architecture, Python as declared, the
//! locked distributions by name and version, system packages. The hashes of the lock are not in it, because pip locks
//! one file of a distribution and uv every one that fits: the same set must be the same realisation. They decide which
//! virtual environment is used, and what is installed is checked against them.

use std::collections::BTreeMap;
use std::path::Path;

use mlctl_core::diag::{Diag, Source};
use mlctl_core::digest::Digest;
use mlctl_core::workflow::{Environment, EnvironmentKind, Workflow};
use mlctl_exec::Realised;

use crate::error::CommandError;
use crate::lock::requirements::Described;
use crate::lock::{self, Lock, LockedEnvironment};

mod gc;
mod maker;
mod once;
pub(crate) mod pip;
mod system;
mod tool;
mod venv;

pub(crate) use gc::{Collected, collect};
pub(crate) use maker::Maker;

/// What is being done for an environment or a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Another thread or mlctl makes the same; it is waited for.
    Waiting,
    /// The versions of its distributions are being decided.
    Resolving,
    /// Its distributions are being installed.
    Installing,
    /// It is being downloaded.
    Downloading,
}

impl Phase {
    /// As a person reads it, before the name.
    pub(crate) const fn verb(self) -> &'static str {
        match self {
            Self::Waiting => "waiting for",
            Self::Resolving => "resolving",
            Self::Installing => "installing",
            Self::Downloading => "downloading",
        }
    }
}

/// What happens while environments and downloads are made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update<'a> {
    /// Work goes on.
    Working {
        /// What is done.
        phase: Phase,
        /// To which environment or URL.
        subject: &'a str,
        /// The last line that a tool wrote, or how far a download is; may be empty.
        line: &'a str,
    },
    /// Something that people should know, once.
    Warning(&'a str),
}

/// Told what happens; from any thread.
pub(crate) type Progress<'a> = dyn Fn(Update<'_>) + Sync + 'a;

/// What runs the steps of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Realisation {
    /// The environment's name.
    pub(crate) name: String,
    /// What it is, in keys.
    pub(crate) digest: Digest,
    /// The Python in it; `None`: only the machine's programs.
    pub(crate) python: Option<LockedEnvironment>,
    /// Debian packages that it needs.
    pub(crate) system_packages: Vec<String>,
}

/// The realisation digest of steps without an environment: the machine's programs.
pub(crate) fn host() -> Digest {
    digest(Some(&lock::platform()), None, &[])
}

/// What each of `names` is, by name: a pure function of spec and lock. Environments that this machine cannot run
/// without containers, and those that are not locked, are errors at their place in the spec.
pub(crate) fn realisations<'a>(
    workflow: &Workflow,
    spec: &Source,
    lock: &Lock,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, Realisation>, CommandError> {
    let mut all = BTreeMap::new();
    let mut refused = Vec::new();
    for name in names {
        let Some(environment) = workflow.environments.get(name) else { continue };
        match realisation(name, environment, lock) {
            Ok(realisation) => drop(all.insert(name.to_owned(), realisation)),
            Err(diag) => refused.push(*diag),
        }
    }
    if refused.is_empty() { Ok(all) } else { Err(CommandError::diags(spec.clone(), refused)) }
}

fn realisation(name: &str, environment: &Environment, lock: &Lock) -> Result<Realisation, Box<Diag>> {
    let described = described(name, environment)?;
    let EnvironmentKind::Described { system_packages, .. } = &environment.kind else { unreachable!("it is described") };
    let python = match lock.environment(name) {
        Some(locked) if described.has_python() => Some(locked.clone()),
        None if described.has_python() => {
            let message = format!("environment `{name}` is not locked for {}", lock::platform());
            let diag = Diag::error("environment-not-locked", environment.span, message);
            return Err(Box::new(diag.help("run `mlctl lock`")));
        }
        _ => None,
    };
    let platform = (!environment.portable).then(lock::platform);
    let digest = digest(platform.as_deref(), python.as_ref(), system_packages);
    Ok(Realisation { name: name.to_owned(), digest, python, system_packages: system_packages.clone() })
}

/// The environment as something to resolve and install; one made of an image is refused.
pub(crate) fn described<'a>(name: &'a str, environment: &'a Environment) -> Result<Described<'a>, Box<Diag>> {
    let what = match &environment.kind {
        EnvironmentKind::Described { python, requirements, packages, .. } => {
            return Ok(Described {
                name,
                span: environment.span,
                python: python.as_deref(),
                requirements: requirements.as_ref().map(|(file, span)| (file.as_str(), *span)),
                packages,
            });
        }
        EnvironmentKind::Image(_) => "an image",
        EnvironmentKind::Build(_) => "a Dockerfile",
    };
    let message = format!("environment `{name}` is {what}, which local processes cannot run in");
    let diag = Diag::error("environment-needs-container", environment.span, message);
    Err(Box::new(diag.help("run it in containers: `--context docker`")))
}

fn digest(platform: Option<&str>, python: Option<&LockedEnvironment>, system_packages: &[String]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("mlctl 1 realisation");
    let mut field = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    field(platform.unwrap_or(""));
    match python {
        None => field("no python"),
        Some(locked) => {
            field("python");
            field(&locked.python);
            field(&locked.distributions.len().to_string());
            for distribution in &locked.distributions {
                field(&distribution.name);
                field(&distribution.version);
            }
        }
    }
    let mut system_packages: Vec<&str> = system_packages.iter().map(String::as_str).collect();
    system_packages.sort_unstable();
    system_packages.dedup();
    system_packages.iter().for_each(|package| field(package));
    hasher.finalize().into()
}

/// Makes `realisation` ready on this machine: its virtual environment is made once, however many threads and processes
/// ask, and kept for all projects under `store`. Cheap when it is there.
pub(crate) fn realise(
    realisation: &Realisation,
    project: &Path,
    store: &Path,
    progress: &Progress<'_>,
) -> Result<Realised, CommandError> {
    system::check(&realisation.name, &realisation.system_packages, progress)?;
    match &realisation.python {
        None => Ok(Realised { path: Vec::new(), env: BTreeMap::new() }),
        Some(locked) => venv::realise(&Maker::new(&realisation.name, project, store, progress), locked),
    }
}

#[cfg(test)]
mod tests;
