//! What can happen to the way to a cluster, and to the cluster itself: a run belongs to the cluster, and goes on.

use std::time::Duration;

use super::held::Held;
use super::{Bed, Machine, Turn, bed, in_node, network::Network, node, own_cluster, unique, until};
use crate::faults::says;
use crate::support::Start;

/// What watches a run must survive so long without the cluster.
const CUT: Duration = Duration::from_secs(60);

/// Kills the API server; gives which one it was.
fn end_api_server(cluster: &str) -> String {
    let before = api_server(cluster);
    in_node(cluster, &["pkill", "-KILL", "-x", "kube-apiserver"]);
    before
}

fn until_another_api_server(cluster: &str, bed: &Bed, before: &str) {
    until("another API server", || {
        let now = api_server(cluster);
        !now.is_empty() && now != before && bed.kubectl().args(["get", "--raw", "/readyz"]).ended().code == 0
    });
}

fn api_server(cluster: &str) -> String {
    node(cluster, &["pgrep", "-x", "kube-apiserver"]).stdout
}

#[test]
fn the_api_server_may_start_again_while_a_run_is_watched_and_its_log_read() {
    let (Some(kind), Some(cluster)) = (bed("kind"), own_cluster()) else { return };
    let _turn = Turn::alone();
    let held = Held::new(&kind);
    let mut watching = held.machine.command(&["watch", &held.run]).start();
    let mut reading = held.machine.command(&["logs", "holds", "--follow", "--run", &held.run]).start();
    let before = end_api_server(&cluster);
    until_another_api_server(&cluster, &kind, &before);
    assert!(!watching.is_over(), "{:?}", watching.end());
    assert!(!reading.is_over(), "{:?}", reading.end());
    held.let_go();
    let (watched, read) = (watching.end(), reading.end());
    says(&watched, 0, &[]);
    // One of them asks for both.
    let said = format!("{}{}", watched.stderr, read.stderr);
    assert!(said.contains("it is tried again, and the run goes on meanwhile"), "{said}");
    assert_eq!((read.code, read.stdout.as_str()), (0, "attempt 1 waits\n"), "{read:?}");
    held.has_succeeded();
}

#[test]
fn the_api_server_may_start_again_while_a_run_is_submitted() {
    let (Some(kind), Some(cluster)) = (bed("kind"), own_cluster()) else { return };
    let _turn = Turn::alone();
    let machine = Machine::new(&kind, "[project]\nname = \"again\"\n[steps.one]\nscript = 'true'\n");
    let run = format!("r{}", unique().to_lowercase());
    let submit = ["submit", "--run-id", &run];
    let before = end_api_server(&cluster);
    let first = machine.run(&submit);
    // It may be back already.
    assert!(first.code == 0 || (first.code == 3 && first.stderr.contains("cluster")), "{first:?}");
    until_another_api_server(&cluster, &kind, &before);
    says(&machine.run(&submit), 0, &[]);
    says(&machine.run(&["watch", &run]), 0, &[]);
    let label = format!("mlctl.dev/run={run}");
    let workflows = kind.kube(&["get", "workflows", "--selector", &label, "--output", "name"]);
    assert_eq!(workflows.lines().count(), 1, "{workflows}");
}

#[test]
fn a_kubelet_may_stop_for_a_while() {
    let (Some(kind), Some(cluster)) = (bed("kind"), own_cluster()) else { return };
    let _turn = Turn::alone();
    let held = Held::new(&kind);
    let watching = held.machine.command(&["watch", &held.run]).start();
    held.let_go();
    in_node(&cluster, &["systemctl", "stop", "kubelet"]);
    // Records do not go by way of the kubelet.
    until("the result of the step", || {
        held.machine.run(&["status", &held.run, "-o", "json"]).stdout.contains("\"succeeded\"")
    });
    in_node(&cluster, &["systemctl", "start", "kubelet"]);
    says(&watching.end(), 0, &[]);
    held.has_succeeded();
}

#[test]
fn the_network_may_be_cut_for_a_minute() {
    let (Some(cloud), Some(_)) = (bed("cloud"), own_cluster()) else { return };
    let _turn = Turn::beside_others();
    let network = Network::new(&cloud);
    let held = Held::new(&network.bed());
    let mut watching = held.machine.command(&["watch", &held.run]).start();
    network.cut();
    std::thread::sleep(CUT);
    assert!(!watching.is_over());
    network.mend();
    held.let_go();
    says(&watching.end(), 0, &[]);
    held.has_succeeded();
}
