//! As much as mlctl reads of Kubernetes's and Argo's objects.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What every object has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) annotations: BTreeMap<String, String>,
    /// When it was made, as RFC 3339.
    pub(crate) creation_timestamp: Option<String>,
}

/// An Argo workflow.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Workflow {
    pub(crate) metadata: Metadata,
    pub(crate) status: WorkflowStatus,
}

/// How far it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WorkflowStatus {
    /// Empty until a controller has taken it up.
    pub(crate) phase: String,
    pub(crate) message: String,
    /// When it was over; `None`: it is not.
    pub(crate) finished_at: Option<String>,
    /// By id. Empty where there are so many that Argo packs them.
    pub(crate) nodes: BTreeMap<String, Node>,
}

/// A node of a workflow: here mostly a pod, or the attempts at one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Node {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) template_name: String,
    pub(crate) phase: String,
    pub(crate) message: String,
    /// What a pod was given.
    pub(crate) inputs: Inputs,
}

/// What a node was given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Inputs {
    pub(crate) parameters: Vec<Parameter>,
}

/// One of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

impl Workflow {
    /// Whether it is over.
    pub(crate) fn is_finished(&self) -> bool {
        self.status.finished_at.is_some()
    }
}

/// A pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

/// Where it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
}

/// How far it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) init_container_statuses: Vec<Container>,
    pub(crate) container_statuses: Vec<Container>,
}

/// What is so of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) state: ContainerState,
}

/// How far it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub(crate) waiting: Option<Waiting>,
}

/// Why it does not run yet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Pod {
    /// Whether nothing of it runs any more.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}
