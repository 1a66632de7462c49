//! Runs on machines whose context shares a store.

use std::fs;
use std::sync::atomic::Ordering;

use super::proxy::Proxy;
use super::{Machine, Server, files_below, spec};
use crate::support::Start;

const RUN: [&str; 3] = ["run", "--context", "cloud"];

fn statuses(machine: &Machine) -> Vec<String> {
    let run = machine.json(&RUN);
    let instances = run["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["status"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_run_uses_what_others_computed_and_sends_what_it_computes() {
    let shared = tempfile::tempdir().unwrap();
    let url = format!("file://{}", shared.path().display());
    let (one, two) = (Machine::new(&spec(&url, 20, 100), None), Machine::new(&spec(&url, 20, 100), None));
    assert_eq!(statuses(&one), ["succeeded", "succeeded"]);
    assert_eq!(one.sync(&[])["push"]["already"], 2);
    let ended = two.run(&RUN);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("fetched 2 results from file://"), "{ended:?}");
    assert_eq!(statuses(&two), ["cached", "cached"]);
    // A plan asks nobody, and another context shares nothing.
    let three = Machine::new(&spec(&url, 20, 100), None);
    assert_eq!(three.project.ok(&["plan", "--context", "cloud", "-o", "name"]), "make\nuse\n");
    assert_eq!(three.project.ok(&["run", "-q"]), "");
    assert_eq!(three.sync(&["--dry-run"])["push"]["already"], 2);
}

#[test]
fn a_step_that_another_machine_ran_is_not_run_for_the_one_after_it() {
    let shared = tempfile::tempdir().unwrap();
    let url = format!("file://{}", shared.path().display());
    let (one, two) = (Machine::new(&spec(&url, 20, 100), None), Machine::new(&spec(&url, 20, 100), None));
    assert_eq!(one.run(&[&RUN[..], &["make"]].concat()).code, 0);
    assert_eq!(statuses(&two), ["cached", "succeeded"]);
    assert_eq!(files_below(&shared.path().join("actions")).len(), 2);
}

#[test]
fn a_shared_store_that_cannot_be_used_costs_a_warning() {
    let missing = Machine::new(&spec("file:///nonexistent/mlctl", 3, 3), None);
    let ended = missing.run(&RUN);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("there is no directory /nonexistent/mlctl: the run goes on without it"), "{ended:?}");

    let unconfirmed = missing.command(&RUN).env_remove("MLCTL_TRUST_PROJECT").ended();
    assert_eq!(unconfirmed.code, 0);

    let Some(mut server) = Server::start() else { return };
    let unreachable = Machine::new(&spec(&server.bucket(), 3, 3), Some(&server));
    server.stop();
    let ended = unreachable.run(&RUN);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("Connection refused"), "{ended:?}");
}

#[test]
fn results_that_cannot_be_sent_are_kept_and_can_be_sent_later() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::before(server.port());
    let mut machine = Machine::new(&spec(&server.bucket(), 3, 3), Some(&server));
    machine.server = Some(proxy.url.clone());
    proxy.rules.read_only.store(true, Ordering::Relaxed);
    let ended = machine.run(&RUN);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("cannot send 2 results"), "{ended:?}");
    let (_, command) = ended.stderr.split_once("`mlctl sync --push ").unwrap();
    let run = command.split('`').next().unwrap();
    proxy.rules.read_only.store(false, Ordering::Relaxed);
    assert_eq!(machine.sync(&["--push", run])["push"]["results"], 2);
}

#[test]
fn a_damaged_result_is_computed_again() {
    let shared = tempfile::tempdir().unwrap();
    let url = format!("file://{}", shared.path().display());
    let (one, two) = (Machine::new(&spec(&url, 20, 100), None), Machine::new(&spec(&url, 20, 100), None));
    assert_eq!(one.run(&RUN).code, 0);
    for object in files_below(&shared.path().join("objects")) {
        fs::write(object, "y".repeat(100)).unwrap();
    }
    let ended = two.run(&RUN);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("is of no use: object"), "{ended:?}");
    let three = Machine::new(&spec(&url, 20, 100), None);
    assert_eq!(statuses(&three), ["cached", "cached"], "what was sent again is whole");
}
