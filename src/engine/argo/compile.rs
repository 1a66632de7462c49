//! From a plan to an Argo `Workflow`: a pure function.
//!
//! Argo is given order, booleans and counts; every other thing that a pod must know is in the submission, which it reads
//! from the store. `docs/argo.md` says what becomes of what, and why.

use std::collections::BTreeMap;

use mlctl_core::context::ContextLayer;
use mlctl_core::diag::Diag;
use mlctl_core::digest::Digest;
use mlctl_core::plan::Plan;
use mlctl_core::units::{After, Cutting, Holds, Report, Rows, Unit, UnitIx};
use serde_json::{Map, Value, json};

use super::{names, pod};

/// What the full definitions of Argo's resources allow of templates, and of tasks in one.
const MOST_TEMPLATES: usize = 200;
/// So many pods at most: what Argo keeps of each must fit into one object.
const MOST_PODS: usize = 10_000;
/// The most bytes of a workflow: Kubernetes takes no object of more than 1.5 MiB, and Argo keeps its state in the same.
const MOST_BYTES: usize = 900 * 1024;

/// What a workflow is made from.
pub(crate) struct Job<'a> {
    /// What is to be run.
    pub(crate) plan: &'a Plan,
    /// How it is cut.
    pub(crate) units: &'a [Unit],
    /// By what.
    pub(crate) cutting: &'a Cutting,
    /// Where.
    pub(crate) context: &'a ContextLayer,
    /// The run's id.
    pub(crate) run: &'a str,
    /// What the pods read.
    pub(crate) submission: Digest,
    /// The image of each environment by name; of steps without one by the empty name.
    pub(crate) images: &'a BTreeMap<String, String>,
    /// The image that holds `mlctl-exec`.
    pub(crate) executor: &'a str,
    /// The user and group to whom the nodes' directory belongs that is the store, if it is one.
    pub(crate) owner: (u32, u32),
    /// The seconds that it may take.
    pub(crate) deadline: Option<u64>,
}

impl Job<'_> {
    /// The workflow's name.
    pub(crate) fn name(&self) -> String {
        names::workflow(&self.plan.workflow.name, self.run)
    }

    /// Whether another run id is needed: Argo would take two of its nodes for one.
    pub(crate) fn clashes(&self) -> bool {
        names::clash(self.plan, self.units, self.cutting.pods, &self.name()).is_some()
    }
}

/// The workflow, or what of the spec is too much for Argo.
pub(crate) fn compile(job: &Job<'_>) -> Result<Value, Vec<Diag>> {
    let problems = too_much(job);
    if !problems.is_empty() {
        return Err(problems);
    }
    let graphs = [(names::ENTRY, false), (names::FINALLY, true)];
    let graphs = graphs.map(|(name, finally)| (name, job.units.iter().filter(move |unit| unit.finally == finally)));
    // A graph without tasks is none.
    let graphs = graphs.into_iter().filter(|(_, units)| units.clone().next().is_some());
    let mut templates: Vec<Value> = graphs.map(|(name, units)| graph(job, name, units)).collect();
    templates.extend(job.units.iter().filter(|unit| !unit.is_single()).map(|unit| workers(job, unit)));
    templates.extend(job.units.iter().map(|unit| pod::template(job, unit)));
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": metadata(job),
        "spec": spec(job, templates),
    });
    // What Argo adds of its own grows with the pods, not with this.
    if workflow.to_string().len() > MOST_BYTES {
        let span = job.units.first().map(|unit| job.plan.step(unit.first()).span).unwrap_or_default();
        let message = format!("the workflow has more than {} KiB: Argo cannot hold it", MOST_BYTES / 1024);
        return Err(vec![Diag::error("too-large-for-argo", span, message).help("run it in parts, by targets")]);
    }
    Ok(workflow)
}

fn too_much(job: &Job<'_>) -> Vec<Diag> {
    let mut problems = Vec::new();
    // The graph itself, and that of `finally` steps, are templates too.
    let mut templates = 1 + usize::from(job.units.iter().any(|unit| unit.finally));
    let mut pods = 0;
    for unit in job.units {
        let step = job.plan.step(unit.first());
        templates += if unit.is_single() { 1 } else { 2 };
        pods += match &unit.rows {
            Rows::Known { pods, .. } => *pods as usize,
            Rows::Dynamic { .. } if job.cutting.workers => job.cutting.pods as usize,
            Rows::Dynamic { .. } => 0,
        };
        if templates > MOST_TEMPLATES {
            let message = format!("`{}` is one step too many: Argo takes {MOST_TEMPLATES} templates", step.name);
            let help = "a step is one, a fan-out two; run the workflow in parts, by targets";
            problems.push(Diag::error("too-many-steps-for-argo", step.span, message).help(help));
            break;
        }
        if pods > MOST_PODS {
            let message = format!("with `{}` the run has more than {MOST_PODS} pods", step.name);
            let help = "let pods take turns: `workers = true` in the context, and fewer `pods`";
            problems.push(Diag::error("too-many-pods", step.span, message).help(help));
            break;
        }
    }
    problems
}

fn metadata(job: &Job<'_>) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(job.name()));
    if let Some(namespace) = &job.context.namespace {
        metadata.insert("namespace".into(), json!(namespace));
    }
    metadata.insert("labels".into(), json!(own_labels(job)));
    let store = job.context.store.as_ref().map(|store| &store.url);
    metadata.insert(
        "annotations".into(),
        json!({ "mlctl.dev/submission": job.submission.to_hex(), "mlctl.dev/store": store }),
    );
    metadata.into()
}

fn own_labels(job: &Job<'_>) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("mlctl.dev/project", names::label(&job.plan.workflow.name)),
        ("mlctl.dev/run", names::label(job.run)),
    ])
}

fn spec(job: &Job<'_>, templates: Vec<Value>) -> Value {
    let context = job.context;
    let mut spec = Map::new();
    let mut add = |key: &str, value: Value| drop(spec.insert(key.to_owned(), value));
    if job.units.iter().all(|unit| unit.finally) {
        add("entrypoint", json!(names::FINALLY));
    } else {
        add("entrypoint", json!(names::ENTRY));
        if job.units.iter().any(|unit| unit.finally) {
            add("onExit", json!(names::FINALLY));
        }
    }
    if let Some(account) = &context.service_account {
        add("serviceAccountName", json!(account));
    }
    if let Some(secrets) = &context.image_pull_secrets {
        add("imagePullSecrets", secrets.iter().map(|name| json!({ "name": name })).collect());
    }
    // Also when nobody follows it any more.
    if let Some(seconds) = job.deadline {
        add("activeDeadlineSeconds", json!(seconds));
    }
    if let Some(parallelism) = context.parallelism {
        add("parallelism", json!(parallelism));
    }
    let mut labels: BTreeMap<&str, String> =
        context.labels.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    labels.extend(own_labels(job));
    add("podMetadata", json!({ "labels": labels, "annotations": context.annotations }));
    // Of what went well the logs are in the store; what failed may be looked at.
    add("podGC", json!({ "strategy": "OnPodSuccess", "deleteDelayDuration": "30s" }));
    add("archiveLogs", json!(false));
    add("securityContext", pod::security(job));
    add("podSpecPatch", json!(pod::patch(context).to_string()));
    add("volumes", pod::volumes(context));
    add("templates", templates.into());
    spec.into()
}

/// A template in which units are tasks.
fn graph<'a>(job: &Job<'_>, name: &str, units: impl Iterator<Item = &'a Unit>) -> Value {
    let tasks: Vec<Value> = units.map(|unit| task(job, unit)).collect();
    json!({ "name": name, "dag": { "failFast": false, "tasks": tasks } })
}

fn task(job: &Job<'_>, unit: &Unit) -> Value {
    let mut task = Map::new();
    let mut add = |key: &str, value: Value| drop(task.insert(key.to_owned(), value));
    add("name", json!(names::task(job.plan, unit)));
    let template = if unit.is_single() { names::template } else { names::workers };
    add("template", json!(template(job.plan, unit)));
    if !unit.after.is_empty() {
        let all: Vec<String> = unit.after.iter().map(|after| ended(job, *after)).collect();
        add("depends", json!(all.join(" && ")));
    }
    if let Some(when) = &unit.when {
        add("when", json!(holds(job, when)));
    }
    if let Rows::Dynamic { count: Some((by, place)) } = unit.rows {
        let pods = [json!({ "name": "pods", "value": reported(job, by, place) })];
        add("arguments", json!({ "parameters": pods }));
    }
    task.into()
}

/// What must have become of a unit for one that waits for it to start.
fn ended(job: &Job<'_>, after: After) -> String {
    let task = names::task(job.plan, &job.units[after.unit.0 as usize]);
    let mut ways = vec!["Succeeded"];
    if after.though_failed {
        ways.extend(["Failed", "Errored"]);
    }
    if after.though_not_started {
        ways.extend(["Skipped", "Omitted"]);
    }
    let ways: Vec<String> = ways.into_iter().map(|way| format!("{task}.{way}")).collect();
    if ways.len() == 1 { ways.concat() } else { format!("({})", ways.join(" || ")) }
}

fn holds(job: &Job<'_>, when: &Holds) -> String {
    match when {
        Holds::Report(unit, place) => reported(job, *unit, *place),
        Holds::Not(one) => format!("!({})", holds(job, one)),
        Holds::And(left, right) => format!("({} && {})", holds(job, left), holds(job, right)),
        Holds::Or(left, right) => format!("({} || {})", holds(job, left), holds(job, right)),
    }
}

fn reported(job: &Job<'_>, unit: UnitIx, place: usize) -> String {
    let unit = &job.units[unit.0 as usize];
    format!(
        "{{{{tasks.{}.outputs.parameters.{}}}}}",
        names::task(job.plan, unit),
        parameter(&unit.reports[place], place)
    )
}

/// What a report is called.
pub(super) fn parameter(report: &Report, place: usize) -> String {
    match report {
        Report::Made | Report::Condition { .. } => format!("c{place}"),
        Report::Pods { .. } => format!("w{place}"),
    }
}

/// The template of a fan-out: a task for each pod.
fn workers(job: &Job<'_>, unit: &Unit) -> Value {
    let count = match &unit.rows {
        Rows::Known { pods, .. } => pods.to_string(),
        Rows::Dynamic { count: None } => job.cutting.pods.to_string(),
        Rows::Dynamic { count: Some(_) } => "{{inputs.parameters.pods}}".to_owned(),
    };
    let mut template = Map::new();
    template.insert("name".into(), json!(names::workers(job.plan, unit)));
    if matches!(unit.rows, Rows::Dynamic { count: Some(_) }) {
        template.insert("inputs".into(), json!({ "parameters": [{ "name": "pods" }] }));
    }
    let task = json!({
        "name": names::WORKER,
        "template": names::template(job.plan, unit),
        "withSequence": { "count": count },
        "arguments": { "parameters": [{ "name": "worker", "value": "{{item}}" }] },
    });
    template.insert("dag".into(), json!({ "failFast": false, "tasks": [task] }));
    template.into()
}
