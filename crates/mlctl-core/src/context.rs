//! Context profiles: where a workflow runs, never what it does.
//!
//! A context is merged, key by key, from layers: the project's `mlctl.toml`, `mlctl.local.toml`, the user's
//! `config.toml`, and the built-in ones. Which layer gave a value is kept, so that it can be shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::workflow::{BaseImages, Resources};

/// What runs the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Local processes.
    Process,
    /// Local containers.
    Docker,
    /// Argo Workflows on a Kubernetes cluster.
    Argo,
}

/// A Pod Security Standard of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurity {
    /// The user of the image, and its capabilities.
    Baseline,
    /// A user without rights.
    Restricted,
}

/// `[contexts.NAME]` of one file: what is absent is left to the layers below.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContextLayer {
    /// `engine`
    pub engine: Option<EngineKind>,
    /// `kube-context`
    pub kube_context: Option<String>,
    /// `namespace`
    pub namespace: Option<String>,
    /// `registry`
    pub registry: Option<String>,
    /// `images`: `kind` loads images into the nodes, `registry` pushes them.
    pub images: Option<String>,
    /// `store = { url, secret }`
    pub store: Option<StoreLocation>,
    /// `service-account`
    pub service_account: Option<String>,
    /// `image-pull-secrets`
    pub image_pull_secrets: Option<Vec<String>>,
    /// `pods`: units of one fan-out at a time.
    pub pods: Option<u32>,
    /// `workers`: whether the pods of a fan-out take turns at its instances; else each instance has a pod.
    pub workers: Option<bool>,
    /// `chains`: whether a linear chain of steps is one pod; else each step has its own.
    pub chains: Option<bool>,
    /// `parallelism`: instances at a time.
    pub parallelism: Option<u32>,
    /// `pod-security`: which of Kubernetes's Pod Security Standards the pods keep.
    pub pod_security: Option<PodSecurity>,
    /// `ca`: a PEM file with a company's certificate authorities.
    pub ca: Option<String>,
    /// `settings.NAME = "value"`
    pub settings: BTreeMap<String, String>,
    /// `secrets.NAME = {...}`
    pub secrets: BTreeMap<String, SecretFrom>,
    /// `labels` of pods.
    pub labels: BTreeMap<String, String>,
    /// `annotations` of pods.
    pub annotations: BTreeMap<String, String>,
    /// `node-selector` for every step.
    pub node_selector: BTreeMap<String, String>,
    /// `tolerations` for every step, as Kubernetes writes them.
    pub tolerations: Vec<serde_json::Value>,
    /// `base-images`, over the project's.
    pub base_images: BaseImages,
    /// `[contexts.NAME.steps.STEP]`
    pub steps: BTreeMap<String, StepPlacement>,
}

/// `store = { url = "s3://...", secret = "..." }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLocation {
    /// Where.
    pub url: String,
    /// The Kubernetes Secret with its credentials.
    pub secret: Option<String>,
}

/// Where a secret's value comes from. All but `Kubernetes` are allowed in the user's own config only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// `{ env = "X" }`: an environment variable of mlctl.
    Env(String),
    /// `{ file = "..." }`: a file's content, one trailing newline removed.
    File(String),
    /// `{ command = [...] }`: a command's output, one trailing newline removed.
    Command(Vec<String>),
    /// `{ secret = "ml", key = "hf" }`: a Kubernetes Secret.
    Kubernetes {
        /// Its name.
        secret: String,
        /// The key in it.
        key: String,
    },
}

/// What a context says of one step: placement and size.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepPlacement {
    /// `resources`, merged per key over the step's own.
    pub resources: Resources,
    /// `node-selector`
    pub node_selector: BTreeMap<String, String>,
    /// `tolerations`, besides those for every step.
    pub tolerations: Vec<serde_json::Value>,
}
