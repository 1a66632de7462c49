//! What of a spec and a context cannot be on a cluster, told before anything happens.

use mlctl_core::context::{ContextLayer, SecretFrom};
use mlctl_core::diag::Diag;
use mlctl_core::graph::Members;
use mlctl_core::plan::Plan;
use mlctl_core::template::Piece;
use mlctl_core::workflow::{InputFrom, StepIx};
use serde_json::json;

use super::pod;
use crate::config::Context;
use crate::error::{CommandError, Kind};
use crate::image::place::Place;
use crate::session::{self, Project};

/// Refuses what cannot be.
pub(crate) fn check(project: &Project, context: &Context, plan: &Plan) -> Result<(), CommandError> {
    check_context(context)?;
    let (elsewhere, missing): (Vec<_>, Vec<_>) =
        plan.needed().flat_map(|step| secrets(context, plan, step)).partition(|(is_given, _)| *is_given);
    let elsewhere = elsewhere.into_iter().map(|(_, diag)| diag);
    let refused: Vec<Diag> = plan.needed().flat_map(|step| inputs(plan, step)).chain(elsewhere).collect();
    if !refused.is_empty() {
        return Err(CommandError::diags(project.source.clone(), refused));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.into_iter().map(|(_, diag)| diag).collect();
    Err(CommandError::new(Kind::Missing, "").about(&project.source, missing))
}

fn check_context(context: &Context) -> Result<(), CommandError> {
    let name = &context.name;
    let Some(store) = &context.merged.store else {
        return Err(CommandError::usage(format!("context `{name}` has no store"))
            .cause("pods pass what they make through one")
            .hint(format!("add `store = {{ url = \"s3://...\", secret = \"...\" }}` to [contexts.{name}]")));
    };
    Place::of(context)?;
    if let Some(directory) = pod::directory(store) {
        let own = session::store_root()?;
        if !super::shares_store(context, &own.canonicalize().unwrap_or(own.clone())) {
            return Err(CommandError::usage(format!("context `{name}` has another store than this machine"))
                .cause(format!(
                    "a directory is the nodes' and this machine's own store at once: this one's is {}",
                    own.display()
                ))
                .hint(format!("set MLCTL_STORE={directory}, or use an object store")));
        }
    }
    if let (Some(directory), Some(standard)) = (pod::directory(store), context.merged.pod_security) {
        return Err(CommandError::usage(format!("context `{name}` cannot keep `pod-security = {}`", json!(standard)))
            .cause(format!("its store is the nodes' directory `{directory}`, which that standard forbids pods to use"))
            .hint("use an object store, or leave `pod-security` out"));
    }
    // There is no way to write it so that Argo leaves it alone.
    if let Some(text) = texts(&context.merged).into_iter().find(|text| text.contains("{{")) {
        return Err(CommandError::usage(format!("context `{name}` has a value that Argo would change: `{text}`"))
            .cause("Argo takes `{{` for one of its variables")
            .hint("write it without `{{`"));
    }
    Ok(())
}

/// What of a context stands in a manifest as it is.
fn texts(context: &ContextLayer) -> Vec<String> {
    fn add(value: &serde_json::Value, all: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => all.push(text.clone()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| add(item, all)),
            serde_json::Value::Object(fields) => fields.iter().for_each(|(name, field)| {
                all.push(name.clone());
                add(field, all);
            }),
            _ => {}
        }
    }
    let placed: Vec<_> = context.steps.values().map(|step| json!([step.node_selector, step.tolerations])).collect();
    let kept = context.secrets.values().map(|from| match from {
        SecretFrom::Kubernetes { secret, key } => json!([secret, key]),
        _ => json!(null),
    });
    let kept: Vec<_> = kept.collect();
    let all = json!([
        context.namespace,
        context.registry,
        context.store,
        context.service_account,
        context.image_pull_secrets,
        context.labels,
        context.annotations,
        context.node_selector,
        context.tolerations,
        placed,
        kept,
    ]);
    let mut texts = Vec::new();
    add(&all, &mut texts);
    texts
}

/// Secrets that a cluster does not have: those of this machine do not travel. Tells of each whether it is given at all.
fn secrets<'a>(context: &'a Context, plan: &'a Plan, step: StepIx) -> impl Iterator<Item = (bool, Diag)> + 'a {
    let step = plan.step(step);
    step.secrets.iter().filter_map(move |name| {
        let who = format!("`{}` needs the secret `{name}`: the context `{}`", step.name, context.name);
        let (is_given, diag) = match context.merged.secrets.get(name) {
            Some(SecretFrom::Kubernetes { .. }) => return None,
            Some(_) => {
                let message = format!("{who} has it from this machine, and runs steps on a cluster");
                (true, Diag::error("secret-not-on-cluster", step.span, message))
            }
            None => (false, Diag::error("missing-secret", step.span, format!("{who} does not give it"))),
        };
        let help =
            format!("add `secrets.{name} = {{ secret = \"...\", key = \"...\" }}` to [contexts.{}]", context.name);
        Some((is_given, diag.help(help)))
    })
}

/// The project's files are stored before the run: which ones must be known by then.
fn inputs(plan: &Plan, ix: StepIx) -> impl Iterator<Item = Diag> {
    let step = plan.step(ix);
    let is_known = matches!(plan.graph.members(ix), Members::Known { .. });
    step.inputs.iter().filter(move |_| !is_known).filter_map(move |input| {
        let InputFrom::Project { path } = &input.from else { return None };
        path.0.iter().any(|piece| matches!(piece, Piece::Matrix(_))).then(|| {
            let message = format!(
                "which file `{}` of `{}` is will be known only when the cluster has it not",
                input.name, step.name
            );
            Diag::error("input-not-on-cluster", input.span, message)
                .help("take it from a directory of the project: `{ path = \"DIRECTORY\" }` is stored as a whole")
        })
    })
}
