//! What is worth showing of a run's results: values, metrics, and the files that were exported.

use std::path::{Path, PathBuf};

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind};
use mlctl_core::value::Value;
use mlctl_core::workflow::{ArtifactRole, OutputKind, Step, Workflow};
use serde::{Deserialize, Serialize};

/// The most that a summary shows of each.
const MOST: usize = 20;
/// The largest metrics file that is looked into.
const LARGEST: u64 = 1 << 20;

/// What is worth showing. Of single instances only: a matrix is for `artifacts` and comparisons.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Highlights {
    /// `step.output`, and the value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<(String, Value)>,
    /// `step.output.key`, and the number or boolean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) metrics: Vec<(String, serde_json::Value)>,
    /// `step.output`, and where it is in the project.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) exported: Vec<(String, String)>,
}

impl Highlights {
    /// Collects them in the workflow's order. `result` gives what a single instance produced, `object` where a stored
    /// artifact is.
    pub(crate) fn collect<'a>(
        workflow: &Workflow,
        result: impl Fn(&str) -> Option<&'a ActionResult>,
        object: impl Fn(&Artifact) -> PathBuf,
    ) -> Self {
        let mut highlights = Self::default();
        for step in workflow.order.iter().map(|ix| &workflow.steps[ix.0 as usize]) {
            if let Some(result) = result(&step.name) {
                highlights.add(step, result, &object);
            }
        }
        highlights.values.truncate(MOST);
        highlights.metrics.truncate(MOST);
        highlights.exported.truncate(MOST);
        highlights
    }

    fn add(&mut self, step: &Step, result: &ActionResult, object: impl Fn(&Artifact) -> PathBuf) {
        for output in &step.outputs {
            let name = format!("{}.{}", step.name, output.name);
            match output.what {
                OutputKind::Value { .. } => {
                    self.values.extend(result.values.get(&output.name).map(|value| (name.clone(), value.clone())));
                }
                OutputKind::Artifact(ArtifactRole::Metrics) => {
                    if let Some(artifact) = result.artifacts.get(&output.name) {
                        self.metrics.extend(metrics(&name, artifact, &object(artifact)));
                    }
                }
                OutputKind::Artifact(_) => {}
            }
            if let Some(path) = output.export.as_ref().filter(|_| result.artifacts.contains_key(&output.name)) {
                self.exported.push((name, path.clone()));
            }
        }
    }
}

/// The numbers and booleans of a metrics file: of JSONL those of its last line.
pub(crate) fn metrics(name: &str, artifact: &Artifact, path: &Path) -> Vec<(String, serde_json::Value)> {
    if artifact.kind == ArtifactKind::Directory || artifact.size > LARGEST {
        return Vec::new();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let last_line = || text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let json = serde_json::from_str(&text).or_else(|_| serde_json::from_str(last_line())).unwrap_or_default();
    let mut scalars = Vec::new();
    flatten(name, json, &mut scalars);
    scalars
}

fn flatten(name: &str, json: serde_json::Value, scalars: &mut Vec<(String, serde_json::Value)>) {
    match json {
        serde_json::Value::Object(entries) => {
            for (key, value) in entries {
                flatten(&format!("{name}.{key}"), value, scalars);
            }
        }
        // Metrics are numbers; a text could be anything, a secret even, and this goes into the record.
        serde_json::Value::Array(_) | serde_json::Value::Null | serde_json::Value::String(_) => {}
        scalar => scalars.push((name.to_owned(), scalar)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, serde_json::Value)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.json");
        std::fs::write(&path, text).unwrap();
        let digest = mlctl_core::digest::Digest::of(text.as_bytes());
        metrics("s.m", &Artifact { kind: ArtifactKind::File, digest, size: text.len() as u64 }, &path)
    }

    #[test]
    fn scalars_of_json_and_of_the_last_line_of_jsonl() {
        let expected = vec![("s.m.a".to_owned(), 1.into()), ("s.m.b.c".to_owned(), true.into())];
        assert_eq!(of(r#"{"a": 1, "b": {"c": true, "note": "x", "curve": [1, 2]}}"#), expected);
        assert_eq!(of("{\"step\": 1}\n{\"a\": 1, \"b\": {\"c\": true}}\n\n"), expected);
        assert_eq!(of("not json"), []);
    }
}
