//! Runs on disk: `.mlctl/runs/<id>/`.
//!
//! ```text
//! .mlctl/.gitignore         `*`: none of this is ever committed
//! .mlctl/specs/<digest>     the spec's text, once for all runs that used it
//! .mlctl/runs/index         the ids in the order in which the runs began, one a line: holds when the clock goes back
//! .mlctl/runs/<id>/
//!   run.json                what was asked for; never changed
//!   instances               the instances planned at the start, one id a line
//!   events.jsonl            what happened: append-only, one event a line; a torn last line is no event
//!   logs/<instance>.<n>.log what attempt n printed
//!   partial/<instance>.<n>/ what attempt n, which failed, left of its outputs
//!   lease                   locked (flock) while its writer lives; holds the writer's pid
//!   cancel                  someone asks for the end
//!   ended.json              how it ended; its absence under a free lease means: interrupted
//! ```
//!
//! A run directory appears whole, by a rename. A run whose writer died is finished by whoever touches it next, under
//! the lease's lock: so exactly once.
//! A run on a cluster goes on without any writer here: its record is a copy, brought up to date by whoever reads it.

use std::collections::BTreeMap;
use std::path::Path;

use mlctl_core::digest::Digest;
use mlctl_core::event::Outcome;
use mlctl_core::value::Value;
use serde::{Deserialize, Serialize};

mod highlights;
pub(crate) mod id;
mod lease;
mod read;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use highlights::Highlights;
pub(crate) use read::{Run, Runs};
pub(crate) use state::{InstanceState, Phase, RunState, Tally, counts};
pub(crate) use write::{RunWriter, log_path};

/// `run.json`: what was asked for, and of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunMeta {
    /// The run's id; [`RunWriter::create`] sets it where it is empty.
    #[serde(default)]
    pub(crate) id: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) started: u64,
    /// The command line.
    pub(crate) argv: Vec<String>,
    /// All params of the run.
    pub(crate) params: BTreeMap<String, Value>,
    /// What was asked for: steps or instances; empty: the default.
    pub(crate) targets: Vec<String>,
    /// The context's name.
    pub(crate) context: String,
    /// What steps ran in, or would have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) environments: Vec<UsedEnvironment>,
    /// The spec's text: `.mlctl/specs/<digest>`.
    pub(crate) spec: Digest,
    /// The git commit that was checked out.
    pub(crate) commit: Option<String>,
    /// The version of mlctl.
    pub(crate) mlctl: String,
    /// Nothing had to run: everything is what this run made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reused: Option<String>,
    /// It runs on a cluster, whose store has the truth about it: what is here is a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<OnCluster>,
}

/// Where a run on a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnCluster {
    /// The project's name.
    pub(crate) project: String,
    /// The store with its records.
    pub(crate) store: String,
    /// Argo's workflow.
    pub(crate) workflow: String,
    /// The workflow's namespace.
    pub(crate) namespace: String,
}

/// What an environment was in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsedEnvironment {
    /// Its name; `None`: of steps without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What it is in keys.
    pub(crate) realisation: Digest,
    /// The digest of the image by which keys know it; described environments have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// The id of the image that containers were made from, if any had to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

/// `ended.json`: how a run ended. Small, so that many runs are listed quickly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// How.
    pub(crate) outcome: Outcome,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// How many instances ended how.
    pub(crate) tally: Tally,
    /// Whether files that git knows were changed when the run began; `None`: not known.
    #[serde(default)]
    pub(crate) dirty: Option<bool>,
    /// What is worth showing of its results.
    #[serde(default)]
    pub(crate) highlights: Highlights,
}

/// The place of a project's records.
fn home(project: &Path) -> std::path::PathBuf {
    project.join(".mlctl")
}

/// The place of a project's records, made if it is not there. Git ignores it.
pub(crate) fn make_home(project: &Path) -> std::io::Result<std::path::PathBuf> {
    let home = home(project);
    std::fs::create_dir_all(&home)?;
    let ignore = home.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(ignore, "*\n")?;
    }
    Ok(home)
}
