//! What a name on the command line means among the instances of a run.

use mlctl_core::spec::words::suggest;

use crate::error::CommandError;
use crate::record::{Run, RunState};

/// More instances than this are not searched for a name that is near.
const MANY: usize = 10_000;

/// The step of an instance: what stands before its axes.
pub(super) fn step_of(instance: &str) -> &str {
    instance.split_once('@').map_or(instance, |(step, _)| step)
}

/// The instances that the name means: one, or all of a step.
pub(super) fn instances(run: &Run, state: &RunState, name: &str) -> Result<Vec<String>, CommandError> {
    if state.instances.contains_key(name) {
        return Ok(vec![name.to_owned()]);
    }
    let of_step: Vec<String> = state.instances.keys().filter(|id| step_of(id) == name).cloned().collect();
    if of_step.is_empty() {
        let known = || state.instances.keys().map(String::as_str);
        let of_step: Vec<&str> = known().filter(|id| step_of(id) == step_of(name)).take(5).collect();
        let steps = known().map(step_of).chain(known().take(MANY));
        let hint = match suggest(name, steps) {
            _ if !of_step.is_empty() => format!("there are: {}", of_step.join(", ")),
            Some(nearest) => nearest,
            None => format!("`mlctl status {}` lists its instances", run.id()),
        };
        return Err(CommandError::usage(format!("run `{}` has no step or instance `{name}`", run.id())).hint(hint));
    }
    Ok(of_step)
}

/// The one instance that the name means.
pub(super) fn instance(run: &Run, state: &RunState, name: &str) -> Result<String, CommandError> {
    let mut instances = instances(run, state, name)?;
    match instances.len() {
        1 => Ok(instances.swap_remove(0)),
        many => Err(CommandError::usage(format!("`{name}` has {many} instances"))
            .hint(format!("name one of them, as `{}`", instances[0]))),
    }
}
