//! What must be there before anything runs: the lock, downloads, images, virtual environments, secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_core::forecast::Forecast;
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::Facts;
use mlctl_core::workflow::EnvironmentKind;
use mlctl_exec::store::Store;
use mlctl_remote::Remote;

use crate::config::Context;
use crate::config::secret::{self, Secrets};
use crate::engine::{Engine, argo};
use crate::environment::{self, Known, NamedImage, Progress, Realisation, RealisationKind, Target};
use crate::error::CommandError;
use crate::forecast::{self, Stored};
use crate::image::{Builder, How, Image, check};
use crate::lock::{self, Lock, Mode, Wanted};
use crate::platform::docker::Daemon;
use crate::prepare::{self, Files};
use crate::record::UsedEnvironment;
use crate::remote::{self, shared::Shared};
use crate::session::{Project, Session};
use crate::ui::build_view::BuildView;
use crate::ui::preparing::Preparing;

/// No file has it.
const UNKNOWN: Artifact = Artifact { kind: ArtifactKind::Directory, digest: Digest::from_bytes([0; 32]), size: 0 };

/// What is made ready, for what and with what.
pub(super) struct Making<'a> {
    pub(super) session: &'a Session,
    pub(super) project: &'a Project,
    pub(super) context: &'a Context,
    pub(super) engine: &'a Engine,
    pub(super) target: &'a Target,
    pub(super) plan: &'a Plan,
    pub(super) files: &'a Files,
    pub(super) store: &'a Arc<Store>,
    /// The file with the context's certificate authorities.
    pub(super) authorities: Option<&'a Path>,
    /// The store that the context shares with other machines.
    pub(super) shared: Option<&'a Shared>,
    /// The store of a cluster's runs.
    pub(super) remote: Option<&'a Arc<Remote>>,
    /// Whether the lock may be changed.
    pub(super) mode: Mode,
}

/// What is there.
pub(super) struct Ready {
    pub(super) facts: Facts,
    /// On a cluster: what is done already.
    pub(super) forecast: Option<Forecast>,
    pub(super) realisations: BTreeMap<String, Realisation>,
    /// In containers: the images that are there, by environment; `None`: of steps without one.
    pub(super) images: BTreeMap<Option<String>, Image>,
    pub(super) secrets: Secrets,
    /// What steps without an environment are in keys.
    host: Digest,
    /// The text of the lock.
    pub(super) lock: Vec<u8>,
    /// The files that say what environments hold: what they say is in the lock, but they may have changed since.
    pub(super) requirements: Vec<(String, Artifact)>,
}

impl Ready {
    /// Whether all that decides what comes out is seen by a note of this run. What a Dockerfile copies may be files that
    /// are ignored as sources.
    pub(super) fn is_seen_by_notes(&self) -> bool {
        !self.realisations.values().any(|realisation| matches!(realisation.kind, RealisationKind::Build(_)))
    }

    /// What steps run in, for the record.
    pub(super) fn environments(&self) -> Vec<UsedEnvironment> {
        let id = |name: Option<&String>| self.images.get(&name.cloned()).map(|image| image.id.clone());
        let named = self.realisations.values().map(|realisation| realisation.used(id(Some(&realisation.name))));
        let bare = id(None).map(|id| UsedEnvironment { name: None, realisation: self.host, image: None, id: Some(id) });
        named.chain(bare).collect()
    }
}

impl Making<'_> {
    /// Makes ready what is needed now: nothing is installed or built for results that are there.
    pub(super) fn ready(&self) -> Result<Ready, CommandError> {
        let Self { session, project, context, target, plan, files, store, .. } = *self;
        let wanted = Wanted::by(prepare::steps(plan));
        self.check(&wanted)?;
        let secrets = match self.engine {
            // Pods have theirs from the cluster.
            Engine::Argo(_) => Secrets::default(),
            _ => Secrets::fetch(context, &project.source, prepare::steps(plan))?,
        };
        secrets.visible().for_each(|name| session.ui.warning(&secret::is_visible(name)));
        let progress = Preparing::new(&session.ui);
        let tell: &Progress<'_> = &|update| progress.update(update);
        let unusable = |error: &dyn std::error::Error| CommandError::missing("cannot use the store").because(error);
        let inputs = prepare::inputs(project, plan, |path| files.inputs.put(path, store))?;
        let trees = prepare::sources(project, plan, files)?;
        session.ui.warnings(&project.source, &prepare::unmatched_sources(plan, &trees));
        for tree in trees.values() {
            store.put_sources(tree).map_err(|error| unusable(&error))?;
        }
        let lock = self.locked(&wanted, tell)?;
        // At once: what follows may take minutes, and what is written meanwhile is not what this run saw.
        let requirements = self.requirements(&wanted)?;
        for (url, input) in &wanted.urls {
            if let Some(locked) = lock.urls.get(*url) {
                lock::fetch(store, &project.source, (url, input.span), locked, tell)?;
            }
        }
        // The id of what a Dockerfile makes is part of keys.
        let is_built = |name: &&str| {
            let environment = project.workflow.environments.get(*name);
            environment.is_some_and(|environment| matches!(environment.kind, EnvironmentKind::Build(_)))
        };
        let to_build = wanted.environments.iter().copied().filter(is_built).map(Some).collect();
        let mut images = self.images(&lock, &to_build)?;
        let built = images.iter().filter_map(|(name, image)| Some((name.clone()?, image.id.clone()))).collect();
        let known = Known { lock: &lock, target, built: &built };
        let names = wanted.environments.iter().copied();
        let realisations = environment::realisations(&project.workflow, &project.source, &known, names)?;
        let facts = prepare::facts((project, context, plan), target, &trees, &realisations, inputs, &lock)?;
        let mut stored = Stored { store, inputs: &files.inputs, keeps: false };
        if let Some(shared) = self.shared {
            shared.fetch(&session.ui, plan, &facts, stored);
        }
        let forecast = self.remote.map(|remote| self.forecast(&facts, stored, remote)).transpose()?;
        let running = match &forecast {
            Some(forecast) => forecast::environments_of(forecast),
            None => forecast::environments_that_run(plan, &facts, &mut stored),
        };
        let running_names = || running.iter().map(Option::as_deref).collect();
        let lock = match self.engine {
            Engine::Process => {
                for name in running.iter().flatten() {
                    environment::realise(&realisations[name], &project.root, store.root(), tell)?;
                }
                lock
            }
            Engine::Docker(_) => {
                let (lock, made) = self.containers(&running_names(), &images, tell)?;
                images.extend(made);
                lock
            }
            // Which images the pods need is known when it is known what runs.
            Engine::Argo(_) => self.locked(&Wanted { bases: running_names(), ..Wanted::default() }, tell)?,
        };
        let host = environment::host(&target.platform);
        let lock = text_of(&lock, &project.root);
        Ok(Ready { facts, forecast, realisations, images, secrets, host, lock, requirements })
    }

    /// What a cluster's run would find done.
    fn forecast(&self, facts: &Facts, mut stored: Stored<'_>, remote: &Remote) -> Result<Forecast, CommandError> {
        if argo::shares_store(self.context, self.store.root()) {
            return Ok(mlctl_core::forecast::forecast(self.plan.clone(), facts.clone(), &mut stored));
        }
        let url = self.context.store_url();
        let found = remote::forecast_there(self.plan, facts, stored, remote);
        found.map_err(|error| remote::failure(format!("cannot look results up in `{url}`"), url, &error))
    }

    /// What environments that are to be built lack is told before any work.
    fn check(&self, wanted: &Wanted<'_>) -> Result<(), CommandError> {
        let names = wanted.environments.iter().copied();
        check::files(self.project, names.clone())?;
        let Some(daemon) = self.engine.daemon() else { return Ok(()) };
        check::offers(daemon, (self.project, self.context), self.store.root(), &self.target.platform, names)
    }

    /// The images of these environments, and of steps without one, but for those in `built`. They can have the store mounted.
    fn containers(
        &self,
        environments: &BTreeSet<Option<&str>>,
        built: &BTreeMap<Option<String>, Image>,
        tell: &Progress<'_>,
    ) -> Result<(Lock, BTreeMap<Option<String>, Image>), CommandError> {
        let bases = Wanted { bases: environments.clone(), ..Wanted::default() };
        let lock = self.locked(&bases, tell)?;
        // What a Dockerfile became is in keys: a file of its context that has changed since is not of this run.
        let missing =
            environments.iter().copied().filter(|name| !built.contains_key(&name.map(str::to_owned))).collect();
        let images = self.images(&lock, &missing)?;
        let any = images.values().chain(built.values()).next().filter(|_| !environments.is_empty());
        if let (Some(daemon), Some(image)) = (self.engine.daemon(), any)
            && !daemon.shares_files(self.store.root(), &image.id)?
        {
            return Err(elsewhere(daemon, self.store.root()));
        }
        Ok((lock, images))
    }

    fn images(
        &self,
        lock: &Lock,
        environments: &BTreeSet<Option<&str>>,
    ) -> Result<BTreeMap<Option<String>, Image>, CommandError> {
        let Some(daemon) = self.engine.daemon().filter(|_| !environments.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let view = BuildView::new(&self.session.ui);
        let builder = Builder {
            daemon,
            project: self.project,
            context: self.context,
            lock,
            store: self.store.root(),
            how: How::default(),
            watch: &|environment, event| view.update(environment, event),
        };
        let names: Vec<&str> = environments.iter().copied().flatten().collect();
        let images = builder.ensure(&names)?;
        let mut images: BTreeMap<_, _> = images.into_iter().map(|(name, image)| (Some(name), image)).collect();
        if environments.contains(&None) {
            let base_images = self.target.base_images.as_ref();
            let plain = base_images.and_then(|images| NamedImage::of(images.image(None), lock, &self.target.platform));
            let plain = plain.ok_or_else(|| CommandError::missing("the plain base image is not locked"))?;
            images.insert(None, builder.ensure_plain(&plain)?);
        }
        Ok(images)
    }

    fn locked(&self, wanted: &Wanted<'_>, tell: &Progress<'_>) -> Result<Lock, CommandError> {
        lock::ensure(self.of(), wanted, self.mode, tell)
    }

    fn of(&self) -> lock::Project<'_> {
        lock::Project {
            daemon: self.engine.daemon().map(AsRef::as_ref),
            authorities: self.authorities,
            ..lock::Project::of(self.project, self.store, self.target)
        }
    }

    fn requirements(&self, wanted: &Wanted<'_>) -> Result<Vec<(String, Artifact)>, CommandError> {
        let paths = lock::requirements_files(self.of(), &wanted.environments)?;
        let found = paths.into_iter().map(|path| {
            let path = path.to_string_lossy().into_owned();
            // One outside the project has no digest here: `Note::inputs` then never holds.
            let artifact = self.files.inputs.digest(&path).unwrap_or(UNKNOWN);
            (path, artifact)
        });
        Ok(found.collect())
    }
}

/// Which image a step runs in. What no forecast knew to be needed is made ready when it is.
pub(super) struct Images<'a, 'm> {
    pub(super) making: &'a Making<'m>,
    pub(super) found: Mutex<BTreeMap<Option<String>, Image>>,
}

impl Images<'_, '_> {
    /// The id of the image of an environment; `None`: of steps without one.
    pub(super) fn of(&self, environment: Option<&str>) -> Result<String, CommandError> {
        // Held while it is made: many steps may want it.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let name = environment.map(str::to_owned);
        if !found.contains_key(&name) {
            let (_, made) = self.making.containers(&BTreeSet::from([environment]), &found, &|_| {})?;
            found.extend(made);
        }
        found.get(&name).map(|image| image.id.clone()).ok_or_else(|| CommandError::missing("there is no image for it"))
    }
}

/// The text of the project's lock.
pub(super) fn lock_text(project: &Path) -> Vec<u8> {
    std::fs::read(project.join(lock::FILE_NAME)).unwrap_or_default()
}

/// The text of a lock that was just read or written: that of the file, if nobody has changed it since.
fn text_of(lock: &Lock, project: &Path) -> Vec<u8> {
    if Lock::read(project).is_ok_and(|now| now == *lock) { lock_text(project) } else { lock.to_text().into_bytes() }
}

fn elsewhere(daemon: &Daemon, store: &Path) -> CommandError {
    CommandError::usage(format!("the Docker daemon at {daemon} does not see this machine's files"))
        .cause(format!("containers cannot have {} mounted", store.display()))
        .hint("use a daemon of this machine, or run where the store is; `mlctl build` works with any daemon")
}
