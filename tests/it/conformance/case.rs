//! `expect.toml`. Its keys are explained in `tests/conformance/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// What a case must do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Case {
    /// What the case shows.
    #[allow(dead_code, reason = "for readers; that it is there is checked by reading it")]
    about: String,
    /// By engine: why it cannot be tried there.
    #[serde(default)]
    pub(super) not_on: BTreeMap<String, String>,
    /// The runs, one after the other in the same project.
    pub(super) run: Vec<Run>,
}

/// One `mlctl run` and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Run {
    pub(super) about: Option<String>,
    #[serde(default)]
    pub(super) write: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) remove: Vec<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) exit: i32,
    #[serde(default)]
    pub(super) stderr: Vec<String>,
    pub(super) status: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) counts: BTreeMap<String, usize>,
    #[serde(default)]
    pub(super) values: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) artifacts: BTreeMap<String, Artifact>,
    #[serde(default)]
    pub(super) attempts: BTreeMap<String, u64>,
    #[serde(default)]
    pub(super) failures: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) logs: BTreeMap<String, Log>,
    #[serde(default)]
    pub(super) project: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) absent: Vec<String>,
    #[serde(default)]
    pub(super) never_cached: Vec<String>,
    /// By engine: it cannot do this, and says these.
    #[serde(default)]
    pub(super) refused: BTreeMap<String, Vec<String>>,
    #[serde(default = "yes")]
    pub(super) again: bool,
}

/// What an artifact must be: its text, or more about it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Artifact {
    Text(String),
    Detailed(Entry),
}

/// A file, a link or a directory.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) text: Option<String>,
    pub(super) executable: Option<bool>,
    pub(super) link: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) digest: Option<String>,
    /// How many files there are in a directory.
    pub(super) files: Option<usize>,
    /// Everything in a directory; an empty one inside ends with `/`.
    pub(super) tree: Option<BTreeMap<String, Artifact>>,
}

/// What an instance's log must and must not have.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    #[serde(default)]
    pub(super) has: Vec<String>,
    #[serde(default)]
    pub(super) lacks: Vec<String>,
}

impl Case {
    /// Reads the `expect.toml` of a case.
    pub(super) fn read(dir: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(dir.join("expect.toml")).map_err(|error| format!("expect.toml: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("expect.toml: {error}"))
    }
}

fn yes() -> bool {
    true
}
