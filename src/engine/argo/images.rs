//! The images of a run's pods.

use std::collections::{BTreeMap, BTreeSet};

use mlctl_core::plan::Plan;
use mlctl_core::units::Unit;
use mlctl_core::workflow::EnvironmentKind;

use crate::config::Context;
use crate::environment::Target;
use crate::error::CommandError;
use crate::image::Builder;
use crate::lock::Lock;
use crate::session::{self, Project};

/// The image of each environment that units need, by name; of steps without one by the empty name.
pub(super) fn of(
    (project, context): (&Project, &Context),
    (lock, target): (&Lock, &Target),
    plan: &Plan,
    units: &[Unit],
) -> Result<BTreeMap<String, String>, CommandError> {
    let names: BTreeSet<Option<&str>> =
        units.iter().map(|unit| plan.step(unit.first()).environment.as_deref()).collect();
    let one = |name: Option<&str>| {
        let kind = name.and_then(|name| project.workflow.environments.get(name)).map(|found| &found.kind);
        let image = match (name, kind) {
            (Some(_), Some(EnvironmentKind::Image(image))) => locked(image, lock, target),
            (Some(name), Some(_)) => built(name, (project, context), (lock, target))?,
            _ => locked(&context.merged.base_images.over(&project.workflow.base_images).image(None), lock, target),
        };
        Ok((name.unwrap_or_default().to_owned(), image))
    };
    names.into_iter().map(one).collect()
}

/// An image that somebody else makes: exactly the one of the lock, where that knows it and others can have it.
fn locked(image: &str, lock: &Lock, target: &Target) -> String {
    let locked = lock.image(image, &target.platform).filter(|locked| !locked.local);
    locked.map_or_else(|| image.to_owned(), |locked| locked.reference(image))
}

/// An image that mlctl makes, by its content tag.
fn built(
    name: &str,
    (project, context): (&Project, &Context),
    (lock, target): (&Lock, &Target),
) -> Result<String, CommandError> {
    let store = session::store_root()?;
    let wanted = Builder::wanted(name, project, context, lock, &store, &target.platform)?;
    let wanted = wanted.ok_or_else(|| {
        CommandError::missing(format!("the image of environment `{name}` is not known"))
            .cause("mlctl.lock does not have the image that it begins with")
            .hint("run `mlctl lock --context docker`")
    })?;
    Ok(of_registry(context, &wanted.reference))
}

/// The image with `mlctl-exec` in it.
pub(super) fn executor(context: &Context) -> String {
    of_registry(context, concat!("mlctl/exec:", env!("CARGO_PKG_VERSION")))
}

/// What an image of mlctl is called where the context's nodes find it.
fn of_registry(context: &Context, image: &str) -> String {
    context.merged.registry.as_ref().map_or_else(|| image.to_owned(), |registry| format!("{registry}/{image}"))
}
