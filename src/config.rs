//! Contexts, merged per key from their layers, each value with where it came from.
//!
//! The environment has a closed list: `MLCTL_CONTEXT`, `MLCTL_JOBS`, `MLCTL_STORE`.

use std::collections::BTreeMap;
use std::fmt;

use indexmap::IndexMap;
use mlctl_core::context::{ContextLayer, EngineKind, SecretFrom, StepPlacement};
use mlctl_core::workflow::Resources;
use serde_json::{Value, json};

pub(crate) mod file;
pub(crate) mod secret;

/// Which layer gave a value, the weakest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// The user's own file.
    User(String),
    /// The project's `mlctl.toml`.
    Project(String),
    /// The project's `mlctl.local.toml`.
    Local(String),
    /// A variable of the environment.
    Environment(&'static str),
    /// The command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::User(file) | Self::Project(file) | Self::Local(file) => f.write_str(file),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A context, merged.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Context {
    /// Its name.
    pub(crate) name: String,
    /// All values.
    pub(crate) merged: ContextLayer,
    /// For each key that has a value, as `context show` prints it: where the value came from.
    pub(crate) origins: BTreeMap<String, Origin>,
}

impl Context {
    /// What runs the steps.
    pub(crate) fn engine(&self) -> EngineKind {
        self.merged.engine.unwrap_or(EngineKind::Process)
    }

    /// The URL of its store; empty where it has none.
    pub(crate) fn store_url(&self) -> &str {
        self.merged.store.as_ref().map_or("", |store| &store.url)
    }

    /// The keys that have a value, as `context show` prints them.
    pub(crate) fn entries(&self) -> Vec<(String, Value)> {
        entries(&self.merged)
    }

    /// Lays `layer` over what is there.
    pub(crate) fn lay(&mut self, layer: &ContextLayer, origin: &Origin) {
        for (key, _) in entries(layer) {
            self.origins.insert(key, origin.clone());
        }
        merge(&mut self.merged, layer);
    }
}

/// All contexts there are, each with its layers, the weakest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers(IndexMap<String, Vec<(Origin, ContextLayer)>>);

impl Layers {
    /// The built-in ones: `local` and `docker`.
    pub(crate) fn built_in() -> Self {
        let engine = |engine| ContextLayer { engine: Some(engine), ..ContextLayer::default() };
        let mut layers = Self::default();
        layers.add(&Origin::Default, IndexMap::from([("local".to_owned(), engine(EngineKind::Process))]));
        layers.add(&Origin::Default, IndexMap::from([("docker".to_owned(), engine(EngineKind::Docker))]));
        layers
    }

    /// Adds a file's contexts, over those that are there.
    pub(crate) fn add(&mut self, origin: &Origin, contexts: IndexMap<String, ContextLayer>) {
        for (name, layer) in contexts {
            self.0.entry(name).or_default().push((origin.clone(), layer));
        }
    }

    /// The names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The context of that name, merged.
    pub(crate) fn merge(&self, name: &str) -> Option<Context> {
        let mut context = Context { name: name.to_owned(), ..Context::default() };
        for (origin, layer) in self.0.get(name)? {
            context.lay(layer, origin);
        }
        if context.merged.engine.is_none() {
            let engine = ContextLayer { engine: Some(EngineKind::Process), ..ContextLayer::default() };
            context.lay(&engine, &Origin::Default);
        }
        Some(context)
    }
}

/// `over`'s values where it has one, per key, also inside the tables.
fn merge(base: &mut ContextLayer, over: &ContextLayer) {
    // Spelled out to the last field, so that a new key cannot be forgotten.
    let ContextLayer {
        engine,
        kube_context,
        namespace,
        registry,
        images,
        store,
        service_account,
        image_pull_secrets,
        pods,
        workers,
        chains,
        parallelism,
        pod_security,
        ca,
        settings,
        secrets,
        labels,
        annotations,
        node_selector,
        tolerations,
        base_images,
        steps,
    } = over;
    put(&mut base.engine, engine);
    put(&mut base.kube_context, kube_context);
    put(&mut base.namespace, namespace);
    put(&mut base.registry, registry);
    put(&mut base.images, images);
    put(&mut base.store, store);
    put(&mut base.service_account, service_account);
    put(&mut base.image_pull_secrets, image_pull_secrets);
    put(&mut base.pods, pods);
    put(&mut base.workers, workers);
    put(&mut base.chains, chains);
    put(&mut base.parallelism, parallelism);
    put(&mut base.pod_security, pod_security);
    put(&mut base.ca, ca);
    put_all(&mut base.settings, settings);
    put_all(&mut base.secrets, secrets);
    put_all(&mut base.labels, labels);
    put_all(&mut base.annotations, annotations);
    put_all(&mut base.node_selector, node_selector);
    put_list(&mut base.tolerations, tolerations);
    base.base_images = base_images.over(&base.base_images);
    for (step, placement) in steps {
        merge_placement(base.steps.entry(step.clone()).or_default(), placement);
    }
}

fn merge_placement(base: &mut StepPlacement, over: &StepPlacement) {
    let StepPlacement { resources, node_selector, tolerations } = over;
    put(&mut base.resources.cpu_millis, &resources.cpu_millis);
    put(&mut base.resources.memory, &resources.memory);
    put(&mut base.resources.gpu, &resources.gpu);
    put(&mut base.resources.disk, &resources.disk);
    put(&mut base.resources.shm, &resources.shm);
    put_all(&mut base.node_selector, node_selector);
    put_list(&mut base.tolerations, tolerations);
}

fn put<T: Clone>(base: &mut Option<T>, over: &Option<T>) {
    if over.is_some() {
        base.clone_from(over);
    }
}

fn put_list<T: Clone>(base: &mut Vec<T>, over: &Vec<T>) {
    if !over.is_empty() {
        base.clone_from(over);
    }
}

fn put_all<T: Clone>(base: &mut BTreeMap<String, T>, over: &BTreeMap<String, T>) {
    base.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
}

/// The keys of a layer that have a value, in the order of the documentation. Secrets show their source, never a value.
fn entries(layer: &ContextLayer) -> Vec<(String, Value)> {
    let mut list = Vec::new();
    let mut add = |key: &str, value: Value| {
        if !value.is_null() {
            list.push((key.to_owned(), value));
        }
    };
    add("engine", json!(layer.engine));
    add("kube-context", json!(layer.kube_context));
    add("namespace", json!(layer.namespace));
    add("registry", json!(layer.registry));
    add("images", json!(layer.images));
    add("store.url", json!(layer.store.as_ref().map(|store| &store.url)));
    add("store.secret", json!(layer.store.as_ref().and_then(|store| store.secret.as_ref())));
    add("service-account", json!(layer.service_account));
    add("image-pull-secrets", json!(layer.image_pull_secrets));
    add("pods", json!(layer.pods));
    add("workers", json!(layer.workers));
    add("chains", json!(layer.chains));
    add("parallelism", json!(layer.parallelism));
    add("pod-security", json!(layer.pod_security));
    add("ca", json!(layer.ca));
    add("base-images.python", json!(layer.base_images.python));
    add("base-images.plain", json!(layer.base_images.plain));
    for (table, values) in [
        ("settings", &layer.settings),
        ("labels", &layer.labels),
        ("annotations", &layer.annotations),
        ("node-selector", &layer.node_selector),
    ] {
        for (key, value) in values {
            add(&format!("{table}.{key}"), json!(value));
        }
    }
    add("tolerations", json!((!layer.tolerations.is_empty()).then_some(&layer.tolerations)));
    for (name, from) in &layer.secrets {
        add(&format!("secrets.{name}"), secret_source(from));
    }
    for (step, placement) in &layer.steps {
        for (key, value) in placement_entries(placement) {
            add(&format!("steps.{step}.{key}"), value);
        }
    }
    list
}

/// What a step asks for, by its keys: CPUs, bytes, whole GPUs.
pub(crate) fn resource_entries(resources: Resources) -> [(&'static str, Value); 5] {
    [
        ("cpu", json!(resources.cpu_millis.map(|millis| f64::from(millis) / 1000.0))),
        ("memory", json!(resources.memory)),
        ("gpu", json!(resources.gpu)),
        ("disk", json!(resources.disk)),
        ("shm", json!(resources.shm)),
    ]
}

fn placement_entries(placement: &StepPlacement) -> Vec<(String, Value)> {
    let resources = resource_entries(placement.resources).into_iter();
    let mut list: Vec<_> = resources.map(|(key, value)| (format!("resources.{key}"), value)).collect();
    list.extend(placement.node_selector.iter().map(|(key, value)| (format!("node-selector.{key}"), json!(value))));
    if !placement.tolerations.is_empty() {
        list.push(("tolerations".to_owned(), json!(placement.tolerations)));
    }
    list
}

fn secret_source(from: &SecretFrom) -> Value {
    match from {
        SecretFrom::Env(name) => json!({ "env": name }),
        SecretFrom::File(path) => json!({ "file": path }),
        SecretFrom::Command(argv) => json!({ "command": argv }),
        SecretFrom::Kubernetes { secret, key } => json!({ "secret": secret, "key": key }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(registry: Option<&str>, settings: &[(&str, &str)]) -> ContextLayer {
        ContextLayer {
            registry: registry.map(str::to_owned),
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..ContextLayer::default()
        }
    }

    #[test]
    fn stronger_layers_win_key_by_key_and_each_value_knows_its_origin() {
        let mut layers = Layers::built_in();
        let user = Origin::User("config.toml".into());
        let project = Origin::Project("mlctl.toml".into());
        layers.add(&user, IndexMap::from([("c".into(), layer(Some("mine"), &[("A", "user"), ("B", "user")]))]));
        layers.add(&project, IndexMap::from([("c".into(), layer(None, &[("A", "project")]))]));
        let context = layers.merge("c").unwrap();
        assert_eq!(context.merged.registry.as_deref(), Some("mine"));
        assert_eq!(context.merged.settings["A"], "project");
        assert_eq!(context.merged.settings["B"], "user");
        assert_eq!(context.origins["settings.A"], project);
        assert_eq!(context.origins["settings.B"], user);
        assert_eq!(context.origins["engine"], Origin::Default);
        assert_eq!(layers.names().collect::<Vec<_>>(), ["local", "docker", "c"]);
        assert!(layers.merge("d").is_none());
    }

    #[test]
    fn placements_merge_inside_a_step() {
        let placed = |cpu: Option<u32>, gpu: Option<u32>| {
            let mut layer = ContextLayer::default();
            let resources = mlctl_core::workflow::Resources { cpu_millis: cpu, gpu, ..Default::default() };
            layer.steps.insert("train".into(), StepPlacement { resources, ..StepPlacement::default() });
            layer
        };
        let mut context = Context::default();
        context.lay(&placed(Some(500), Some(1)), &Origin::Default);
        context.lay(&placed(None, Some(8)), &Origin::Flag("--x"));
        let resources = context.merged.steps["train"].resources;
        assert_eq!((resources.cpu_millis, resources.gpu), (Some(500), Some(8)));
        assert_eq!(context.origins["steps.train.resources.cpu"], Origin::Default);
        assert_eq!(context.origins["steps.train.resources.gpu"], Origin::Flag("--x"));
    }
}
