//! What can happen to the store and the registry of a run in the cloud.

use std::process::Command;

use super::held::Held;
use super::{Machine, Turn, bed, own_cluster};
use crate::faults::says;
use crate::support::Start;

/// `make`, and `use`, which another `n` runs again.
const MAKES: &str = r#"
[project]
name = "loses"

[params]
n = 1

[steps.make]
script = 'echo made > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}

[steps.use]
inputs.text = "make.text"
params = ["n"]
script = '{ cat "$MLCTL_INPUT_TEXT"; echo "$MLCTL_PARAM_N"; } > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}
"#;

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
fn an_object_that_the_store_loses_gives_no_wrong_result_and_is_made_again() {
    let (Some(cloud), Some(cluster)) = (bed("cloud"), own_cluster()) else { return };
    let _turn = Turn::beside_others();
    let machine = Machine::new(&cloud, MAKES);
    says(&machine.run(&["run"]), 0, &[]);
    let objects = machine.place.url().replace("s3://", "/data/") + "/objects";
    docker(&["exec", &format!("{cluster}-s3"), "rm", "-r", &objects]);
    let args = ["run", "--param", "n=2"];
    says(&machine.run(&args), 1, &["object", "is not there"]);
    says(&machine.run(&[&args[..], &["--force", "make"]].concat()), 0, &[]);
    let used = machine.run(&["artifacts", "get", "use.text", "--dest", "-"]);
    assert_eq!((used.code, used.stdout.as_str()), (0, "made\n2\n"), "{used:?}");
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
