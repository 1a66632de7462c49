//! What can happen to the store and the registry of a run in the cloud.

use std::process::Command;

use super::held::Held;
use super::{Machine, Turn, bed, own_cluster};
use crate::faults::{says, statuses};
use crate::support::Start;

/// Runs the Docker CLI on one of the cluster's servers.
fn docker(arguments: &[&str]) {
    let ended = Command::new("docker").args(arguments).ended();
    assert_eq!(ended.code, 0, "docker {arguments:?}: {ended:?}");
}

#[test]
fn the_store_may_be_away_while_a_step_runs() {
    let (Some(cloud), Some(cluster)) = (bed("cloud"), own_cluster()) else { return };
    let _turn = Turn::alone();
    let server = format!("{cluster}-s3");
    let held = Held::new(&cloud);
    let watching = held.machine.command(&["watch", &held.run]).start();
    // Silent for a while, as behind a network that is cut; then as one that starts again.
    docker(&["pause", &server]);
    held.let_go();
    held.until_made();
    docker(&["unpause", &server]);
    docker(&["restart", "--time", "0", &server]);
    says(&watching.end(), 0, &[]);
    held.has_succeeded();
}

#[test]
fn what_the_store_loses_gives_no_wrong_result_and_is_made_again() {
    let (Some(cloud), Some(cluster)) = (bed("cloud"), own_cluster()) else { return };
    let _turn = Turn::beside_others();
    let held = Held::new(&cloud);
    held.until_aside();
    let objects = held.machine.place.url().replace("s3://", "/data/") + "/objects";
    docker(&["exec", &format!("{cluster}-s3"), "rm", "-r", &objects]);
    held.let_go();
    says(&held.machine.run(&["watch", &held.run]), 1, &["object", "is not there"]);
    says(&held.machine.run(&["run"]), 0, &[]);
    let (_, instances) = statuses(&held.machine.project, "@latest");
    let again = ["after succeeded", "aside succeeded", "holds cached"];
    let mut instances: Vec<String> = instances.into_iter().map(|(id, status)| format!("{id} {status}")).collect();
    instances.sort();
    assert_eq!(instances, again);
    let text = held.machine.run(&["artifacts", "get", "after.text", "--dest", "-"]);
    assert_eq!((text.code, text.stdout.as_str()), (0, "made\n"), "{text:?}");
}

#[test]
fn a_registry_that_is_away_is_said_before_anything_starts_and_its_images_are_waited_for() {
    let (Some(cloud), Some(cluster)) = (bed("cloud"), own_cluster()) else { return };
    let _turn = Turn::alone();
    let server = format!("{cluster}-registry");
    let machine = Machine::new(&cloud, "[project]\nname = \"away\"\n[steps.one]\nscript = 'true'\n");
    docker(&["stop", "--time", "0", &server]);
    let ended = machine.run(&["run"]);
    docker(&["start", &server]);
    says(&ended, 3, &[cloud.key("registry")]);
    says(&machine.run(&["run"]), 0, &[]);
}
