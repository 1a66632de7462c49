//! The images of environments: which are wanted, and which one a name stands for.

use std::collections::BTreeMap;

use mlctl_core::diag::{Diag, Span};
use mlctl_core::workflow::EnvironmentKind;

use super::{Lock, LockedImage, Project, Wanted};
use crate::environment::{Phase, Progress, Target, Update, described};
use crate::error::CommandError;
use crate::image::registry::{self, Resolved};

/// The images that are wanted, by name, and where the spec names them: base images it need not. `None`: steps do not
/// run in containers.
pub(super) fn wanted(project: Project<'_>, lock: &Lock, wanted: &Wanted<'_>) -> Option<BTreeMap<String, Option<Span>>> {
    let Target { platform, base_images: Some(base_images) } = project.target else { return None };
    let environment = |name: &str| project.workflow.environments.get(name);
    let bases = wanted.bases.iter().filter_map(|base| {
        let Some(name) = base else { return Some(base_images.image(None)) };
        let described = described(name, environment(name)?).ok()?;
        let locked = lock.environment(name, platform).map(|locked| locked.python.as_str());
        match described.python.or(locked).filter(|_| described.has_python()) {
            None if described.has_python() => None,
            python => Some(base_images.image(python)),
        }
    });
    let mut images: BTreeMap<String, Option<Span>> = bases.map(|base| (base, None)).collect();
    for environment in wanted.environments.iter().filter_map(|name| environment(name)) {
        if let EnvironmentKind::Image(image) = &environment.kind {
            images.insert(image.clone(), Some(environment.span));
        }
    }
    Some(images)
}

/// Which image a name stands for; `anew`: now, whatever the daemon has.
pub(super) fn find(
    project: Project<'_>,
    (name, span): (&str, Option<Span>),
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
        Err(mut error) => Err(match span {
            Some(span) => {
                let message = std::mem::take(&mut error.message);
                error.about(project.spec, vec![Diag::error("unknown-image", span, message)])
            }
            None => error.hint("it is a base image: `base-images` of the project or the context names another"),
        }),
    }
}
