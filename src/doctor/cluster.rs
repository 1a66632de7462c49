//! What a context needs of a cluster.

use std::path::Path;

use crate::config::Context;
use crate::engine::Engine;
use crate::engine::argo::images::Of;
use crate::error::CommandError;
use crate::image::place::Place;
use crate::lock::Lock;
use crate::platform::docker::Daemon;
use crate::platform::kube::{Cluster, Fault, FaultKind};
use crate::session::Project;
use crate::trust;

use super::Check;

/// What mlctl needs in a namespace, in the words of Kubernetes: the page that whoever runs the cluster is given.
const ROLES: &str = include_str!("../../docs/argo-roles.yaml");
/// The oldest Kubernetes that has side-cars.
const OLDEST_KUBERNETES: (u32, u32) = (1, 29);
/// What the manifests are made for.
const ARGO: &str = "4.";

/// What whoever runs, follows and cancels workflows must be allowed: API group, resource, verbs. It is that of [`ROLES`].
const RIGHTS: [(&str, &str, &[&str]); 3] = [
    ("argoproj.io", "workflows", &["create", "get", "list", "watch", "patch", "delete"]),
    ("", "pods", &["get", "list", "watch", "delete"]),
    ("", "events", &["list"]),
];

/// Whether nodes have, or can have, the images of pods: the one that all of them need is brought to them.
pub(super) fn images((project, context): (&Project, &Context), store: &Path, told: &mut dyn FnMut(Check)) {
    let place = match Place::of(context) {
        Ok(place) => place,
        Err(error) => return told(Check::bad("images", &error)),
    };
    let (name, found) = match place {
        Place::Kind(cluster) => ("nodes", format!("those of the kind cluster `{cluster}` can be given images")),
        Place::Registry(registry) => ("registry", format!("{registry} can be written to")),
    };
    let brought = executor((project, context), store, place);
    told(Check::of(name, brought.map(|()| format!("{found}, and mlctl-exec's is there"))));
}

fn executor((project, context): (&Project, &Context), store: &Path, place: Place<'_>) -> Result<(), CommandError> {
    if let Place::Registry(registry) = place {
        trust::confirm("registry", registry, context.origins.get("registry"))?;
    }
    let (daemon, lock) = (Daemon::connect()?, Lock::read(&project.root)?);
    let target = Engine::Argo(Some(daemon.clone())).target(project, context);
    Of { project, context, lock: &lock, target: &target, store }.bring_executor(&daemon, &|_, _| {})
}

/// Checks the cluster of a context.
pub(super) fn examine(context: &Context, told: &mut dyn FnMut(Check)) {
    let cluster = match Cluster::connect(context) {
        Ok(cluster) => cluster,
        Err(error) => return told(Check::bad("cluster", &error)),
    };
    let explained = |doing: &str, fault: &Fault| cluster.explain(doing, fault);
    let version = cluster.version().map_err(|fault| explained("reach", &fault));
    let reached = version.is_ok();
    told(version.map_or_else(|error| Check::bad("cluster", &error), |version| kubernetes(&cluster, &version)));
    if !reached {
        return;
    }
    told(match cluster.has_argo() {
        Ok(()) => argo(&cluster),
        Err(fault) => Check::bad("Argo Workflows", &explained("use Argo Workflows of", &fault)),
    });
    told(rights(&cluster).unwrap_or_else(|fault| Check::bad("rights", &explained("ask for my rights in", &fault))));
    if let Some(account) = &context.merged.service_account {
        told(service_account(&cluster, account));
    }
    for name in context.merged.store.iter().filter_map(|store| store.secret.as_ref()) {
        told(secret(&cluster, name));
    }
}

fn kubernetes(cluster: &Cluster, version: &str) -> Check {
    const NAME: &str = "cluster";
    let found = format!("{}, Kubernetes {version}, namespace {}", cluster.name(), cluster.namespace());
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| part.trim_end_matches('+').parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST_KUBERNETES => {
            let (major, minor) = OLDEST_KUBERNETES;
            let error = CommandError::missing(format!("{found} is too old"))
                .cause("pods have no side-cars there that start before the step")
                .hint(format!("Kubernetes {major}.{minor} or newer has them"));
            Check::bad(NAME, &error)
        }
        _ => Check::good(NAME, found),
    }
}

/// Which Argo it is: its controller's image tells, for whoever may look.
fn argo(cluster: &Cluster) -> Check {
    const NAME: &str = "Argo Workflows";
    match cluster.argo_version() {
        Ok(Some(version)) if version.trim_start_matches('v').starts_with(ARGO) => Check::good(NAME, version),
        Ok(Some(version)) => Check::poor(
            NAME,
            format!("{version}; mlctl is made for, and tried with, 4.0"),
            "if a workflow is refused, Argo Workflows 4.0 or newer helps",
        ),
        // Its definitions are there: more cannot be seen by everybody.
        Ok(None) | Err(Fault { kind: FaultKind::Forbidden, .. }) => {
            Check::good(NAME, "installed; which version it is cannot be seen")
        }
        Err(fault) => Check::unknown(NAME, fault.why),
    }
}

fn rights(cluster: &Cluster) -> Result<Check, Fault> {
    const NAME: &str = "rights";
    let mut lacking = Vec::new();
    for (group, resource, verbs) in RIGHTS {
        for verb in verbs {
            if !cluster.may(verb, group, resource)? {
                lacking.push(format!("{verb} {resource}"));
            }
        }
    }
    if lacking.is_empty() {
        return Ok(Check::good(NAME, "all that it takes to run, follow and cancel"));
    }
    let error =
        CommandError::missing(format!("in the namespace `{}` you may not {}", cluster.namespace(), lacking.join(", ")))
            .hint(format!("whoever runs the cluster can give you the role `mlctl` of these:\n{}", ROLES.trim_end()));
    Ok(Check::bad(NAME, &error))
}

fn service_account(cluster: &Cluster, name: &str) -> Check {
    named(cluster, "service account", ("serviceaccounts", name), || {
        CommandError::missing(format!("there is no service account `{name}`"))
            .cause("`service-account` of the context names it")
            .hint("docs/argo-roles.yaml makes `mlctl-pods`, which may report results to Argo")
    })
}

fn secret(cluster: &Cluster, name: &str) -> Check {
    named(cluster, "the store's Secret", ("secrets", name), || {
        CommandError::missing(format!("there is no Secret `{name}`"))
            .cause("`store.secret` of the context names it: pods have the store's credentials from there")
            .hint(format!(
                "kubectl --namespace {} create secret generic {name} --from-literal=AWS_ACCESS_KEY_ID=... --from-literal=AWS_SECRET_ACCESS_KEY=...",
                cluster.namespace()
            ))
    })
}

/// Whether there is something that the context names.
fn named(
    cluster: &Cluster,
    what: &'static str,
    (kind, name): (&str, &str),
    missing: impl FnOnce() -> CommandError,
) -> Check {
    match cluster.exists(kind, name) {
        Ok(true) => Check::good(what, name),
        Ok(false) => Check::bad(what, &missing()),
        Err(fault) => Check::unknown(what, format!("`{name}` cannot be looked at: {}", fault.why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_that_are_asked_for_are_those_of_the_page() {
        for (group, resource, verbs) in RIGHTS {
            let group = if group.is_empty() { "\"\"" } else { group };
            let rule = format!("- {{ apiGroups: [{group}], resources: [{resource}], verbs: [{}] }}", verbs.join(", "));
            assert!(ROLES.lines().any(|line| line == rule), "{rule}");
        }
        let role = ROLES.split("---").next().unwrap();
        assert_eq!(role.matches("apiGroups").count(), RIGHTS.len());
    }
}
