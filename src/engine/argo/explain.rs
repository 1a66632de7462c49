//! What Kubernetes and Argo say of pods, in words that say what to do.

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
    waits.extend(refused.map(|node| Wait {
        steps: vec![node.template_name.replace('-', "_")],
        kind: Kind::Quota,
        what: format!("the namespace's quota lets no more pods in: {}", node.message),
        help: Some("it goes on when others have ended; a larger quota, or smaller `resources`, lets more run at once"),
        in_vain: false,
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
    const KNOWN: [(&str, &str); 8] = [
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
            "is forbidden",
            "the context's service account may not do what Argo needs: docs/argo-roles.yaml has what that is",
        ),
        ("(exit code 3)", "the store cannot be used from its pod: see the pod's log"),
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
    fn argos_words_become_plain_ones_and_are_kept() {
        let words = message("main: OOMKilled (exit code 137)");
        assert!(words.starts_with("its pod ran out of memory") && words.ends_with("(main: OOMKilled (exit code 137))"));
        assert!(
            message("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"").contains("pod-security")
        );
        assert!(message("pods \"x\" is forbidden: exceeded quota: q").contains("quota does not take"));
        assert!(message("pods is forbidden: User").contains("service account"));
        assert_eq!(message("something new"), "its pod was lost: something new");
    }
}
