//! Images and the context's registry: what one of a team has built, the others pull; and what is asked for is pushed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::query_parameters::TagImageOptionsBuilder;
use mlctl_core::workflow::EnvironmentKind;

use super::executor::{self, Executor};
use super::place::Place;
use super::progress::{Event, Watch};
use super::{Builder, Image, Origin, Wanted, interrupt, known, registry, tag};
use crate::environment::NamedImage;
use crate::error::CommandError;
use crate::platform::docker;

/// An image that is where it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// What it is known by there.
    pub(crate) reference: String,
    /// `sha256:...`: what it is, where the daemon has it too.
    pub(crate) id: Option<String>,
    /// `sha256:...`: what the registry has it as.
    pub(crate) digest: Option<String>,
    /// How it came to be there.
    pub(crate) origin: Origin,
    /// How long that took.
    pub(crate) took: Duration,
    /// Bytes that were sent for it, where that is known.
    pub(crate) sent: Option<u64>,
}

impl From<Image> for Delivered {
    fn from(image: Image) -> Self {
        let Image { reference, id, digest, origin, took, .. } = image;
        Self { reference, id: Some(id), digest, origin, took, sent: None }
    }
}

/// The executor's image in the registry that `name` says; no daemon is needed. How many bytes were sent.
pub(crate) fn push_executor(
    image: &Executor,
    name: &str,
    ca: Option<&Path>,
    watch: &Watch<'_>,
) -> Result<u64, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::missing("cannot start the network runtime").because(&error))?;
    let progress = |text: &str| watch(executor::PROGRAM, Event::Pushing(text));
    let pushing = registry::push_executor(image, name, ca, &progress);
    let sent = interrupt::unless(&runtime, pushing)??;
    watch(executor::PROGRAM, Event::Pushed(sent));
    Ok(sent)
}

impl Builder<'_> {
    /// The images of these environments (the empty name: of steps without one) in the context's registry: what is there
    /// already is not built, the rest is built and pushed, several at a time.
    pub(crate) fn publish(&self, names: &[&str]) -> Result<BTreeMap<String, Delivered>, CommandError> {
        self.each(names, async |name| self.published(name).await)
    }

    async fn published(&self, name: &str) -> Result<Delivered, CommandError> {
        let began = Instant::now();
        if let Some(image) = self.other(name)?.filter(|_| !self.how.bake) {
            let here = self.fetched(&image.name, &image).await?;
            if !image.locked.local {
                return Ok(here.since(began).into());
            }
            // No other registry has it.
            let remote = self.place()?.name(&tag::of_image(&image.name, &image.locked));
            let digest = match registry::look_up(self.daemon, &remote).await? {
                Some(digest) => digest,
                None => self.push(name, &here.id, &remote).await?,
            };
            return Ok(Delivered { reference: remote, digest: Some(digest), ..here.since(began).into() });
        }
        let (wanted, _staged) = if self.how.bake {
            let (wanted, staged) = self.baked(name, &self.plain(name).await?).await?;
            (wanted, Some(staged))
        } else {
            (self.want(name)?, None)
        };
        let remote = self.place()?.name(&wanted.reference);
        let tell = |event: Event<'_>| (self.watch)(name, event);
        if !self.how.no_cache
            && let Some(digest) = registry::look_up(self.daemon, &remote).await?
        {
            tell(Event::Ready(Origin::Found));
            known::remember_pushed(self.store, &remote, &digest);
            let id = self.inspect(&wanted.reference, Origin::Found).await?.map(|image| image.id);
            let digest = Some(digest);
            return Ok(Delivered {
                reference: remote,
                id,
                digest,
                origin: Origin::Found,
                took: began.elapsed(),
                sent: None,
            });
        }
        let built = self.built(name, &wanted).await?;
        let digest = Some(self.push(name, &wanted.reference, &remote).await?);
        Ok(Delivered {
            reference: remote,
            id: Some(built.id),
            digest,
            origin: built.origin,
            took: began.elapsed(),
            sent: None,
        })
    }

    /// Pushes an image of the daemon's; the digest by which the registry has it.
    async fn push(&self, subject: &str, image: &str, remote: &str) -> Result<String, CommandError> {
        self.name(image, remote).await?;
        let digest = registry::push(self.daemon, remote, &|text| (self.watch)(subject, Event::Pushing(text))).await?;
        known::remember_pushed(self.store, remote, &digest);
        Ok(digest)
    }

    /// An image that mlctl does not make: what an environment names, or what steps without one run in.
    pub(super) fn other(&self, name: &str) -> Result<Option<NamedImage>, CommandError> {
        let image = match self.project.workflow.environments.get(name).map(|environment| &environment.kind) {
            Some(EnvironmentKind::Image(image)) => image.clone(),
            Some(_) => return Ok(None),
            None => self.context.merged.base_images.over(&self.project.workflow.base_images).image(None),
        };
        let named = NamedImage::of(image.clone(), self.lock, self.platform());
        named.map(Some).ok_or_else(|| {
            CommandError::missing(format!("the image `{image}` is not locked for {}", self.platform()))
                .hint("run `mlctl lock`")
        })
    }

    fn place(&self) -> Result<Place<'_>, CommandError> {
        Place::of(self.context)
    }

    /// What the registry knows a built image by.
    fn remote(&self, wanted: &Wanted) -> Option<String> {
        let registry = self.context.merged.registry.as_deref()?;
        Some(format!("{}/{}", registry.trim_end_matches('/'), wanted.reference))
    }

    /// The image from the registry, if someone has built and pushed it. That a registry cannot be asked is no reason not
    /// to build.
    pub(super) async fn fetch_built(&self, name: &str, wanted: &Wanted) -> Result<Option<Image>, CommandError> {
        let Some(remote) = self.remote(wanted).filter(|_| !self.how.no_cache) else { return Ok(None) };
        let tell = |event: Event<'_>| (self.watch)(name, event);
        match registry::look_up(self.daemon, &remote).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => {
                tell(Event::Warning(&format!("building `{name}` here: {error}")));
                return Ok(None);
            }
        }
        registry::pull(self.daemon, &remote, self.docker_platform().as_deref(), &|text| tell(Event::Pulling(text)))
            .await?;
        self.name(&remote, &wanted.reference).await?;
        let image = self.inspect(&wanted.reference, Origin::Fetched).await?;
        if let Some(image) = &image {
            known::remember(self.store, &wanted.tag, &image.id);
        }
        Ok(image)
    }

    /// Gives an image one more name.
    pub(super) async fn name(&self, image: &str, name: &str) -> Result<(), CommandError> {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
        let tagged = self.daemon.client().tag_image(image, Some(options)).await;
        tagged.map_err(|error| docker::failure(&format!("cannot call the image `{image}` `{name}`"), error))
    }
}
