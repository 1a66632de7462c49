//! The images of a run's pods: what they are called where the nodes find them, and that they are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mlctl_core::plan::Plan;
use mlctl_core::units::Unit;
use mlctl_core::workflow::EnvironmentKind;

use crate::config::Context;
use crate::environment::Target;
use crate::error::CommandError;
use crate::image::executor::Executor;
use crate::image::place::Place;
use crate::image::{self, Builder, How, Watch, known, tag};
use crate::lock::{Lock, LockedImage};
use crate::platform::docker::Daemon;
use crate::session::{Project, Session};
use crate::ui::build_view::BuildView;
use crate::{prepare, trust};

/// What the pods of a run are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Images {
    /// The image of each environment by name; of steps without one by the empty name.
    pub(crate) steps: BTreeMap<String, String>,
    /// The image that holds `mlctl-exec`.
    pub(crate) executor: String,
}

/// Whose images, and for where.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    /// Whose environments they are.
    pub(crate) project: &'a Project,
    /// Where the pods run.
    pub(crate) context: &'a Context,
    /// What the environments hold.
    pub(crate) lock: &'a Lock,
    /// What the nodes are.
    pub(crate) target: &'a Target,
    /// The root of this machine's store.
    pub(crate) store: &'a Path,
}

/// The environments that units need; `None`: steps without one are among them.
pub(crate) fn environments<'p>(plan: &'p Plan, units: &[Unit]) -> BTreeSet<Option<&'p str>> {
    units.iter().map(|unit| plan.step(unit.first()).environment.as_deref()).collect()
}

impl Of<'_> {
    /// What the images are called, as far as that can be told without a network: one that was never pushed to the registry
    /// by its tag.
    pub(crate) fn known(&self, names: &BTreeSet<Option<&str>>) -> Result<Images, CommandError> {
        let place = Place::of(self.context)?;
        let one = |name: &Option<&str>| Ok((name.unwrap_or_default().to_owned(), self.reference(place, *name)?));
        let steps = names.iter().map(one).collect::<Result<_, CommandError>>()?;
        Ok(Images { steps, executor: place.name(&self.executor()?.name()) })
    }

    /// Makes the images, and brings them to where the nodes find them.
    pub(crate) fn ready(&self, session: &Session, names: &BTreeSet<Option<&str>>) -> Result<Images, CommandError> {
        let place = Place::of(self.context)?;
        let view = BuildView::new(&session.ui);
        let watch: &Watch<'_> = &|environment, event| view.update(environment, event);
        if let Place::Registry(registry) = place {
            trust::confirm("registry", registry, self.context.origins.get("registry"))?;
            self.push_executor(place, watch)?;
        }
        // What nodes can fetch where it is stays there.
        let brought: Vec<&str> =
            names.iter().filter(|name| self.is_brought(place, **name)).map(|name| name.unwrap_or_default()).collect();
        let mut images = self.known(names)?;
        if brought.is_empty() && matches!(place, Place::Registry(_)) {
            return Ok(images);
        }
        let daemon = Daemon::connect()?;
        let builder = Builder {
            daemon: &daemon,
            project: self.project,
            context: self.context,
            lock: self.lock,
            store: self.store,
            how: How { platform: self.foreign(&daemon), ..How::default() },
            watch,
        };
        let delivered = match place {
            Place::Registry(_) => builder.publish(&brought)?,
            Place::Kind(cluster) => {
                self.bring_executor(&daemon, watch)?;
                builder.load(&builder.cluster(cluster)?, &brought)?
            }
        };
        images
            .steps
            .extend(delivered.into_iter().map(|(name, image)| (name, pinned(image.reference, image.digest, place))));
        Ok(images)
    }

    /// Brings the executor's image to where the nodes find it. A registry is confirmed already.
    pub(crate) fn bring_executor(&self, daemon: &Daemon, watch: &Watch<'_>) -> Result<(), CommandError> {
        match Place::of(self.context)? {
            Place::Kind(cluster) => image::load_executor(daemon, cluster, &self.executor()?, watch).map(drop),
            place @ Place::Registry(_) => self.push_executor(place, watch),
        }
    }

    fn push_executor(&self, place: Place<'_>, watch: &Watch<'_>) -> Result<(), CommandError> {
        let executor = self.executor()?;
        let authorities = prepare::authorities(self.context)?;
        image::push_executor(&executor, &place.name(&executor.name()), authorities.as_deref(), watch).map(drop)
    }

    /// Whether mlctl brings the image of an environment to where the nodes find it.
    fn is_brought(&self, place: Place<'_>, name: Option<&str>) -> bool {
        let kind = name.and_then(|name| self.project.workflow.environments.get(name)).map(|found| &found.kind);
        let image = match kind {
            Some(EnvironmentKind::Image(image)) => image.clone(),
            Some(_) => return true,
            None => self.bases().image(None),
        };
        let locked = self.lock.image(&image, &self.target.platform);
        matches!(place, Place::Kind(_)) || locked.is_none_or(|locked| locked.local)
    }

    fn executor(&self) -> Result<Executor, CommandError> {
        Executor::of(self.store, &self.target.platform)
    }

    /// The nodes' platform, where that is not the daemon's own.
    fn foreign(&self, daemon: &Daemon) -> Option<String> {
        Some(self.target.platform.clone()).filter(|platform| platform != daemon.platform())
    }

    fn bases(&self) -> mlctl_core::workflow::BaseImages {
        self.context.merged.base_images.over(&self.project.workflow.base_images)
    }

    fn reference(&self, place: Place<'_>, name: Option<&str>) -> Result<String, CommandError> {
        let kind = name.and_then(|name| self.project.workflow.environments.get(name)).map(|found| &found.kind);
        match (name, kind) {
            (Some(_), Some(EnvironmentKind::Image(image))) => Ok(self.other(place, image)),
            (Some(name), Some(_)) => self.built(place, name),
            _ => Ok(self.other(place, &self.bases().image(None))),
        }
    }

    /// An image that somebody else makes: exactly the one of the lock, where that knows it. Nodes can fetch it by that
    /// digest, unless no registry has it or they are given all there is.
    fn other(&self, place: Place<'_>, image: &str) -> String {
        match self.lock.image(image, &self.target.platform) {
            None => image.to_owned(),
            Some(locked) if locked.local || matches!(place, Place::Kind(_)) => {
                self.delivered(place, &tag::of_image(image, locked))
            }
            Some(locked) => locked.reference(image),
        }
    }

    /// An image that mlctl makes, by its content tag.
    fn built(&self, place: Place<'_>, name: &str) -> Result<String, CommandError> {
        let Self { project, context, lock, target, store } = *self;
        let wanted = Builder::wanted(name, project, context, lock, store, &target.platform)?;
        let wanted = wanted.ok_or_else(|| {
            CommandError::missing(format!("the image of environment `{name}` is not known"))
                .cause("mlctl.lock does not have the image that it begins with")
                .hint("run `mlctl lock --context docker`")
        })?;
        Ok(self.delivered(place, &wanted.reference))
    }

    /// What an image that mlctl brings is called: in a registry by its digest, as soon as that is known.
    fn delivered(&self, place: Place<'_>, image: &str) -> String {
        let name = place.name(image);
        let digest = known::pushed(self.store, &name);
        pinned(name, digest, place)
    }
}

/// An image of a registry by its digest; in a kind cluster names say contents.
fn pinned(name: String, digest: Option<String>, place: Place<'_>) -> String {
    match (place, digest) {
        (Place::Registry(_), Some(digest)) => LockedImage { digest, local: false }.reference(&name),
        _ => name,
    }
}
