//! Signals, deadlines and cancellation: the exit codes, that everything ends, and that `finally` steps run.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::{is_root, output, processes, says, start, statuses, until, until_printed, until_quiet};
use crate::support::{Project, Running, Start, mlctl, skip};

/// `slow` has children everywhere and ends when told to; `stubborn` has to be killed.
const SPEC: &str = r#"
[project]
name = "endings"

[steps.slow]
script = '''
sleep 600 &
setsid sleep 600 &
(setsid sh -c 'sleep 600 & wait' &)
echo started
wait
'''

[steps.after]
needs = ["slow"]
command = ["true"]

[steps.last]
finally = true
env.STATUS = "{{ run.status }}"
script = 'echo "$STATUS" > "$MLCTL_OUTPUT_STATUS"'
outputs.status = {}
"#;

const STUBBORN: &str = r#"
[project]
name = "stubborn"

[steps.slow]
script = "trap '' TERM INT HUP; echo started; while true; do sleep 0.05; done"

[steps.last]
finally = true
command = ["true"]
"#;

fn started(spec: &str, arguments: &[&str]) -> (Project, Running) {
    let project = Project::new(spec);
    let run = start(&project, arguments);
    until_printed(&project, "slow", "started");
    (project, run)
}

#[test]
fn a_signal_ends_everything_and_finally_steps_run() {
    for (signal, code, word) in
        [(Signal::INT, 130, "interrupted"), (Signal::HUP, 130, "interrupted"), (Signal::TERM, 5, "cancelled")]
    {
        let project = Project::new(SPEC);
        // Whoever runs the tests may ignore a signal, and so would mlctl.
        let run = project.command("env").arg("--default-signal=HUP").arg(mlctl()).arg("run").start();
        until_printed(&project, "slow", "started");
        run.signal(signal);
        let ended = run.end();
        says(&ended, code, &[&format!("slow: cancelled: the run was {word}")]);
        assert!(ended.stdout.contains("`mlctl run` goes on"), "{}", ended.stdout);
        assert_eq!(processes(&project), [""; 0], "{signal:?}");
        let (status, instances) = statuses(&project, "@latest");
        assert_eq!(status, word);
        let expected = [("slow", "cancelled"), ("after", "cancelled"), ("last", "succeeded")];
        assert!(instances.iter().map(|(id, status)| (id.as_str(), status.as_str())).eq(expected), "{instances:?}");
        assert_eq!(output(&project, "last.status"), "cancelled\n");
    }
}

#[test]
fn under_nohup_a_hangup_ends_nothing() {
    let project = Project::new("[project]\nname = \"p\"\n[steps.slow]\nscript = \"echo started; sleep 1\"\n");
    let run = project.command("nohup").arg(mlctl()).args(["run", "-q"]).start();
    until_printed(&project, "slow", "started");
    run.signal(Signal::HUP);
    says(&run.end(), 0, &[]);
}

#[test]
fn a_cancel_from_elsewhere_is_one_request() {
    let (project, run) = started(SPEC, &["run"]);
    assert_eq!(project.run(&["cancel", "@latest"]).code, 0);
    says(&run.end(), 5, &["cancelled"]);
    assert_eq!(processes(&project), [""; 0]);
    assert_eq!(output(&project, "last.status"), "cancelled\n");
    let again = project.run(&["cancel", "@latest"]);
    says(&again, 0, &["has ended already: cancelled"]);
}

#[test]
fn what_is_stopped_is_cancelled_too() {
    let (project, run) = started(SPEC, &["run"]);
    run.signal(Signal::STOP);
    says(&project.run(&["cancel", "@latest"]), 0, &[]);
    says(&run.end(), 5, &["cancelled"]);
}

#[test]
fn the_cancel_of_a_run_that_is_killed_meanwhile_ends_too() {
    let (project, run) = started(SPEC, &["run"]);
    run.signal(Signal::STOP);
    let id = project.ok(&["runs", "-o", "name"]);
    let dir = project.root().join(".mlctl/runs").join(id.trim());
    // Whose it is nobody knows: it is not woken.
    fs::write(dir.join("lease"), "").unwrap();
    let cancel = start(&project, &["cancel", "@latest"]);
    until("the request", || dir.join("cancel").exists());
    run.signal(Signal::KILL);
    run.end();
    says(&cancel.end(), 0, &[]);
    assert_eq!(statuses(&project, "@latest").0, "interrupted");
}

#[test]
fn a_deadline_ends_a_run() {
    let project = Project::new(SPEC);
    says(&project.run(&["run", "--deadline", "300ms"]), 4, &["deadline"]);
    assert_eq!(processes(&project), [""; 0]);
    assert_eq!(statuses(&project, "@latest").0, "timed-out");
}

#[test]
fn who_asks_twice_is_not_made_to_wait() {
    let (project, mut run) = started(STUBBORN, &["run"]);
    run.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(800));
    assert!(!run.is_over(), "it has ten seconds");
    run.signal(Signal::INT);
    let began = std::time::Instant::now();
    says(&run.end(), 130, &["again kills it at once", "interrupted"]);
    assert!(began.elapsed() < Duration::from_secs(8), "without the grace: {:?}", began.elapsed());
    assert_eq!(processes(&project), [""; 0]);
    let (_, instances) = statuses(&project, "@latest");
    assert!(instances.iter().all(|(_, status)| status == "cancelled"), "{instances:?}");
}

#[test]
fn what_ignores_term_is_killed_after_the_grace() {
    let (project, run) = started(STUBBORN, &["run"]);
    let began = std::time::Instant::now();
    run.signal(Signal::TERM);
    says(&run.end(), 5, &["cancelled"]);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(processes(&project), [""; 0]);
}

#[test]
fn killed_outright_mlctl_leaves_nothing_running() {
    for spec in [SPEC, STUBBORN] {
        let (project, run) = started(spec, &["run"]);
        run.signal(Signal::KILL);
        run.end();
        until_quiet(&project);
        assert_eq!(statuses(&project, "@latest").0, "interrupted");
    }
}

#[test]
fn stopped_and_continued_a_run_goes_on() {
    let spec = SPEC.replace("\nwait\n'''", "\nsleep 0.5\n'''");
    let (project, run) = started(&spec, &["run"]);
    run.signal(Signal::STOP);
    assert_eq!(statuses(&project, "@latest").0, "running");
    run.signal(Signal::CONT);
    says(&run.end(), 0, &[]);
}

/// As a container's `exec` starts things, and the first process of some machines.
#[test]
fn in_a_session_that_cannot_be_named_everything_ends_too() {
    if !is_root() {
        return skip("root, for a pid namespace");
    }
    let project = Project::new(SPEC);
    let apart = |arguments: &[&str]| {
        let unshare = ["--pid", "--fork", "--mount-proc", "sh", "-c", r#""$@"; exit "$?""#, "sh"];
        project.command("unshare").args(unshare).arg(mlctl()).args(arguments).ended()
    };
    says(&apart(&["run", "--deadline", "1s"]), 4, &["slow: cancelled", "deadline"]);
    fs::write(project.root().join("mlctl.toml"), SPEC.replace("\nwait\n'''", "\n'''")).unwrap();
    says(&apart(&["run"]), 0, &["slow: succeeded"]);
}
