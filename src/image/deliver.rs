//! Images and the context's registry: what one of a team has built, the others pull; and what is asked for is pushed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::query_parameters::TagImageOptionsBuilder;
use mlctl_core::workflow::EnvironmentKind;

use super::progress::Event;
use super::{Builder, Image, Origin, Wanted, known, registry};
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
}

impl From<Image> for Delivered {
    fn from(image: Image) -> Self {
        let Image { reference, id, digest, origin, took } = image;
        Self { reference, id: Some(id), digest, origin, took }
    }
}

impl Builder<'_> {
    /// The images of these environments in the context's registry: what is there already is not built, the rest is
    /// built and pushed, several at a time.
    pub(crate) fn publish(&self, names: &[&str]) -> Result<BTreeMap<String, Delivered>, CommandError> {
        self.each(names, async |name| self.published(name).await)
    }

    async fn published(&self, name: &str) -> Result<Delivered, CommandError> {
        let began = Instant::now();
        let environment = self.project.workflow.environments.get(name);
        if environment.is_some_and(|environment| matches!(environment.kind, EnvironmentKind::Image(_)))
            && !self.how.bake
        {
            return self.image(name, began).await.map(Delivered::from);
        }
        let (wanted, _staged) = if self.how.bake {
            let (wanted, staged) = self.baked(name, &self.plain(name).await?).await?;
            (wanted, Some(staged))
        } else {
            (self.want(name)?, None)
        };
        let Some(remote) = self.remote(&wanted) else {
            return Err(CommandError::usage(format!("the context `{}` names no registry", self.context.name)).hint(
                format!("say where images go: `registry = \"ghcr.io/acme\"` in [contexts.{}]", self.context.name),
            ));
        };
        let tell = |event: Event<'_>| (self.watch)(name, event);
        if !self.how.no_cache
            && let Some(digest) = registry::look_up(self.daemon, &remote).await?
        {
            tell(Event::Ready(Origin::Found));
            let id = self.inspect(&wanted.reference, Origin::Found).await?.map(|image| image.id);
            let digest = Some(digest);
            return Ok(Delivered { reference: remote, id, digest, origin: Origin::Found, took: began.elapsed() });
        }
        let built = self.built(name, &wanted).await?;
        self.name(&wanted.reference, &remote).await?;
        let digest = registry::push(self.daemon, &remote, &|text| tell(Event::Pushing(text))).await?;
        let digest = Some(digest);
        Ok(Delivered { reference: remote, id: Some(built.id), digest, origin: built.origin, took: began.elapsed() })
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
