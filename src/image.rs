//! From an environment to an image: looked up by its content tag, else built by the daemon.
//!
//! A described environment has a generated Dockerfile, others name theirs. The tag is the digest of all that decides
//! what comes out ([`tag`]), so what is unchanged costs one look-up: no build, and no context is sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error as DockerError;
use futures_util::future;
use mlctl_core::workflow::{Environment, EnvironmentKind};

use crate::config::Context;
use crate::environment::{self, NamedImage, Realisation, RealisationKind, Target};
use crate::error::CommandError;
use crate::lock::Lock;
use crate::platform::docker::{self, Daemon};
use crate::session::Project;

mod archive;
mod bake;
pub(crate) mod check;
mod classic;
pub(crate) mod context;
mod deliver;
mod dockerfile;
pub(crate) mod executor;
mod export;
mod failure;
pub(crate) mod gc;
mod generated;
mod ignore;
mod interrupt;
pub(crate) mod kind;
pub(crate) mod known;
mod load;
mod make;
mod oci;
mod pip;
pub(crate) mod place;
pub(crate) mod platform;
mod progress;
mod proxies;
mod recipe;
pub(crate) mod registry;
mod request;
mod session;
pub(crate) mod tag;
mod trace;
mod unchanged;
mod wire;

pub(crate) use deliver::{Delivered, push_executor};
pub(crate) use load::load_executor;
pub(crate) use progress::{End, Event, Watch};
pub(crate) use unchanged::unchanged;

use context::BuildContext;
use recipe::{Recipe, RecipeKind};

/// The label that says of which project an image is.
pub(crate) const PROJECT_LABEL: &str = "dev.mlctl.project";
/// The label that says of which environment an image is.
pub(crate) const ENVIRONMENT_LABEL: &str = "dev.mlctl.environment";

/// An image that the daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What to run: a name with a tag or digest.
    pub(crate) reference: String,
    /// `sha256:...`: what it is.
    pub(crate) id: String,
    /// `sha256:...`: what a registry has it as.
    pub(crate) digest: Option<String>,
    /// What its programs are for, where that is known: `linux/arm64`.
    pub(crate) platform: Option<String>,
    /// How it came to be there.
    pub(crate) origin: Origin,
    /// How long that took.
    pub(crate) took: Duration,
}

impl Image {
    fn since(self, began: Instant) -> Self {
        Self { took: began.elapsed(), ..self }
    }
}

/// How an image came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was.
    Found,
    /// A registry had it.
    Fetched,
    /// It was built.
    Built,
}

/// Makes the images of a project's environments.
pub(crate) struct Builder<'a> {
    /// Who builds.
    pub(crate) daemon: &'a Daemon,
    /// Whose environments they are.
    pub(crate) project: &'a Project,
    /// Where secrets, settings and base images come from.
    pub(crate) context: &'a Context,
    /// What the environments hold.
    pub(crate) lock: &'a Lock,
    /// The store's root.
    pub(crate) store: &'a Path,
    /// How it is to be done.
    pub(crate) how: How,
    /// Told what happens.
    pub(crate) watch: &'a Watch<'a>,
}

/// How images are to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct How {
    /// Whether everything is done anew, whatever is there.
    pub(crate) no_cache: bool,
    /// Whether the project goes into the image as well.
    pub(crate) bake: bool,
    /// For which platform, as the lock writes it; `None`: the daemon's own.
    pub(crate) platform: Option<String>,
}

/// What an environment's image is known by before it is made.
pub(crate) struct Wanted {
    recipe: Recipe,
    /// What a user's Dockerfile may copy.
    files: Option<Arc<BuildContext>>,
    /// Its content tag.
    pub(crate) tag: String,
    /// The name and tag that the daemon knows it by.
    pub(crate) reference: String,
}

impl Builder<'_> {
    /// The image of each of these environments: found, fetched or built, several at a time. Interrupted, it leaves
    /// nothing half made.
    pub(crate) fn ensure(&self, names: &[&str]) -> Result<BTreeMap<String, Image>, CommandError> {
        self.each(names, async |name| self.image(name, Instant::now()).await)
    }

    /// Makes several images at a time.
    fn each<T>(
        &self,
        names: &[&str],
        make: impl AsyncFn(&str) -> Result<T, CommandError>,
    ) -> Result<BTreeMap<String, T>, CommandError> {
        let one = async |name: &str| Ok((name.to_owned(), make(name).await?));
        let all = future::try_join_all(names.iter().map(|name| one(name)));
        let made: Vec<(String, T)> = interrupt::unless(self.daemon.runtime(), all)??;
        Ok(made.into_iter().collect())
    }

    /// The image that steps without an environment run in.
    pub(crate) fn ensure_plain(&self, image: &NamedImage) -> Result<Image, CommandError> {
        interrupt::unless(self.daemon.runtime(), self.fetched(&image.name, image))?
    }

    /// What the image of a built environment is known by; needs no daemon. `None`: it is not built.
    pub(crate) fn wanted(
        name: &str,
        project: &Project,
        context: &Context,
        lock: &Lock,
        store: &Path,
        platform: &str,
    ) -> Result<Option<Wanted>, CommandError> {
        let Some(environment) = project.workflow.environments.get(name) else { return Ok(None) };
        let Some(recipe) = recipe(name, environment, (project, context, lock), platform)? else { return Ok(None) };
        let files = match &recipe.kind {
            RecipeKind::File(file) => {
                let stamps = known::stamps(store, &file.dir, &file.path);
                let files = BuildContext::scan(&file.dir, &file.path, &stamps);
                Some(Arc::new(files.map_err(|error| failure::of(name, error))?))
            }
            RecipeKind::Described { .. } => None,
        };
        let tag = tag::content_tag(&recipe, files.as_ref().map(|files| files.digest()), platform);
        let reference = format!("{}:{tag}", tag::repository(&project.workflow.name, name));
        Ok(Some(Wanted { recipe, files, tag, reference }))
    }

    /// The id of the image of a built environment, as this machine remembers it; needs no daemon.
    pub(crate) fn remembered(
        name: &str,
        of: (&Project, &Context, &Lock),
        store: &Path,
        platform: &str,
    ) -> Result<Option<String>, CommandError> {
        let wanted = Self::wanted(name, of.0, of.1, of.2, store, platform)?;
        Ok(wanted.and_then(|wanted| known::id(store, &wanted.tag)))
    }

    /// The platform of the images, as the lock writes it.
    fn platform(&self) -> &str {
        self.how.platform.as_deref().unwrap_or_else(|| self.daemon.platform())
    }

    /// The platform that is asked for, as Docker writes it.
    fn docker_platform(&self) -> Option<String> {
        self.how.platform.as_deref().map(platform::docker)
    }

    async fn image(&self, name: &str, began: Instant) -> Result<Image, CommandError> {
        let image = self.plain(name).await?;
        if !self.how.bake {
            return Ok(image.since(began));
        }
        let (wanted, _staged) = self.baked(name, &image).await?;
        self.built(name, &wanted).await.map(|image| image.since(began))
    }

    /// The environment's image, without the project.
    async fn plain(&self, name: &str) -> Result<Image, CommandError> {
        match need(name, (self.project, self.context, self.lock), self.store, self.platform())? {
            Need::Named(image) => self.fetched(name, &image).await,
            Need::Built(wanted) => self.built(name, &wanted).await,
        }
    }

    /// What the environment's image is known by.
    fn want(&self, name: &str) -> Result<Wanted, CommandError> {
        Self::wanted(name, self.project, self.context, self.lock, self.store, self.platform())?
            .ok_or_else(|| CommandError::usage(format!("there is no environment `{name}` that is built")))
    }

    /// An image that is built, unless it is here or in the registry.
    async fn built(&self, name: &str, wanted: &Wanted) -> Result<Image, CommandError> {
        let tell = |event: Event<'_>| (self.watch)(name, event);
        if let Some(image) = self.find(wanted).await? {
            tell(Event::Ready(Origin::Found));
            return Ok(image);
        }
        let _alone = known::exclusive(self.store, &wanted.tag, || tell(Event::Waiting))
            .await
            .map_err(|error| CommandError::missing("cannot use the store").because(&error))?;
        // Another mlctl may have built it meanwhile.
        if let Some(image) = self.find(wanted).await? {
            tell(Event::Ready(Origin::Found));
            return Ok(image);
        }
        if let Some(image) = self.fetch_built(name, wanted).await? {
            tell(Event::Ready(Origin::Fetched));
            return Ok(image);
        }
        let id = self.make(wanted).await?;
        known::remember(self.store, &wanted.tag, &id);
        tell(Event::Ready(Origin::Built));
        let platform = Some(platform::docker(self.platform()));
        let (reference, origin, took) = (wanted.reference.clone(), Origin::Built, Duration::ZERO);
        Ok(Image { reference, id, digest: None, platform, origin, took })
    }

    /// The image with this content tag, if the daemon has it and it will do.
    async fn find(&self, wanted: &Wanted) -> Result<Option<Image>, CommandError> {
        if self.how.no_cache {
            return Ok(None);
        }
        let Some(image) = self.inspect(&wanted.reference, Origin::Found).await? else {
            known::forget(self.store, &wanted.tag);
            return Ok(None);
        };
        known::remember(self.store, &wanted.tag, &image.id);
        Ok(Some(image))
    }

    /// The image of this name, if the daemon has one.
    async fn inspect(&self, reference: &str, origin: Origin) -> Result<Option<Image>, CommandError> {
        inspect(self.daemon.client(), reference, origin).await
    }

    /// An image that is not built here: the locked one, pulled if it is not there.
    async fn fetched(&self, subject: &str, image: &NamedImage) -> Result<Image, CommandError> {
        let NamedImage { name, locked } = image;
        let reference = locked.reference(name);
        let tell = |event: Event<'_>| (self.watch)(subject, event);
        if let Some(image) = self.inspect(&reference, Origin::Found).await? {
            tell(Event::Ready(Origin::Found));
            return Ok(image);
        }
        if locked.local {
            return Err(CommandError::missing(format!("the image `{name}` is not here as it was locked"))
                .cause("it was of one machine alone, in no registry")
                .hint("build or load it again, or take what there is: `mlctl lock --update`"));
        }
        registry::pull(self.daemon, &reference, self.docker_platform().as_deref(), &|text| tell(Event::Pulling(text)))
            .await?;
        let image = self.inspect(&reference, Origin::Fetched).await?;
        let image =
            image.ok_or_else(|| CommandError::missing(format!("the image `{name}` was pulled and is not there")))?;
        tell(Event::Ready(Origin::Fetched));
        Ok(image)
    }
}

/// The image of this name, if the daemon has one.
async fn inspect(docker: &Docker, reference: &str, origin: Origin) -> Result<Option<Image>, CommandError> {
    match docker.inspect_image(reference).await {
        Ok(found) => {
            let digests = found.repo_digests.unwrap_or_default();
            let digest = digests.first().and_then(|name| name.split_once('@')).map(|(_, digest)| digest.to_owned());
            Ok(Some(Image {
                reference: reference.to_owned(),
                id: found.id.unwrap_or_default(),
                digest,
                platform: found.os.zip(found.architecture).map(|(os, processor)| format!("{os}/{processor}")),
                origin,
                took: Duration::ZERO,
            }))
        }
        Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(docker::failure(&format!("cannot look for the image `{reference}`"), error)),
    }
}

/// What an environment needs.
enum Need {
    /// An image that is not built here.
    Named(NamedImage),
    /// One that is.
    Built(Box<Wanted>),
}

fn need(name: &str, of: (&Project, &Context, &Lock), store: &Path, platform: &str) -> Result<Need, CommandError> {
    let environment = of.0.workflow.environments.get(name);
    if environment.is_some_and(|environment| matches!(environment.kind, EnvironmentKind::Image(_)))
        && let RealisationKind::Image(image) = realisation(name, of, platform)?.kind
    {
        return Ok(Need::Named(image));
    }
    Builder::wanted(name, of.0, of.1, of.2, store, platform)?
        .map(|wanted| Need::Built(Box::new(wanted)))
        .ok_or_else(|| CommandError::usage(format!("there is no environment `{name}` that is built")))
}

/// What the environment is, in containers.
fn realisation(
    name: &str,
    (project, context, lock): (&Project, &Context, &Lock),
    platform: &str,
) -> Result<Realisation, CommandError> {
    let bases = context.merged.base_images.over(&project.workflow.base_images);
    let target = Target { platform: platform.to_owned(), base_images: Some(bases) };
    let known = environment::Known { lock, target: &target, built: &BTreeMap::new() };
    let mut all = environment::realisations(&project.workflow, &project.source, &known, [name])?;
    all.remove(name).ok_or_else(|| CommandError::usage(format!("there is no environment `{name}`")))
}

/// The recipe of an environment, if it is built.
fn recipe(
    name: &str,
    environment: &Environment,
    of: (&Project, &Context, &Lock),
    platform: &str,
) -> Result<Option<Recipe>, CommandError> {
    let span = environment.span;
    if let EnvironmentKind::Build(build) = &environment.kind {
        return Recipe::of_file(of.0, (name, span), build).map(Some);
    }
    let RealisationKind::Described { python, mut system_packages, base } = realisation(name, of, platform)?.kind else {
        return Ok(None);
    };
    let Some(base) = base else { return Ok(None) };
    system_packages.sort_unstable();
    system_packages.dedup();
    let kind = RecipeKind::Described { base, locked: python, packages: system_packages };
    Ok(Some(Recipe { environment: name.to_owned(), span, kind }))
}
