//! Bringing the lock up to date: what a run, `mlctl lock` and `--locked` have in common.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mlctl_core::diag::Source;
use mlctl_core::workflow::{BaseImages, Workflow};
use mlctl_exec::store::Store;

use super::images::For;
use super::requirements::{self, Inputs};
use super::wanted::{UrlInput, Wanted};
use super::{FILE_NAME, Lock, file, images, resolve, urls};
use crate::environment::{Maker, Progress, Target, described};
use crate::error::CommandError;
use crate::platform::docker::Daemon;
use crate::session;

/// What may be changed in a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: `--locked`, `lock --check`.
    Frozen,
    /// What is missing or stale: a run, `mlctl lock`.
    Complete,
    /// Everything that is wanted: `lock --update`.
    Update,
}

/// Whose lock it is.
#[derive(Clone, Copy)]
pub(crate) struct Project<'a> {
    /// The project's directory.
    pub(crate) root: &'a Path,
    /// The text of its spec.
    pub(crate) spec: &'a Source,
    /// What that says.
    pub(crate) workflow: &'a Workflow,
    /// Where downloads are put, and resolvers keep their tools.
    pub(crate) store: &'a Store,
    /// Where the steps are to run.
    pub(crate) target: &'a Target,
    /// What containers of the project's contexts begin with: what another context has locked stays.
    pub(crate) base_images: &'a [BaseImages],
    /// Who knows images, where steps run in containers.
    pub(crate) daemon: Option<&'a Daemon>,
    /// The file of the context's certificate authorities.
    pub(crate) authorities: Option<&'a Path>,
}

impl<'a> Project<'a> {
    /// That of a project whose images nobody is asked about.
    pub(crate) fn of(project: &'a session::Project, store: &'a Store, target: &'a Target) -> Self {
        Self {
            root: &project.root,
            spec: &project.source,
            workflow: &project.workflow,
            store,
            target,
            base_images: &[],
            daemon: None,
            authorities: None,
        }
    }
}

/// The lock with a current entry for everything `wanted`: resolved and downloaded where `mode` allows it, and written if
/// that changed something. Environments that are images have no entry here and are passed over.
pub(crate) fn ensure(
    project: Project<'_>,
    wanted: &Wanted<'_>,
    mode: Mode,
    progress: &Progress<'_>,
) -> Result<Lock, CommandError> {
    let lock = Lock::read(project.root)?;
    let inputs = inputs(project, &wanted.environments)?;
    let mut changes = changes(&lock, wanted, (&inputs, project.target), mode);
    changes.extend(images(project, &lock, wanted, mode));
    if changes.is_empty() {
        return Ok(lock);
    }
    if mode == Mode::Frozen {
        return Err(frozen(&lock, &changes, project.target));
    }
    let _alone = file::exclusively(project.root)
        .map_err(|error| CommandError::missing(format!("cannot write {FILE_NAME}")).because(&error))?;
    // Another mlctl may have written meanwhile.
    let before = Lock::read(project.root)?;
    let changes = self::changes(&before, wanted, (&inputs, project.target), mode);
    let mut lock = before.clone();
    let mut result = Ok(());
    for change in &changes {
        result = change.make(project, mode, &mut lock, progress);
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        // Which image is the base of an environment depends on the Python that was locked just now.
        let images = images(project, &lock, wanted, mode);
        result = images.iter().try_for_each(|change| change.make(project, mode, &mut lock, progress));
    }
    // Also after a failure: what was resolved before it need not be resolved again.
    let written = if lock == before { Ok(()) } else { lock.write(project.root) };
    result.and(written).map(|()| lock)
}

/// One thing that has to change in a lock.
enum Change<'a> {
    Resolve(&'a str, &'a Inputs),
    Download(&'a str, UrlInput<'a>),
    /// Which image a name stands for, and what it is for.
    FindImage(String, For<'a>),
    ForgetEnvironment(String),
    ForgetImage(String),
    ForgetUrl(String),
}

/// What has to change of images. Only where steps run in containers: what images others have locked stays.
fn images<'a>(project: Project<'a>, lock: &Lock, wanted: &Wanted<'a>, mode: Mode) -> Vec<Change<'a>> {
    let Some(base_images) = &project.target.base_images else { return Vec::new() };
    let all = images::wanted(project, base_images, lock, wanted);
    let platform = &project.target.platform;
    let of_others = |name: &String| {
        project.base_images.iter().any(|images| images::wanted(project, images, lock, wanted).contains_key(name))
    };
    let gone = lock.images.keys().filter(|name| wanted.whole && !all.contains_key(*name) && !of_others(name));
    let gone: Vec<Change<'a>> = gone.cloned().map(Change::ForgetImage).collect();
    let stale = |name: &String| mode == Mode::Update || lock.image(name, platform).is_none();
    let found = all.into_iter().filter(|(name, _)| stale(name)).map(|(name, reason)| Change::FindImage(name, reason));
    found.chain(gone).collect()
}

fn changes<'a>(
    lock: &Lock,
    wanted: &Wanted<'a>,
    (inputs, target): (&'a [(&'a str, Inputs)], &Target),
    mode: Mode,
) -> Vec<Change<'a>> {
    let update = mode == Mode::Update;
    let mut changes = Vec::new();
    for (name, inputs) in inputs {
        if update || lock.environment(name, &target.platform).is_none_or(|locked| locked.inputs != inputs.digest) {
            changes.push(Change::Resolve(name, inputs));
        }
    }
    for (url, input) in &wanted.urls {
        if update || lock.urls.get(*url).is_none_or(|locked| !input.is_met_by(locked)) {
            changes.push(Change::Download(url, *input));
        }
    }
    if wanted.whole {
        // An entry for another platform is as good as one for this.
        let known = |name: &&String| wanted.environments.contains(name.as_str());
        changes.extend(lock.environments.keys().filter(|name| !known(name)).cloned().map(Change::ForgetEnvironment));
        let known = |url: &&String| wanted.urls.contains_key(url.as_str());
        changes.extend(lock.urls.keys().filter(|url| !known(url)).cloned().map(Change::ForgetUrl));
    }
    changes
}

impl Change<'_> {
    fn make(
        &self,
        project: Project<'_>,
        mode: Mode,
        lock: &mut Lock,
        progress: &Progress<'_>,
    ) -> Result<(), CommandError> {
        match self {
            Self::Resolve(name, inputs) => {
                let Ok(described) = described(name, &project.workflow.environments[*name]) else { return Ok(()) };
                let maker = Maker::new(name, project.root, project.store.root(), progress);
                let site =
                    resolve::Site { target: project.target, daemon: project.daemon, authorities: project.authorities };
                let reason = For::Base(name, project.workflow.environments[*name].span);
                let image_of = |image: &str| match lock.image(image, &project.target.platform) {
                    Some(locked) if mode != Mode::Update => Ok(locked.clone()),
                    _ => images::find(project, (image, reason), mode == Mode::Update, progress),
                };
                let locked = resolve::resolve(&maker, project.spec, (&described, inputs), &site, &image_of)?;
                lock.environments
                    .entry((*name).to_owned())
                    .or_default()
                    .insert(project.target.platform.clone(), locked);
            }
            Self::Download(url, input) => {
                let found = urls::download(project.store, url, progress).and_then(|found| input.verify(found));
                let found = found.map_err(|reason| urls::failed(project.spec, url, input.span, &reason))?;
                lock.urls.insert((*url).to_owned(), found);
            }
            Self::FindImage(name, reason) => {
                let locked = images::find(project, (name, *reason), mode == Mode::Update, progress)?;
                lock.images.entry(name.clone()).or_default().insert(project.target.platform.clone(), locked);
            }
            Self::ForgetEnvironment(name) => drop(lock.environments.remove(name)),
            Self::ForgetImage(name) => drop(lock.images.remove(name)),
            Self::ForgetUrl(url) => drop(lock.urls.remove(url)),
        }
        Ok(())
    }

    /// Why the lock is not up to date.
    fn reason(&self, lock: &Lock, platform: &str) -> String {
        match self {
            Self::Resolve(name, _) if lock.environment(name, platform).is_some() => {
                format!("environment `{name}` asks for something else than it was locked from")
            }
            Self::Resolve(name, _) => format!("environment `{name}` is not locked for {platform}"),
            Self::Download(url, _) if lock.urls.contains_key(*url) => {
                format!("{url} must have another SHA-256 than the locked one")
            }
            Self::Download(url, _) => format!("{url} is not locked"),
            Self::FindImage(name, _) => format!("image `{name}` is not locked for {platform}"),
            Self::ForgetImage(name) => format!("image `{name}` is not used any more"),
            Self::ForgetEnvironment(name) => format!("there is no environment `{name}` any more"),
            Self::ForgetUrl(url) => format!("{url} is not an input any more"),
        }
    }
}

/// What each environment asks for, of those that have a Python.
fn inputs<'a>(project: Project<'_>, names: &BTreeSet<&'a str>) -> Result<Vec<(&'a str, Inputs)>, CommandError> {
    let mut inputs = Vec::new();
    for name in names {
        let Some(environment) = project.workflow.environments.get(*name) else { continue };
        let Ok(described) = described(name, environment) else { continue };
        if described.has_python() {
            inputs.push((*name, requirements::read(project.root, project.spec, &described)?));
        }
    }
    Ok(inputs)
}

/// The requirements files that say what these environments ask for, relative to the project.
pub(crate) fn requirements_files(
    project: Project<'_>,
    environments: &BTreeSet<&str>,
) -> Result<BTreeSet<PathBuf>, CommandError> {
    Ok(inputs(project, environments)?.into_iter().flat_map(|(_, inputs)| inputs.files).collect())
}

/// What would have to change, and is not allowed to.
fn frozen(lock: &Lock, changes: &[Change<'_>], target: &Target) -> CommandError {
    let error = CommandError::missing(format!("{FILE_NAME} is not up to date, and may not be changed"));
    let reasons: Vec<String> = changes.iter().map(|change| change.reason(lock, &target.platform)).collect();
    let images = changes.iter().any(|change| matches!(change, Change::FindImage(..) | Change::ForgetImage(_)));
    let how = if images { "run `mlctl lock` in this context (`--context`)" } else { "run `mlctl lock`" };
    error.cause(reasons.join("\n")).hint(format!("{how} and commit the file"))
}
