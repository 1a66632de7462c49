//! How commands end that run something on a cluster, and runs that are finished elsewhere than they were begun.

use rustix::process::Signal;

use super::{Bed, Machine, Turn, bed, until};
use crate::faults::{says, statuses};
use crate::support::Start;

/// Two contexts in which one instance fails where `MODE` is `bad`, as if something was missing there.
fn moody(here: &str, there: &str, cluster: &str) -> String {
    format!(
        r#"
[project]
name = "moody"
[contexts.local]
settings.MODE = "{here}"
[contexts.{cluster}]
settings.MODE = "{there}"

[steps.make]
settings = ["MODE"]
script = 'echo "made where it is $MODE" > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {{}}

[steps.part]
matrix.i = [1, 2]
settings = ["MODE"]
inputs.text = "make.text"
script = '''
[ "$MLCTL_MATRIX_I" = 1 ] || [ "$MODE" = good ]
{{ cat "$MLCTL_INPUT_TEXT"; echo "$MLCTL_MATRIX_I where it is $MODE"; }} > "$MLCTL_OUTPUT_TEXT"
'''
outputs.text = {{}}

[steps.all]
inputs.parts = "part[*].text"
script = 'cat "$MLCTL_INPUT_PARTS"/part* > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {{ export = "all.txt" }}
"#
    )
}

/// Fails in the first place, and is finished in the second.
fn finished_elsewhere(bed: &Bed, first: &str, second: &str) {
    let _turn = Turn::beside_others();
    let (here, there) = if first == "local" { ("bad", "good") } else { ("good", "bad") };
    let machine = Machine::new(bed, &moody(here, there, bed.name));
    says(&machine.run(&["run", "--context", first, "--quiet"]), 1, &[]);
    let (_, failed) = statuses(&machine.project, "@latest");
    let of = |status: &str| failed.iter().filter(|(_, each)| each == status).count();
    assert_eq!((of("succeeded"), of("failed"), of("cancelled")), (2, 1, 1), "{failed:?}");
    says(&machine.run(&["run", "--context", second, "--resume", "@latest"]), 0, &[]);
    let (_, mut finished) = statuses(&machine.project, "@latest");
    finished.sort();
    let finished: Vec<(&str, &str)> = finished.iter().map(|(id, status)| (id.as_str(), status.as_str())).collect();
    let expected = [("all", "succeeded"), ("make", "cached"), ("part@i=1", "cached"), ("part@i=2", "succeeded")];
    assert_eq!(finished, expected);
    let made = std::fs::read_to_string(machine.project.root().join("all.txt")).unwrap();
    let made_bad = "made where it is bad\n";
    assert_eq!(made, format!("{made_bad}1 where it is bad\n{made_bad}2 where it is good\n"));
}

#[test]
fn what_failed_on_kind_is_finished_on_the_laptop() {
    let Some(kind) = bed("kind") else { return };
    finished_elsewhere(&kind, "kind", "local");
}

#[test]
fn what_failed_in_the_cloud_is_finished_on_the_laptop() {
    let Some(cloud) = bed("cloud") else { return };
    finished_elsewhere(&cloud, "cloud", "local");
}

#[test]
fn what_failed_on_the_laptop_is_finished_on_kind() {
    let Some(kind) = bed("kind") else { return };
    finished_elsewhere(&kind, "local", "kind");
}

#[test]
fn what_failed_on_the_laptop_is_finished_in_the_cloud() {
    let Some(cloud) = bed("cloud") else { return };
    finished_elsewhere(&cloud, "local", "cloud");
}

#[test]
fn who_only_follows_may_be_interrupted_and_sees_a_cancel_of_somebody_else() {
    let Some(kind) = bed("kind") else { return };
    let _turn = Turn::beside_others();
    let machine = Machine::new(&kind, "[project]\nname = \"stays\"\n[steps.one]\nscript = 'echo begun; sleep 1000'\n");
    let id = format!("stays-{}", super::unique().to_lowercase());
    let waits = machine.command(&["submit", "--wait", "--run-id", &id]).start();
    until("the step to start", || machine.run(&["logs", "one", "--run", &id]).stdout.contains("begun"));
    waits.signal(Signal::INT);
    says(&waits.end(), 130, &["goes on"]);
    let watches = machine.command(&["watch", &id]).start();
    says(&machine.run(&["cancel", &id]), 0, &[]);
    says(&watches.end(), 5, &[]);
}

#[test]
fn two_that_submit_one_run_id_at_once_make_one_run() {
    let Some(cloud) = bed("cloud") else { return };
    let _turn = Turn::beside_others();
    let spec = "[project]\nname = \"twins\"\n[params]\nn = 1\n[steps.once]\ncache = false\nparams = [\"n\"]\nscript = 'echo \
                attempt $MLCTL_ATTEMPT; exit 3'\n";
    let machine = Machine::new(&cloud, spec);
    let id = format!("twins-{}", super::unique().to_lowercase());
    let submit = ["submit", "--wait", "--run-id", &id];
    let twins = [(); 2].map(|()| machine.command(&submit).start());
    // Both end with what came of it, as does whoever comes late.
    twins.into_iter().for_each(|twin| says(&twin.end(), 1, &[&id]));
    let late = machine.run(&submit);
    says(&late, 1, &["was submitted already"]);
    assert!(late.stdout.contains("failed after"), "{late:?}");
    assert_eq!(machine.run(&["logs", "once", "--run", &id]).stdout, "attempt 1\n");
    let label = format!("mlctl.dev/run={id}");
    assert_eq!(cloud.kube(&["get", "workflows", "--output", "name", "--selector", &label]).lines().count(), 1);
    let another = [&submit[..], &["--param", "n=2"]].concat();
    says(&machine.run(&another), 2, &["there is another run", "params"]);
}
