//! What is large: logs and artifacts, in little memory.

use std::fs;
use std::process::Child;

use mlctl_core::records;

use super::bench::Bench;
use super::play::{Pod, until};

/// What either container may use besides its program, which is larger in tests than it is elsewhere.
const MOST: u64 = 18 << 20;

/// The bytes of the log: lines of 10 MB.
const ALL: u64 = 20 * 10_000_001;
/// No part is longer.
const PART: u64 = 1 << 20;

/// The most that a process has used, as far as the system tells.
fn used(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    field("VmHWM:") - field("RssFile:")
}

fn assert_small(pod: &Pod) {
    for (who, child) in [("runs", &pod.running), ("stores", &pod.storing)] {
        let used = used(child.as_ref().unwrap());
        assert!(used < MOST, "what {who} has used {} MiB", used >> 20);
    }
}

#[test]
fn a_long_log_is_stored_whole_in_little_memory() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = '''
        for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
          head -c 10000000 /dev/zero | tr '\0' "x"; echo
        done
        sleep 1000'''
        "#,
    );
    let pod = run.pod("a", 0, 0);
    until("the log is stored", || {
        let parts = bench.remote.records(&run.id, &records::log_parts("a", 1)).unwrap();
        parts.last().is_some_and(|last| *last > records::log_part("a", 1, ALL - PART))
    });
    assert_small(&pod);
    assert_eq!(run.log("a", 1).len() as u64, ALL);
}

#[test]
fn a_large_artifact_is_stored_and_fetched_in_little_memory() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = 'head -c 300000000 /dev/urandom > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        [steps.b]
        script = 'wc -c < "$MLCTL_INPUT_O"; sleep 1000'
        inputs.o = "a.o"
        "#,
    );
    // One pod: it stores what the second step then has, and is looked at while that runs.
    let pod = run.pod("a", 0, 0);
    until("the second step runs", || run.log("b", 1) == b"300000000\n");
    assert_small(&pod);
    drop(pod);
    let pod = run.pod("a", 0, 1);
    until("the second step runs again", || run.log("b", 2) == b"300000000\n");
    assert_small(&pod);
}
