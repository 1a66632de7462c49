//! Pods and containers that are killed.

use std::fs;
use std::path::{Path, PathBuf};

use mlctl_core::action::StepFailure;
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Reason, Status};
use mlctl_core::records::{self, CANCEL, Cancel, Mark};
use rustix::process::{Signal, kill_process};

use super::bench::{Bench, Run};
use super::play::{Pod, signal, until};

/// The first attempt runs until it is killed.
const ENDLESS: &str = r#"
    [steps.a]
    script = 'echo attempt $MLCTL_ATTEMPT; [ "$MLCTL_ATTEMPT" = 2 ] || sleep 1000; echo done > "$MLCTL_OUTPUT_O"'
    outputs.o = {}
    "#;

/// A pod whose first attempt at `a` runs, and has printed something.
fn begun(run: &Run<'_>) -> Pod {
    let pod = run.pod("a", 0, 0);
    until("the log is stored", || !run.log("a", 1).is_empty());
    pod
}

#[test]
fn of_a_lost_pod_the_attempt_is_used_up_and_no_retry() {
    let bench = Bench::new();
    let run = bench.submit(ENDLESS);
    let pod = begun(&run);
    // Both at once, as when a machine is lost.
    signal(pod.storing.as_ref().unwrap(), Signal::KILL);
    signal(pod.running.as_ref().unwrap(), Signal::KILL);
    drop(pod);
    assert_eq!(run.until_done("a", 0).code, 0);
    let Event::InstanceFinished { status, attempts, .. } = run.end("a") else { panic!() };
    assert_eq!((status, attempts), (Status::Succeeded, 2));
    assert!(bench.remote.record(&run.id, &Mark::Failed(1).name("a")).unwrap().is_none());
    assert_eq!(run.log("a", 2), b"attempt 2\n");
}

#[test]
fn a_container_that_is_killed_with_its_attempt_uses_up_a_retry() {
    let bench = Bench::new();
    let run = bench.submit(&format!("{ENDLESS}\nretry.limit = 1"));
    let mut pod = begun(&run);
    pod.kill();
    assert_eq!(pod.wait().code, 128 + 9);
    let failed = bench.remote.record(&run.id, &Mark::Failed(1).name("a")).unwrap().expect("the attempt failed");
    let Event::InstanceRetrying { failure, .. } = records::decode_event(&failed).unwrap().event else { panic!() };
    assert_eq!(failure, Some(StepFailure::OutOfMemory { limit: None }));
    assert_eq!(run.until_done("a", 0).code, 0);
    assert_eq!(run.attempts("a"), 2);
}

#[test]
fn a_container_that_is_killed_with_its_last_attempt_leaves_a_failure() {
    let bench = Bench::new();
    let run = bench.submit(ENDLESS);
    let mut pod = begun(&run);
    pod.kill();
    pod.wait();
    assert_eq!((run.status("a"), run.failure("a")), (Status::Failed, StepFailure::OutOfMemory { limit: None }));
    // The next one finds that, and no attempt is made.
    let ended = run.until_done("a", 0);
    assert_eq!((ended.code, ended.told("r").as_str()), (1, "f"));
    assert_eq!(run.attempts("a"), 1);
}

#[test]
fn what_stores_may_be_killed_and_is_started_again() {
    let bench = Bench::new();
    // Below /tmp a step may look, and write.
    let gate = PathBuf::from("/tmp").join(format!("mlctl-pod-{}", Digest::of(bench.url.as_bytes()).to_hex()));
    let run = bench.submit(&format!(
        r#"
        [steps.a]
        script = 'echo before; until test -e {}; do sleep 0.01; done; echo after; echo > "$MLCTL_OUTPUT_O"'
        outputs.o = {{}}
        "#,
        gate.display()
    ));
    let mut pod = begun(&run);
    let storing = pod.storing.as_mut().unwrap();
    storing.kill().unwrap();
    storing.wait().unwrap();
    fs::write(&gate, "").unwrap();
    pod.start_storing();
    assert_eq!(pod.wait().code, 0);
    fs::remove_file(gate).unwrap();
    assert_eq!(run.log("a", 1), b"before\nafter\n");
    assert_eq!((run.status("a"), run.attempts("a")), (Status::Succeeded, 1));
}

#[test]
fn a_drained_pod_is_replaced() {
    let bench = Bench::new();
    let run = bench.submit(ENDLESS);
    let pod = begun(&run);
    signal(pod.running.as_ref().unwrap(), Signal::TERM);
    assert_eq!(pod.wait().code, 143);
    assert!(bench.remote.record(&run.id, &Mark::Finished.name("a")).unwrap().is_none());
    assert_eq!(run.until_done("a", 0).code, 0);
    assert_eq!(
        (run.attempts("a"), run.log("a", 1), run.log("a", 2)),
        (2, b"attempt 1\n".to_vec(), b"attempt 2\n".to_vec())
    );
}

#[test]
fn a_program_that_a_drain_reaches_itself_has_not_failed() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = """
        trap 'exit 1' TERM
        echo attempt $MLCTL_ATTEMPT
        [ $MLCTL_ATTEMPT = 2 ] || while :; do sleep 0.01; done
        echo done > $MLCTL_OUTPUT_O
        """
        outputs.o = {}
        "#,
    );
    let pod = begun(&run);
    // As Argo's process passes it on: to everything in the container.
    let programs = pod.commands();
    signal(pod.running.as_ref().unwrap(), Signal::TERM);
    programs.into_iter().for_each(|pid| kill_process(pid, Signal::TERM).unwrap_or_default());
    assert_eq!(pod.wait().code, 143);
    assert!(bench.remote.record(&run.id, &Mark::Finished.name("a")).unwrap().is_none());
    assert_eq!(run.until_done("a", 0).code, 0);
    assert_eq!((run.status("a"), run.attempts("a")), (Status::Succeeded, 2));
}

#[test]
fn a_cancelled_run_ends_its_pods() {
    for (reason, code) in [(Reason::Cancelled, 5), (Reason::DeadlinePassed, 4)] {
        let bench = Bench::new();
        let run = bench.submit(ENDLESS);
        let pod = begun(&run);
        let cancel = records::encode(&Cancel { at: 0, reason: reason.clone() }).unwrap();
        assert!(bench.remote.create_record(&run.id, CANCEL, cancel).unwrap().is_none());
        signal(pod.running.as_ref().unwrap(), Signal::TERM);
        assert_eq!(pod.wait().code, code);
        let Event::InstanceFinished { status, reason: why, .. } = run.end("a") else { panic!() };
        assert_eq!((status, why), (Status::Cancelled, Some(reason)));
        // One that starts all the same has nothing to do.
        let late = run.pod("a", 0, 1).wait();
        assert_eq!((late.code, late.told("r").as_str()), (code, "x"));
    }
}

#[test]
fn what_stores_of_a_cancelled_run_does_not_wait_for_what_never_starts() {
    let bench = Bench::new();
    let run = bench.submit(ENDLESS);
    let cancel = records::encode(&Cancel { at: 0, reason: Reason::Cancelled }).unwrap();
    bench.remote.create_record(&run.id, CANCEL, cancel).unwrap();
    assert_eq!(run.pod_in(&["false"], "a", 0, 0).store_to_its_end(), 0);
}

#[test]
fn of_two_pods_that_run_the_same_both_go_on_with_what_the_first_made() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = 'sleep 0.5; cat /proc/sys/kernel/random/uuid > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        cache = false
        [steps.b]
        script = 'cat "$MLCTL_INPUT_O" > "$MLCTL_OUTPUT_O"'
        inputs.o = "a.o"
        outputs.o = {}
        cache = false
        "#,
    );
    let (one, two) = (run.pod("a", 0, 0), run.pod("a", 0, 1));
    assert_eq!((one.wait().code, two.wait().code), (0, 0));
    assert_eq!(run.output("a", "o"), run.output("b", "o"));
}

#[test]
fn a_store_that_cannot_be_used_is_told() {
    let bench = Bench::new();
    let run = bench.submit(ENDLESS);
    bench.remote.put_record(&run.id, records::SUBMISSION, b"another".to_vec()).unwrap();
    assert_eq!(run.pod("a", 0, 0).wait().code, 3);
}

#[test]
fn want_of_memory_is_the_step_that_is_ended_and_told() {
    let group = Path::new("/sys/fs/cgroup/memory").join(format!("mlctl-test-{}", std::process::id()));
    // Where we have no rights, or another version, the test bed's cluster tells.
    if fs::create_dir(&group).is_err() || !group.join("memory.limit_in_bytes").exists() {
        return;
    }
    fs::write(group.join("memory.limit_in_bytes"), "134217728").unwrap();
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = 'echo before; head -c 500000000 /dev/zero | tail | wc -c'
        shell = "bash"
        retry.limit = 1
        "#,
    );
    let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    let ended = run.pod_in(&["sh", "-c", &enter, "sh"], "a", 0, 0).wait();
    assert_eq!((ended.code, run.failure("a")), (1, StepFailure::OutOfMemory { limit: None }));
    assert!(run.attempts("a") == 2 && run.log("a", 2).starts_with(b"before\n"));
    fs::remove_dir(group).unwrap();
}
