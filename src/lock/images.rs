//! The images of environments: which are wanted, and which one a name stands for.

use std::collections::BTreeMap;

use mlctl_core::diag::{Diag, Span};
use mlctl_core::workflow::{BaseImages, EnvironmentKind};

use super::{Lock, LockedImage, Project, Wanted};
use crate::environment::{Phase, Progress, Update, described};
use crate::error::CommandError;
use crate::image::registry::{self, Resolved};

/// What an image is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For<'a> {
    /// The spec names it, for an environment, here.
    Environment(Span),
    /// The environment of this name, which stands here, begins with it.
    Base(&'a str, Span),
    /// Steps without an environment run in it.
    Plain,
}

/// The images that are wanted, by name, where containers begin with `base_images`.
pub(super) fn wanted<'a>(
    project: Project<'a>,
    base_images: &BaseImages,
    lock: &Lock,
    wanted: &Wanted<'a>,
) -> BTreeMap<String, For<'a>> {
    let platform = &project.target.platform;
    let environment = |name: &str| project.workflow.environments.get(name);
    let bases = wanted.bases.iter().filter_map(|base| {
        let Some(name) = base else { return Some((base_images.image(None), For::Plain)) };
        let environment = environment(name)?;
        let described = described(name, environment).ok()?;
        let locked = lock.environment(name, platform).map(|locked| locked.python.as_str());
        match described.python.or(locked).filter(|_| described.has_python()) {
            None if described.has_python() => None,
            python => Some((base_images.image(python), For::Base(name, environment.span))),
        }
    });
    let mut images: BTreeMap<String, For<'_>> = bases.collect();
    for environment in wanted.environments.iter().filter_map(|name| environment(name)) {
        if let EnvironmentKind::Image(image) = &environment.kind {
            images.insert(image.clone(), For::Environment(environment.span));
        }
    }
    images
}

/// Which image a name stands for; `anew`: now, whatever the daemon has.
pub(super) fn find(
    project: Project<'_>,
    (name, reason): (&str, For<'_>),
    anew: bool,
    progress: &Progress<'_>,
) -> Result<LockedImage, CommandError> {
    if let Some((_, digest)) = name.split_once('@') {
        return Ok(LockedImage { digest: digest.to_owned(), local: false });
    }
    let daemon = project.daemon.ok_or_else(|| {
        CommandError::missing(format!("there is no Docker daemon to ask which image `{name}` is"))
            .hint("lock it where there is one: `mlctl lock --context docker`")
    })?;
    progress(Update::Working { phase: Phase::Resolving, subject: name, line: "" });
    match registry::resolve(daemon, name, anew) {
        Ok(Resolved::Registry(digest)) => Ok(LockedImage { digest, local: false }),
        Ok(Resolved::Local(digest)) => Ok(LockedImage { digest, local: true }),
        Err(mut error) => {
            let at = |span, message: String| vec![Diag::error("unknown-image", span, message)];
            let another = "`base-images` of the project or the context names another";
            let message = std::mem::take(&mut error.message);
            Err(match reason {
                For::Environment(span) => error.about(project.spec, at(span, message)),
                For::Base(environment, span) => {
                    let message = format!("environment `{environment}`, its base image: {message}");
                    error.about(project.spec, at(span, message)).hint(another)
                }
                For::Plain => {
                    CommandError { message, ..error }.cause("steps without an environment run in it").hint(another)
                }
            })
        }
    }
}
