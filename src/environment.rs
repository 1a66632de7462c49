//! Environments: from what the spec and the lock say to programs that steps can run, on this machine or in an image.
//!
//! A *realisation* is what runs, and part of every key: operating system and architecture, Python as declared, the
//! locked distributions by name and version, system packages. The hashes of the lock are not in it, because pip locks
//! one file of a distribution and uv every one that fits: the same set must be the same realisation. They decide which
//! virtual environment is used, and what is installed is checked against them.

use std::collections::BTreeMap;
use std::path::Path;

use mlctl_core::diag::{Diag, Source};
use mlctl_core::digest::Digest;
use mlctl_core::key::Encoder;
use mlctl_core::workflow::{BaseImages, Environment, EnvironmentKind, Workflow};
use mlctl_exec::Realised;

use crate::error::CommandError;
use crate::lock::requirements::Described;
use crate::lock::{self, Lock, LockedEnvironment, LockedImage};
use crate::record::UsedEnvironment;

mod baked;
mod gc;
mod maker;
mod once;
pub(crate) mod pip;
mod system;
mod tool;
mod venv;

use baked::baked;
pub(crate) use baked::{Baked, FILE_NAME as BAKED_FILE};
pub(crate) use gc::{Collected, collect};
pub(crate) use maker::{Maker, uv};

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

/// Where steps run, as far as environments depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The platform of their programs, as the lock names it.
    pub(crate) platform: String,
    /// In containers: what those begin with that name no image. `None`: as processes of this machine.
    pub(crate) base_images: Option<BaseImages>,
}

impl Target {
    /// This machine, without containers.
    pub(crate) fn processes() -> Self {
        Self { platform: lock::platform(), base_images: None }
    }
}

/// What runs the steps of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Realisation {
    /// The environment's name.
    pub(crate) name: String,
    /// What it is, in keys.
    pub(crate) digest: Digest,
    /// What it is made from.
    pub(crate) kind: RealisationKind,
}

impl Realisation {
    /// For the record: what it is, and the id of the image that containers were made from.
    pub(crate) fn used(&self, id: Option<String>) -> UsedEnvironment {
        let image = match &self.kind {
            RealisationKind::Described { .. } => None,
            RealisationKind::Image(image) => Some(image.locked.digest.clone()),
            RealisationKind::Build(id) => Some(id.clone()),
        };
        UsedEnvironment { name: Some(self.name.clone()), realisation: self.digest, image, id }
    }
}

/// What a realisation is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RealisationKind {
    /// A description: installed on this machine, or in an image of its own.
    Described {
        /// The Python in it; `None`: only programs of the system.
        python: Option<LockedEnvironment>,
        /// Debian packages that it needs.
        system_packages: Vec<String>,
        /// In containers, and once it is locked: what its image begins with.
        base: Option<NamedImage>,
    },
    /// An image that the spec names.
    Image(NamedImage),
    /// An image built from a Dockerfile: its id.
    Build(String),
}

/// An image by name, and which one that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedImage {
    /// As the spec or the context has it.
    pub(crate) name: String,
    /// As it is locked.
    pub(crate) locked: LockedImage,
}

impl NamedImage {
    /// The image of this name, if it is locked for a platform.
    pub(crate) fn of(name: String, lock: &Lock, platform: &str) -> Option<Self> {
        let locked = lock.image(&name, platform)?.clone();
        Some(Self { name, locked })
    }
}

/// What realisations are found in.
pub(crate) struct Known<'a> {
    /// What is locked.
    pub(crate) lock: &'a Lock,
    /// For where.
    pub(crate) target: &'a Target,
    /// The ids of images built from Dockerfiles, by environment.
    pub(crate) built: &'a BTreeMap<String, String>,
}

/// The realisation digest of steps without an environment: the programs of a platform.
pub(crate) fn host(platform: &str) -> Digest {
    digest(Some(platform), None, &[])
}

/// What each of `names` is, by name: a pure function of spec and what is known. Environments that this machine cannot
/// run without containers, and those that are not locked, are errors at their place in the spec; one whose image is not
/// built yet has no realisation.
pub(crate) fn realisations<'a>(
    workflow: &Workflow,
    spec: &Source,
    known: &Known<'_>,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, Realisation>, CommandError> {
    let mut all = BTreeMap::new();
    let mut refused = Vec::new();
    for name in names {
        let Some(environment) = workflow.environments.get(name) else { continue };
        match realisation(name, environment, known) {
            Ok(Some(realisation)) => drop(all.insert(name.to_owned(), realisation)),
            Ok(None) => {}
            Err(diag) => refused.push(*diag),
        }
    }
    if refused.is_empty() { Ok(all) } else { Err(CommandError::diags(spec.clone(), refused)) }
}

fn realisation(name: &str, environment: &Environment, known: &Known<'_>) -> Result<Option<Realisation>, Box<Diag>> {
    let Known { lock, target, built } = *known;
    let not_locked = |what: &str| {
        let message = format!("{what} is not locked for {}", target.platform);
        Box::new(Diag::error("environment-not-locked", environment.span, message).help("run `mlctl lock`"))
    };
    let platform = (!environment.portable).then_some(target.platform.as_str());
    let (digest, kind) = match &environment.kind {
        EnvironmentKind::Described { system_packages, .. } => {
            let has_python = described(name, environment)?.has_python();
            let python = lock.environment(name, &target.platform).filter(|_| has_python).cloned();
            if has_python && python.is_none() {
                return Err(not_locked(&format!("environment `{name}`")));
            }
            let version = python.as_ref().map(|locked| locked.python.as_str());
            let base = target.base_images.as_ref().map(|images| images.image(version));
            let base = base.and_then(|base| NamedImage::of(base, lock, &target.platform));
            let digest = digest(platform, python.as_ref(), system_packages);
            (digest, RealisationKind::Described { python, system_packages: system_packages.clone(), base })
        }
        EnvironmentKind::Image(_) | EnvironmentKind::Build(_)
            if target.base_images.is_none() && baked(name).is_none() =>
        {
            return Err(needs_container(name, environment));
        }
        EnvironmentKind::Image(image) => {
            let named = NamedImage::of(image.clone(), lock, &target.platform);
            let named = named.ok_or_else(|| not_locked(&format!("image `{image}` of environment `{name}`")))?;
            (image_digest(platform, &named.locked.digest), RealisationKind::Image(named))
        }
        EnvironmentKind::Build(_) => {
            let Some(id) = built.get(name).or_else(|| Some(&baked(name)?.id)) else { return Ok(None) };
            (image_digest(platform, id), RealisationKind::Build(id.clone()))
        }
    };
    Ok(Some(Realisation { name: name.to_owned(), digest, kind }))
}

/// Whether processes of this machine can run in an environment; the error says why not.
pub(crate) fn check_process(name: &str, environment: &Environment) -> Result<(), Box<Diag>> {
    if baked(name).is_some() { Ok(()) } else { described(name, environment).map(drop) }
}

/// The environment as something to resolve and install; one made of an image is refused.
pub(crate) fn described<'a>(name: &'a str, environment: &'a Environment) -> Result<Described<'a>, Box<Diag>> {
    let EnvironmentKind::Described { python, requirements, packages, .. } = &environment.kind else {
        return Err(needs_container(name, environment));
    };
    Ok(Described {
        name,
        span: environment.span,
        python: python.as_deref(),
        requirements: requirements.as_ref().map(|(file, span)| (file.as_str(), *span)),
        packages,
    })
}

fn needs_container(name: &str, environment: &Environment) -> Box<Diag> {
    let what = if matches!(environment.kind, EnvironmentKind::Image(_)) { "an image" } else { "a Dockerfile" };
    let message = format!("environment `{name}` is {what}, which local processes cannot run in");
    let diag = Diag::error("environment-needs-container", environment.span, message);
    Box::new(diag.help("run it in containers: `--context docker`"))
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

/// Of an image, by its digest.
fn image_digest(platform: Option<&str>, image: &str) -> Digest {
    let mut encoder = Encoder::new("mlctl 1 image");
    encoder.text(platform.unwrap_or("")).text(image);
    encoder.finish()
}

/// Makes `realisation` ready on this machine: its virtual environment is made once, however many threads and processes
/// ask, and kept for all projects under `store`. Cheap when it is there. An image needs nothing here.
pub(crate) fn realise(
    realisation: &Realisation,
    project: &Path,
    store: &Path,
    progress: &Progress<'_>,
) -> Result<Realised, CommandError> {
    if let Some(baked) = baked(&realisation.name) {
        return Ok(baked.realised());
    }
    let RealisationKind::Described { python, system_packages, .. } = &realisation.kind else {
        return Ok(Realised::default());
    };
    system::check(&realisation.name, system_packages, progress)?;
    match python {
        None => Ok(Realised::default()),
        Some(locked) => venv::realise(&Maker::new(&realisation.name, project, store, progress), locked),
    }
}

#[cfg(test)]
mod tests;
