//! What environments lack, as far as it can be told before anything is done: of all of them at once.

use mlctl_core::workflow::EnvironmentKind;

use super::recipe::Recipe;
use super::{Builder, Origin, failure, inspect};
use crate::config::{Context, secret};
use crate::environment::described;
use crate::error::CommandError;
use crate::lock::{Lock, requirements};
use crate::platform::docker::Daemon;
use crate::session::Project;

/// Files of the project: Dockerfiles, contexts, requirements.
pub(crate) fn files<'a>(
    project: &Project,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> Result<(), CommandError> {
    let of_recipes = recipes(project, names.clone()).filter_map(Result::err);
    let of_descriptions = names.into_iter().filter_map(|name| {
        let described = described(name, project.workflow.environments.get(name)?).ok()?;
        requirements::read(&project.root, &project.source, &described).err()
    });
    CommandError::all(of_recipes.chain(of_descriptions))
}

/// What only builds need of this user: secrets and an ssh agent. An image that is there needs no build, nor one that the
/// context's registry may have. What a command gives is not asked for yet.
pub(crate) fn offers<'a>(
    daemon: &Daemon,
    (project, context): (&Project, &Context),
    store: &std::path::Path,
    platform: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(), CommandError> {
    // The classic builder offers nothing to anybody, and says so itself.
    if context.merged.registry.is_some() || !daemon.has_buildkit() {
        return Ok(());
    }
    let lacking = |recipe: Recipe| {
        let at = (recipe.environment.as_str(), recipe.span);
        let secrets = secret::check_of_build(context, &project.source, at, recipe.secrets());
        let agent = if recipe.ssh() { failure::agent(project, &recipe).map(drop) } else { Ok(()) };
        let error = CommandError::all(secrets.err().into_iter().chain(agent.err())).err()?;
        // Its recipe is not made of what is locked.
        let wanted = Builder::wanted(&recipe.environment, project, context, &Lock::default(), store, platform);
        let reference = wanted.ok()??.reference;
        let found = daemon.block_on(inspect(daemon.client(), &reference, Origin::Found));
        matches!(found, Ok(None)).then_some(error)
    };
    CommandError::all(recipes(project, names).filter_map(|recipe| lacking(recipe.ok()?)))
}

fn recipes<'a>(
    project: &Project,
    names: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = Result<Recipe, CommandError>> {
    names.into_iter().filter_map(|name| {
        let environment = project.workflow.environments.get(name)?;
        let EnvironmentKind::Build(build) = &environment.kind else { return None };
        Some(Recipe::of_file(project, (name, environment.span), build))
    })
}
