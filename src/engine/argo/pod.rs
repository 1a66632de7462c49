//! The pod of a unit: the step's image with `mlctl-exec` put beside its programs, and beside that container another one
//! that holds the store's credentials and outlives it.

use mlctl_core::context::{ContextLayer, PodSecurity, SecretFrom, StoreLocation};
use mlctl_core::plan::Plan;
use mlctl_core::units::{Report, Rows, Unit};
use mlctl_core::workflow::Resources;
use serde_json::{Map, Value, json};

use super::compile::{Job, parameter};
use super::names;

/// What the containers of a pod share: the executor, the bundle, what is reported.
const SHARED: &str = "/mlctl";
const EXECUTOR: &str = "/mlctl/bin/mlctl-exec";
/// The nodes' directory that is the store, at the same place in every container.
const STORE: &str = "store";
/// Argo's process in the step's container counts as the step's.
const BESIDE: u64 = 64 << 20;
/// With less it would be killed before the program is.
const LEAST_MEMORY: u64 = 128 << 20;
/// What is stored when a pod is told to end, however large.
const GRACE_SECONDS: u32 = 600;
/// The user that has no rights and no name.
const NOBODY: u32 = 65532;
/// How many instances a pod is taken to have where that is not known: only how often it may be lost depends on it.
const UNKNOWN: u64 = 100;
/// A pod may be lost so often, however short its work.
const LEAST_LOST: u64 = 3;

/// The name of the resource that is a GPU.
const GPU: &str = "nvidia.com/gpu";

/// The template of a unit's pods.
pub(super) fn template(job: &Job<'_>, unit: &Unit) -> Value {
    let mut template = Map::new();
    let mut add = |key: &str, value: Value| drop(template.insert(key.to_owned(), value));
    add("name", json!(names::template(job.plan, unit)));
    if !unit.is_single() {
        add("inputs", json!({ "parameters": [{ "name": "worker" }] }));
    }
    let steps: Vec<&str> = unit.steps.iter().map(|step| job.plan.step(*step).name.as_str()).collect();
    add("metadata", json!({ "annotations": { "mlctl.dev/steps": steps.join(",") } }));
    add("retryStrategy", retries(job.plan, unit));
    let (selector, tolerations) = placement(job, unit);
    if !selector.is_empty() {
        add("nodeSelector", selector.into());
    }
    if !tolerations.is_empty() {
        add("tolerations", tolerations.into());
    }
    add("volumes", json!([{ "name": "shm", "emptyDir": shm(resources(job, unit)) }]));
    add("initContainers", json!([storing(job, unit)]));
    add("container", container(job, unit));
    add("outputs", json!({ "parameters": outputs(job, unit) }));
    template.into()
}

/// What a unit's steps ask for: they all ask for the same.
fn resources(job: &Job<'_>, unit: &Unit) -> Resources {
    job.plan.steps[unit.first().0 as usize].resources
}

/// Failures of commands are tried again in the pod; this replaces pods that were lost, how often ever that may be.
/// 1, 4 and 5 are final: failed, timed out, cancelled.
fn retries(plan: &Plan, unit: &Unit) -> Value {
    let attempts: u64 = unit.steps.iter().map(|step| u64::from(plan.step(*step).retry.limit) + 1).sum();
    let instances = match &unit.rows {
        Rows::Known { rows, pods } => (rows.len() as u64).div_ceil(u64::from(*pods)),
        Rows::Dynamic { .. } => UNKNOWN,
    };
    json!({
        "limit": (instances * attempts).max(LEAST_LOST),
        "retryPolicy": "Always",
        "backoff": { "duration": "2s", "factor": 2, "cap": "1m" },
        "expression": "lastRetry.exitCode not in ['1','4','5']",
    })
}

/// Argo takes a template's labels and tolerations instead of the workflow's, not besides.
fn placement(job: &Job<'_>, unit: &Unit) -> (Map<String, Value>, Vec<Value>) {
    let own = job.context.steps.get(&job.plan.step(unit.first()).name);
    let selectors = own.iter().flat_map(|own| &own.node_selector);
    let all = job.context.node_selector.iter().chain(selectors);
    let selector: std::collections::BTreeMap<&String, &String> = all.collect();
    let tolerations = own.iter().flat_map(|own| &own.tolerations);
    (
        selector.into_iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
        job.context.tolerations.iter().chain(tolerations).cloned().collect(),
    )
}

fn shm(resources: Resources) -> Value {
    match resources.shm.or(resources.memory) {
        Some(bytes) => json!({ "medium": "Memory", "sizeLimit": bytes.to_string() }),
        None => json!({ "medium": "Memory" }),
    }
}

/// Puts the executor beside the step's programs; fetches and stores, from before the step starts until after it has
/// ended. It alone has the credentials.
fn storing(job: &Job<'_>, unit: &Unit) -> Value {
    let url = job.context.store.as_ref().map(|store| plain(&store.url)).unwrap_or_default();
    let (run, submission) = (plain(job.run), job.submission.to_hex());
    let mut command = vec!["/mlctl-exec", "store", "--run", &run, "--submission", &submission, "--store", &url];
    if unit.finally {
        command.extend(["--finally", "yes"]);
    }
    let mut container = own_container(job, "mlctl-store", &command);
    container.insert("restartPolicy".into(), json!("Always"));
    // No other container is started before this is done. One more that runs to its end would cost a second.
    container.insert(
        "lifecycle".into(),
        json!({ "postStart": { "exec": { "command": ["/mlctl-exec", "deliver", EXECUTOR] } } }),
    );
    if let Some(StoreLocation { secret: Some(secret), .. }) = &job.context.store {
        container.insert("envFrom".into(), json!([{ "secretRef": { "name": secret } }]));
    }
    container.insert("volumeMounts".into(), mounts(job).into());
    container.into()
}

/// What the containers that run and store have in common.
fn mounts(job: &Job<'_>) -> Vec<Value> {
    let store = job.context.store.as_ref().and_then(directory);
    // Inputs are links to objects, and work directories are on the file system of the store.
    let store = store.map(|directory| json!({ "name": STORE, "mountPath": directory }));
    [shared()].into_iter().chain(store).collect()
}

/// A container that runs nothing but mlctl.
fn own_container(job: &Job<'_>, name: &str, command: &[&str]) -> Map<String, Value> {
    let mut container = Map::new();
    container.insert("name".into(), json!(name));
    container.insert("image".into(), json!(job.executor));
    container.insert("command".into(), json!(command));
    container.insert("resources".into(), small());
    container.insert("securityContext".into(), without_rights());
    container
}

fn container(job: &Job<'_>, unit: &Unit) -> Value {
    let step = job.plan.step(unit.first());
    let (run, submission) = (plain(job.run), job.submission.to_hex());
    let args = ["run", "--run", &run, "--submission", &submission, "--unit", &step.name];
    let mut args: Vec<String> = args.map(str::to_owned).to_vec();
    if !unit.is_single() {
        args.extend(["--worker", "{{inputs.parameters.worker}}"].map(str::to_owned));
    }
    let mut mounts = mounts(job);
    mounts.push(json!({ "name": "shm", "mountPath": "/dev/shm" }));
    let mut container = Map::new();
    let image = job.images.get(step.environment.as_deref().unwrap_or_default());
    container.insert("image".into(), json!(image));
    container.insert("command".into(), json!([EXECUTOR]));
    container.insert("args".into(), json!(args));
    container.insert("env".into(), environment(job, unit).into());
    let resources = limits(resources(job, unit));
    if !resources.is_empty() {
        container.insert("resources".into(), resources.into());
    }
    if job.context.pod_security == Some(PodSecurity::Restricted) {
        container.insert("securityContext".into(), without_rights());
    }
    container.insert("volumeMounts".into(), mounts.into());
    container.into()
}

/// What the executor must know of its pod, and the secrets that the unit's steps name.
fn environment(job: &Job<'_>, unit: &Unit) -> Vec<Value> {
    // Argo may start a second pod of the same name and number: only this tells them apart.
    let uid = json!({ "fieldRef": { "fieldPath": "metadata.uid" } });
    let mut all = vec![json!({ "name": "MLCTL_POD", "valueFrom": uid })];
    let names: std::collections::BTreeSet<&String> =
        unit.steps.iter().flat_map(|step| &job.plan.step(*step).secrets).collect();
    for name in names {
        if let Some(SecretFrom::Kubernetes { secret, key }) = job.context.secrets.get(name) {
            let from = json!({ "secretKeyRef": { "name": secret, "key": key } });
            all.push(json!({ "name": name, "valueFrom": from }));
        }
    }
    all
}

fn limits(asked: Resources) -> Map<String, Value> {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    if let Some(millis) = asked.cpu_millis {
        requests.insert("cpu".into(), json!(format!("{millis}m")));
        limits.insert("cpu".into(), json!(format!("{millis}m")));
    }
    if let Some(bytes) = asked.memory {
        requests.insert("memory".into(), json!(bytes.to_string()));
        limits.insert("memory".into(), json!(bytes.saturating_add(BESIDE).max(LEAST_MEMORY).to_string()));
    }
    if let Some(bytes) = asked.disk {
        requests.insert("ephemeral-storage".into(), json!(bytes.to_string()));
    }
    if let Some(gpus) = asked.gpu.filter(|gpus| *gpus > 0) {
        limits.insert(GPU.into(), json!(gpus.to_string()));
    }
    let all = [("requests", requests), ("limits", limits)];
    all.into_iter().filter(|(_, some)| !some.is_empty()).map(|(key, some)| (key.to_owned(), some.into())).collect()
}

/// What a unit tells Argo, each in a file. Where one is missing because the pod was lost, others start and see.
fn outputs(job: &Job<'_>, unit: &Unit) -> Vec<Value> {
    let output = |name: String, default: String| {
        let path = format!("{SHARED}/out/{name}");
        json!({ "name": name, "valueFrom": { "path": path, "default": default } })
    };
    // How each of its instances ended, a letter each: what is seen of a run without looking into the store.
    let mut all = vec![output("r".to_owned(), String::new())];
    all.extend(unit.reports.iter().enumerate().map(|(place, report)| {
        let default = match report {
            Report::Made | Report::Condition { .. } => "true".to_owned(),
            Report::Pods { .. } => job.cutting.pods.to_string(),
        };
        output(parameter(report, place), default)
    }));
    all
}

fn shared() -> Value {
    json!({ "name": "mlctl", "mountPath": SHARED })
}

/// The volumes that all pods have.
pub(super) fn volumes(context: &ContextLayer) -> Value {
    let mut volumes = vec![json!({ "name": "mlctl", "emptyDir": {} })];
    if let Some(path) = context.store.as_ref().and_then(directory) {
        volumes.push(json!({ "name": STORE, "hostPath": { "path": path, "type": "Directory" } }));
    }
    volumes.into()
}

/// The nodes' directory that a store is.
pub(super) fn directory(store: &StoreLocation) -> Option<&str> {
    store.url.strip_prefix("file://").map(|path| path.trim_end_matches('/'))
}

/// The user of all containers: they share a directory. Whose the nodes' directory is that is the store, or nobody; never
/// an image's, as with containers of this machine.
pub(super) fn security(job: &Job<'_>) -> Value {
    let is_shared = job.context.store.as_ref().and_then(directory).is_some();
    let (user, group) = if is_shared { job.owner } else { (NOBODY, NOBODY) };
    let mut security = Map::new();
    security.insert("runAsUser".into(), json!(user));
    security.insert("runAsGroup".into(), json!(group));
    if job.context.pod_security == Some(PodSecurity::Restricted) {
        security.insert("runAsNonRoot".into(), json!(true));
        security.insert("seccompProfile".into(), json!({ "type": "RuntimeDefault" }));
    }
    security.into()
}

/// What Argo's own containers need besides, and how long a pod may take to end. A quota wants limits of every container.
pub(super) fn patch(context: &ContextLayer) -> Value {
    let own = |name: &str| {
        let mut container = Map::new();
        container.insert("name".into(), json!(name));
        container.insert("resources".into(), small());
        if context.pod_security == Some(PodSecurity::Restricted) {
            container.insert("securityContext".into(), without_rights());
        }
        Value::from(container)
    };
    json!({
        // Variables for each service of the namespace are not the step's.
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "initContainers": [own("init")],
        "containers": [own("wait")],
    })
}

fn small() -> Value {
    json!({ "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "cpu": "1", "memory": "256Mi" } })
}

fn without_rights() -> Value {
    json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } })
}

/// A text as an argument of a container: Kubernetes replaces `$(NAME)` in those, and `$$` by `$`.
fn plain(text: &str) -> String {
    text.replace('$', "$$")
}
