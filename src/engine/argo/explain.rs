//! What Kubernetes and Argo say of pods, in words that say what to do.

use mlctl_core::spec::quantity::bytes;

use crate::platform::kube::{Pod, Waiting, Workflow};

/// Something that pods wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wait {
    /// The steps of the pod.
    pub(super) steps: Vec<String>,
    /// What kind of thing it is: the words for the same change.
    pub(super) kind: Kind,
    /// What it waits for.
    pub(super) what: String,
    /// What may help.
    pub(super) help: Option<&'static str>,
    /// Whether it waits in vain, unless somebody does something.
    pub(super) in_vain: bool,
}

/// What kinds of things pods wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Node,
    Quota,
    Image,
    Container,
}

/// What the pods of a workflow wait for. Of those of a fan-out that wait for the same, one speaks for all.
pub(super) fn waits(workflow: &Workflow, pods: &[Pod]) -> Vec<Wait> {
    let mut waits: Vec<Wait> = pods.iter().filter_map(of_pod).collect();
    // A pod that Kubernetes does not take is only a node of the workflow.
    let refused = workflow.status.nodes.values().filter(|node| node.kind == "Pod" && node.phase == "Pending");
    let refused = refused.filter(|node| node.message.contains("quota"));
    waits.extend(refused.map(|node| {
        let steps = vec![node.template_name.replace('-', "_")];
        let (what, help) = if is_never_enough(&node.message) {
            ("has never room for its pod", "ask for less by `resources`, or for a larger quota")
        } else {
            (
                "lets no more pods in",
                "it goes on when others have ended; a larger quota, or smaller `resources`, lets more run at once",
            )
        };
        let what = format!("the namespace's quota {what}: {}", node.message);
        Wait { steps, kind: Kind::Quota, what, help: Some(help), in_vain: is_never_enough(&node.message) }
    }));
    waits.sort_unstable();
    waits.dedup_by(|one, other| (&one.steps, one.kind) == (&other.steps, other.kind));
    waits
}

pub(super) fn of_pod(pod: &Pod) -> Option<Wait> {
    if pod.status.phase != "Pending" {
        return None;
    }
    let steps = pod.metadata.annotations.get("mlctl.dev/steps");
    let steps = steps.map(|steps| steps.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let wait = |kind, what: String, help, in_vain| Some(Wait { steps, kind, what, help, in_vain });
    let unschedulable = pod.status.conditions.iter().find(|condition| condition.reason == "Unschedulable");
    if let Some(condition) = unschedulable {
        let what = format!("no node takes its pod: {}", condition.message);
        let help = "ask for less (`resources`), or for other nodes (`node-selector`, `tolerations`); \
                    a cluster that grows on its own may need minutes";
        return wait(Kind::Node, what, Some(help), false);
    }
    let containers = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    let (container, waiting) = containers
        .filter_map(|container| Some((container, container.state.waiting.as_ref()?)))
        .find(|(_, waiting)| is_trouble(waiting))?;
    let Waiting { reason, message } = waiting;
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" => wait(
            Kind::Image,
            format!("its image `{}` cannot be pulled: {}", container.image, pulling(or(message, reason))),
            Some(
                "check the name and `registry` of the context; a registry that wants a login needs `image-pull-secrets`",
            ),
            is_final(message),
        ),
        "InvalidImageName" => wait(
            Kind::Image,
            format!("`{}` is no name of an image: {message}", container.image),
            Some("correct `image`, or `registry` of the context"),
            true,
        ),
        "ErrImageNeverPull" => wait(
            Kind::Image,
            format!("its image `{}` is not on the node, and may not be pulled", container.image),
            Some("with a context of kind, `images = \"kind\"` loads it into the nodes"),
            true,
        ),
        "CreateContainerConfigError" => wait(
            Kind::Container,
            format!("its container cannot be made: {message}"),
            Some("a Kubernetes Secret that the context names must be in its namespace"),
            true,
        ),
        _ => wait(Kind::Container, format!("its container cannot be made: {}", or(message, reason)), None, false),
    }
}

/// Whether a quota would refuse a pod also if nothing else ran: in Kubernetes' words, `requested: pods=1,requests.cpu=9,
/// used: ..., limited: pods=16,requests.cpu=8`.
fn is_never_enough(message: &str) -> bool {
    let amounts = |of: &str| {
        let list = message.split(", ").find_map(|part| part.strip_prefix(of)).unwrap_or_default();
        list.split(',')
            .filter_map(|amount| amount.split_once('='))
            .filter_map(|(what, much)| Some((what, quantity(much)?)))
    };
    amounts("requested: ")
        .any(|(what, much)| amounts("limited: ").any(|(limited, most)| limited == what && most < much))
}

/// A quantity as Kubernetes writes it.
fn quantity(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(thousandths) => Some(thousandths.parse::<f64>().ok()? / 1000.0),
        None => bytes(text).map(|whole| whole as f64),
    }
}

/// What went wrong at last, without all that it went wrong in.
fn pulling(message: &str) -> &str {
    let signs = ["ErrImagePull: ", "failed to do request: ", "failed to resolve reference "];
    signs.iter().fold(message, |text, sign| text.rsplit_once(sign).map_or(text, |(_, rest)| rest))
}

fn is_trouble(waiting: &Waiting) -> bool {
    !matches!(waiting.reason.as_str(), "" | "PodInitializing" | "ContainerCreating")
}

/// Whether a registry will say no again.
fn is_final(message: &str) -> bool {
    ["not found", "manifest unknown", "unauthorized", "denied", "no such host", "does not exist"]
        .iter()
        .any(|sign| message.contains(sign))
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// What Argo says of a pod that did not do well, in plain words.
pub(super) fn message(message: &str) -> String {
    // The first that fits says most.
    const KNOWN: [(&str, &str); 10] = [
        ("OOMKilled", "its pod ran out of memory: give it more, by `resources.memory`"),
        ("pod deleted", "its pod was deleted, or its node lost, more often than it is replaced"),
        (
            "violates PodSecurity",
            "the namespace does not take its pod: `pod-security = \"restricted\"` in the context makes pods that keep its standard",
        ),
        (
            "forbidden: exceeded quota",
            "the namespace's quota does not take its pod: ask for less by `resources`, or for a larger quota",
        ),
        ("failed quota", "the namespace's quota wants limits: give `resources` with `cpu` and `memory` in [defaults]"),
        (
            "error looking up service account",
            "the namespace has not got the service account: correct `service-account` of the context, or make it as \
             docs/argo-roles.yaml does",
        ),
        (
            "is forbidden",
            "the context's service account may not do what Argo needs: docs/argo-roles.yaml has what that is",
        ),
        ("(exit code 3)", "the store cannot be used from its pod: see the pod's log"),
        (
            "ephemeral local storage usage exceeds",
            "its pod used more disk than it may: the namespace has a limit (a LimitRange) for containers",
        ),
        ("Usage of EmptyDir volume", "its pod used more disk than it may: ask for more by `resources.disk`"),
    ];
    match KNOWN.iter().find(|(sign, _)| message.contains(*sign)) {
        Some((_, words)) => format!("{words} ({message})"),
        None => format!("its pod was lost: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        let annotations = json!({ "mlctl.dev/steps": "train,evaluate" });
        serde_json::from_value(json!({ "metadata": { "name": "p", "annotations": annotations }, "status": status }))
            .unwrap()
    }

    fn waiting(reason: &str, message: &str) -> Pod {
        let state = json!({ "waiting": { "reason": reason, "message": message } });
        let container = json!({ "name": "mlctl", "image": "r/x:1", "state": state });
        pod(json!({ "phase": "Pending", "initContainerStatuses": [container] }))
    }

    #[test]
    fn what_pods_wait_for_is_told_with_whether_it_is_in_vain() {
        let missing = "Back-off pulling image \"r/x:1\": ErrImagePull: rpc error: r/x:1: not found";
        let wait = of_pod(&waiting("ImagePullBackOff", missing)).unwrap();
        assert_eq!(wait.steps, ["train", "evaluate"]);
        assert_eq!(wait.what, "its image `r/x:1` cannot be pulled: rpc error: r/x:1: not found");
        assert!(wait.in_vain);
        let slow = of_pod(&waiting("ErrImagePull", "dial tcp: i/o timeout")).unwrap();
        assert!(slow.kind == Kind::Image && !slow.in_vain);
        let secret = of_pod(&waiting("CreateContainerConfigError", "secret \"ml\" not found")).unwrap();
        assert!(secret.in_vain && secret.what.contains("secret \"ml\" not found"));
        let condition = json!({ "type": "PodScheduled", "reason": "Unschedulable", "message": "1 Insufficient cpu" });
        let node = of_pod(&pod(json!({ "phase": "Pending", "conditions": [condition] }))).unwrap();
        assert!(node.what.ends_with("1 Insufficient cpu") && !node.in_vain);
    }

    #[test]
    fn what_only_starts_waits_for_nothing() {
        assert_eq!(of_pod(&waiting("PodInitializing", "")), None);
        assert_eq!(of_pod(&waiting("ContainerCreating", "")), None);
        assert_eq!(of_pod(&pod(json!({ "phase": "Running" }))), None);
    }

    #[test]
    fn a_quota_that_others_use_is_told_from_one_that_is_too_small() {
        let refused = |requested: &str, limited: &str| {
            format!(
                "pods \"x\" is forbidden: exceeded quota: q, requested: {requested}, used: pods=9, limited: {limited}"
            )
        };
        for (requested, limited) in [
            ("limits.memory=31296Mi,requests.memory=30784Mi", "limits.memory=24Gi,requests.memory=64Gi"),
            ("requests.cpu=1500m", "requests.cpu=1"),
            ("requests.memory=5G", "requests.memory=4Gi"),
        ] {
            assert!(is_never_enough(&refused(requested, limited)), "{requested} of {limited}");
        }
        for (requested, limited) in [("pods=1", "pods=16"), ("requests.cpu=900m", "requests.cpu=1"), ("a=x", "a=y")] {
            assert!(!is_never_enough(&refused(requested, limited)), "{requested} of {limited}");
        }
        assert!(!is_never_enough("something else"));
    }

    #[test]
    fn argos_words_become_plain_ones_and_are_kept() {
        let words = message("main: OOMKilled (exit code 137)");
        assert!(words.starts_with("its pod ran out of memory") && words.ends_with("(main: OOMKilled (exit code 137))"));
        assert!(
            message("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"").contains("pod-security")
        );
        assert!(message("pods \"x\" is forbidden: exceeded quota: q").contains("quota does not take"));
        let full = message("Pod ephemeral local storage usage exceeds the total limit of containers 600Mi.");
        assert!(full.starts_with("its pod used more disk") && full.contains("600Mi"));
        assert!(message("pods is forbidden: User").contains("service account may not"));
        let missing = "pods \"x\" is forbidden: error looking up service account ml/x: serviceaccount \"x\" not found";
        assert!(message(missing).contains("`service-account`"));
        assert_eq!(message("something new"), "its pod was lost: something new");
    }
}
