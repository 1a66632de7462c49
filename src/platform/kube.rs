//! A Kubernetes cluster: found as kubectl finds it, and asked over its API alone.
//!
//! Nothing is watched: what is asked for again and again cannot expire, and a cluster that was away for a while is asked
//! again like any other. No request is repeated by the client on its own: who asks knows whether that does harm.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::config::Context;
use crate::error::CommandError;
use crate::trust;

mod ask;
mod fault;
mod objects;

pub(crate) use fault::{Fault, FaultKind};
pub(crate) use objects::{Node, Pod, Waiting, Workflow};

/// How long a cluster may take to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// Argo's part of the API.
const ARGO: &str = "/apis/argoproj.io/v1alpha1";
/// What Argo labels the pods of a workflow with.
const WORKFLOW_LABEL: &str = "workflows.argoproj.io/workflow";

/// A namespace of a cluster.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    /// The context's name in the kubeconfig.
    name: String,
    namespace: String,
}

impl Cluster {
    /// The cluster of a context: its `kube-context`, else the kubeconfig's current one, else the one that this runs in.
    pub(crate) fn connect(context: &Context) -> Result<Arc<Self>, CommandError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| {
            CommandError::missing("cannot start the thread that talks to Kubernetes").because(&error)
        })?;
        let (mut config, name) = runtime.block_on(configure(context))?;
        trust::confirm("cluster", &name, context.origins.get("kube-context"))?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        // Whoever comes second finds the same provider installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let namespace = context.merged.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = runtime.block_on(async { Client::try_from(config) });
        let client = client.map_err(|error| Fault::from(error).explain("connect to", &name, &namespace))?;
        Ok(Arc::new(Self { runtime, client, name, namespace }))
    }

    /// What the kubeconfig calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that is used.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What went wrong while `doing` something, in words.
    pub(crate) fn explain(&self, doing: &str, fault: &Fault) -> CommandError {
        fault.explain(doing, &self.name, &self.namespace)
    }

    /// Makes sure that Argo Workflows is there.
    pub(crate) fn has_argo(&self) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Anything {}
        self.get::<Anything>(ARGO).map(drop).map_err(|fault| match fault.kind {
            FaultKind::NotFound => Fault { kind: FaultKind::NoArgo, ..fault },
            _ => fault,
        })
    }

    /// Creates a workflow; `false`: there is one of that name. A field that Argo's definitions do not know is refused.
    pub(crate) fn create_workflow(&self, workflow: &Value) -> Result<bool, Fault> {
        let path = format!("{}?fieldValidation=Strict&fieldManager=mlctl", self.workflows());
        match self.send::<Value>(Method::POST, &path, "application/json", workflow.to_string().into_bytes()) {
            Ok(_) => Ok(true),
            Err(fault) if fault.kind == FaultKind::Exists => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// A workflow as it is now; `None`: there is none.
    pub(crate) fn workflow(&self, name: &str) -> Result<Option<Workflow>, Fault> {
        absent(self.get(&format!("{}/{name}", self.workflows())))
    }

    /// Tells Argo to start nothing more and to end what runs: `how` is `Stop`, after which the exit handler runs, or
    /// `Terminate`. One that is not there needs no telling.
    pub(crate) fn shut_down(&self, name: &str, how: &str) -> Result<(), Fault> {
        let path = format!("{}/{name}?fieldManager=mlctl", self.workflows());
        let patch = json!({ "spec": { "shutdown": how } }).to_string();
        let patched: Result<Value, Fault> =
            self.send(Method::PATCH, &path, "application/merge-patch+json", patch.into_bytes());
        absent(patched).map(drop)
    }

    /// Deletes a workflow, and with it what it made.
    pub(crate) fn delete_workflow(&self, name: &str) -> Result<(), Fault> {
        let path = format!("{}/{name}?propagationPolicy=Background", self.workflows());
        absent(self.send::<Value>(Method::DELETE, &path, "application/json", Vec::new())).map(drop)
    }

    /// The pods of a workflow.
    pub(crate) fn pods(&self, workflow: &str) -> Result<Vec<Pod>, Fault> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<Pod>,
        }
        let path = format!("{}?labelSelector={WORKFLOW_LABEL}%3D{workflow}", self.pods_path());
        Ok(self.get::<List>(&path)?.items)
    }

    /// Deletes a pod: what runs in it is told to end, and killed after `grace` seconds.
    pub(crate) fn delete_pod(&self, name: &str, grace: u32) -> Result<(), Fault> {
        let path = format!("{}/{name}?gracePeriodSeconds={grace}", self.pods_path());
        absent(self.send::<Value>(Method::DELETE, &path, "application/json", Vec::new())).map(drop)
    }

    fn workflows(&self) -> String {
        format!("{ARGO}/namespaces/{}/workflows", self.namespace)
    }

    fn pods_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        self.send(Method::GET, path, "application/json", Vec::new())
    }

    fn send<T: DeserializeOwned>(&self, method: Method, path: &str, content: &str, body: Vec<u8>) -> Result<T, Fault> {
        let request =
            Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content).body(body);
        let request = request.map_err(kube::Error::HttpError)?;
        Ok(self.runtime.block_on(self.client.request(request))?)
    }
}

/// That there is none is an answer.
fn absent<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// How the cluster is reached, and what it is called.
async fn configure(context: &Context) -> Result<(Config, String), CommandError> {
    let wanted = context.merged.kube_context.clone();
    let unreadable = |error: kube::config::KubeconfigError| {
        CommandError::missing("cannot read the kubeconfig")
            .because(&error)
            .hint("KUBECONFIG names it, else it is ~/.kube/config; `kubectl config view` shows what is wrong with it")
    };
    let file = match Kubeconfig::read() {
        Ok(file) => file,
        // In a pod there is none.
        Err(error) => match Config::incluster() {
            Ok(config) if wanted.is_none() => return Ok((config, "in-cluster".to_owned())),
            _ => return Err(unreadable(error)),
        },
    };
    let Some(name) = wanted.or_else(|| file.current_context.clone()) else {
        return Err(CommandError::missing(format!("context `{}` does not say which cluster it means", context.name))
            .cause("it has no `kube-context`, and the kubeconfig no current context")
            .hint(format!("add `kube-context = \"...\"` to [contexts.{}]: {}", context.name, known(&file))));
    };
    if !file.contexts.iter().any(|known| known.name == name) {
        let origin = context.origins.get("kube-context").map(ToString::to_string).unwrap_or_default();
        return Err(CommandError::missing(format!("the kubeconfig has no context `{name}`"))
            .cause(format!("`kube-context` of the context `{}` ({origin}) names it", context.name))
            .hint(known(&file)));
    }
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await.map_err(unreadable)?;
    Ok((config, name))
}

/// The contexts that there are.
fn known(file: &Kubeconfig) -> String {
    let names: Vec<&str> = file.contexts.iter().map(|known| known.name.as_str()).collect();
    if names.is_empty() {
        "it has none: is KUBECONFIG set as you mean it?".to_owned()
    } else {
        format!("it has: {}", names.join(", "))
    }
}
