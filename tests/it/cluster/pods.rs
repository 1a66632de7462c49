//! What can happen to the pods of a run: each is told from the others, and the run goes on where it should.

use std::io::Write;

use super::held::Held;
use super::{Bed, Machine, Pod, Turn, bed, in_node, own_cluster, until};
use crate::faults::{says, statuses};
use crate::support::Start;

#[test]
fn a_pod_that_is_drained_or_lost_is_replaced() {
    let (Some(kind), Some(_)) = (bed("kind"), own_cluster()) else { return };
    let _turn = Turn::beside_others();
    let held = Held::new(&kind);
    let first = held.pod();
    drain(&kind, &first);
    // As when a machine is lost.
    let second = held.another_pod(&first);
    kind.kube(&["delete", "pod", &second.name, "--grace-period=0", "--force"]);
    held.another_pod(&second);
    held.let_go();
    let watched = held.machine.run(&["watch", &held.run]);
    says(&watched, 0, &[]);
    assert!(!watched.stderr.contains("cancelled"), "{watched:?}");
    held.has_succeeded();
}

/// As a drain of its node does: the program gets TERM, and nobody has cancelled the run.
fn drain(bed: &Bed, pod: &Pod) {
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod.name, "namespace": bed.key("namespace") },
    });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(eviction.to_string().as_bytes()).unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", bed.key("namespace"), pod.name);
    bed.kube(&["create", "--raw", &path, "--filename", file.path().to_str().unwrap()]);
}

#[test]
fn argos_own_container_that_is_killed_loses_no_result() {
    let (Some(kind), Some(cluster)) = (bed("kind"), own_cluster()) else { return };
    let _turn = Turn::beside_others();
    let held = Held::new(&kind);
    let (pod, mut id) = (held.pod().name, String::new());
    let path = "--output=jsonpath={.status.containerStatuses[?(@.name==\"wait\")].containerID}";
    until("the kubelet to tell of the container", || {
        id = kind.kube(&["get", "pod", &pod, path]);
        !id.is_empty()
    });
    in_node(&cluster, &["ctr", "-n", "k8s.io", "task", "kill", "-s", "KILL", id.trim_start_matches("containerd://")]);
    held.let_go();
    held.succeeds();
}

#[test]
fn when_cancel_returns_the_pod_of_a_program_that_ignores_it_is_gone() {
    let Some(kind) = bed("kind") else { return };
    let _turn = Turn::beside_others();
    let spec = "[project]\nname = \"stubborn\"\n[steps.stays]\nscript = '''\ntrap '' TERM\necho here to stay\nwhile :; do sleep 1; \
                done\n'''\n[steps.after]\nneeds = [\"stays\"]\nscript = 'true'\n";
    let machine = Machine::new(&kind, spec);
    let run = machine.submit();
    until("the step to start", || machine.run(&["logs", "stays", "--run", &run]).stdout.contains("here to stay"));
    says(&machine.run(&["cancel", &run]), 0, &[]);
    assert_eq!(machine.pods(&run), Vec::new());
    says(&machine.run(&["watch", &run]), 5, &[]);
    let (status, instances) = statuses(&machine.project, &run);
    assert_eq!(status, "cancelled");
    assert!(instances.iter().all(|(_, status)| status == "cancelled"), "{instances:?}");
}

#[test]
fn a_workflow_that_somebody_else_deletes_ends_the_run() {
    let (Some(kind), Some(_)) = (bed("kind"), own_cluster()) else { return };
    let _turn = Turn::beside_others();
    let held = Held::new(&kind);
    let watching = held.machine.command(&["watch", &held.run]).start();
    kind.kube(&["delete", "workflows", "--selector", &format!("mlctl.dev/run={}", held.run)]);
    let ended = watching.end();
    says(&ended, 1, &[]);
    assert_eq!(held.machine.pods(&held.run), Vec::new());
}
