//! Where the nodes of a context have their images from, and what those are called there.

use crate::config::Context;
use crate::error::CommandError;
use crate::platform::kind;

/// Where nodes have images from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// They are loaded into the nodes of this kind cluster.
    Kind(&'a str),
    /// This registry.
    Registry(&'a str),
}

impl<'a> Place<'a> {
    /// What the context says: `images`, else a registry where it names one, else the cluster if kind made it.
    pub(crate) fn of(context: &'a Context) -> Result<Self, CommandError> {
        let name = &context.name;
        let kube_context = context.merged.kube_context.as_deref().unwrap_or_default();
        let (registry, cluster) = (context.merged.registry.as_deref(), kind::cluster_of(kube_context));
        match (context.merged.images.as_deref(), registry, cluster) {
            (Some("kind"), _, Some(cluster)) | (None, None, Some(cluster)) => Ok(Self::Kind(cluster)),
            (Some("registry") | None, Some(registry), _) => Ok(Self::Registry(registry.trim_end_matches('/'))),
            (Some("kind"), _, None) => Err(CommandError::usage(format!("the context `{name}` loads images into no cluster"))
                .cause(format!("it has `images = \"kind\"`, and its kube-context is `{kube_context}`, which kind did not make"))
                .hint("kind calls them `kind-NAME`; for other clusters name a registry: `registry = \"ghcr.io/acme\"`")),
            _ => Err(CommandError::usage(format!("the context `{name}` names no registry")).hint(format!(
                "say where images go: `registry = \"ghcr.io/acme\"` in [contexts.{name}]; for a kind cluster its `kube-context` says enough"
            ))),
        }
    }

    /// What an image of mlctl is called there.
    pub(crate) fn name(&self, image: &str) -> String {
        match self {
            Self::Kind(_) => image.to_owned(),
            Self::Registry(registry) => format!("{registry}/{image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_says_where_images_come_from() {
        let context = |images: Option<&str>, registry: Option<&str>, kube_context: Option<&str>| {
            let mut context = Context { name: "c".into(), ..Context::default() };
            context.merged.images = images.map(str::to_owned);
            context.merged.registry = registry.map(str::to_owned);
            context.merged.kube_context = kube_context.map(str::to_owned);
            context
        };
        let (here, there) = (Some("kind-a"), Some("gke"));
        for (images, registry, kube_context, expected) in [
            (None, Some("r/"), here, Some(Place::Registry("r"))),
            (None, None, here, Some(Place::Kind("a"))),
            (None, None, there, None),
            (Some("kind"), Some("r"), here, Some(Place::Kind("a"))),
            (Some("kind"), Some("r"), there, None),
            (Some("kind"), None, Some("kind-"), None),
            (Some("registry"), Some("r"), here, Some(Place::Registry("r"))),
            (Some("registry"), None, here, None),
        ] {
            let context = context(images, registry, kube_context);
            let place = Place::of(&context);
            assert_eq!(place.as_ref().ok(), expected.as_ref(), "{images:?} {registry:?} {kube_context:?}");
            assert!(place.err().is_none_or(|error| error.kind.code() == 2));
        }
    }
}
