//! What failed in a generated Dockerfile, in the terms of the spec.

use mlctl_core::diag::Diag;

use crate::image::recipe::Recipe;
use crate::image::trace::FailedStep;

/// The finding, at the environment.
pub(super) fn explain(recipe: &Recipe, reason: &str, step: &FailedStep) -> Diag {
    let log = String::from_utf8_lossy(&step.log);
    let name = &recipe.environment;
    let error =
        |what: String| Diag::error("environment-not-built", recipe.span, format!("environment `{name}`: {what}"));
    // What did not even start says nothing of what it would have done.
    let ran = ["exit code: ", "returned a non-zero code: ", "exit status "].iter().any(|mark| reason.contains(mark));
    if step.name.contains("RUN ") && !ran {
        return error(format!("it cannot be built: {reason}"))
            .help("`base-images` of the project or the context names another image to begin with");
    }
    if step.name.contains("apt-get") {
        let unknown = after(&log, "E: Unable to locate package ").or_else(|| {
            let line = after(&log, "E: Package '")?;
            line.split('\'').next()
        });
        return match unknown {
            Some(package) => error(format!("there is no system package `{}`", package.trim()))
                .help("`system-packages` are packages of the base image's Debian; `base-images` chooses another image"),
            None => error("its system packages cannot be installed".to_owned()),
        };
    }
    if let Some(line) = log.lines().find(|line| line.starts_with("the base image has Python ")) {
        return error(line.to_owned())
            .help("`base-images.python` names another image, with `{{ python }}` for the version");
    }
    if step.name.contains("-m venv") {
        return error("the base image has no Python that makes virtual environments".to_owned())
            .help("`base-images.python` names another image");
    }
    if step.name.contains("-m pip") {
        if log.contains("DO NOT MATCH THE HASHES") {
            return error("a distribution is not what was locked".to_owned())
                .help("if that is as it should be, lock it anew: `mlctl lock --update`");
        }
        let missing = after(&log, "No matching distribution found for ");
        // pip gives no other reason when an index does not answer: what it found there is nothing.
        let silent = ["connection broken by", "Could not fetch URL"].iter().any(|mark| log.contains(mark));
        let unbuilt = after(&log, "Failed building wheel for ").or_else(|| after(&log, "Failed to build "));
        return match (missing, unbuilt) {
            (Some(what), _) if silent => error(format!("`{what}` cannot be had: an index did not answer"))
                .help("the build reaches indexes from the daemon's network, where `localhost` is the container"),
            (Some(what), _) => {
                error(format!("there is no distribution `{what}` for the base image's Python and platform"))
            }
            (_, Some(what)) => error(format!("`{what}` has to be compiled, and that fails"))
                .help("what it needs for that, `system-packages` can install"),
            _ => error("its distributions cannot be installed".to_owned()),
        };
    }
    let image = step.name.strip_prefix("[internal] load metadata for ");
    match image {
        Some(image) => error(format!("its base image `{}` cannot be had", super::short(image)))
            .label(reason.to_owned())
            .help("`base-images` of the project or the context names another"),
        None => error(format!("it cannot be built: {reason}")),
    }
}

/// The rest of the line after `mark`.
fn after<'a>(log: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = log.split_once(mark)?;
    rest.lines().next().map(str::trim)
}
