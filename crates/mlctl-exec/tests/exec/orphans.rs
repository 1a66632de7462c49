//! Nothing that a step started outlives it.

use std::fs;

use crate::support::{Bench, Builder, script};

/// The ids that a step wrote, one a line.
fn pids(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// A dead child that nobody reaped is not alive.
fn is_alive(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
}

/// Starts children of all kinds, each of which prints its id.
const CHILDREN: &str = include_str!("../children.sh");

#[test]
fn what_is_left_is_killed_before_outputs_are_taken() {
    let bench = Bench::new();
    let text = format!("{CHILDREN}\n setsid sh -c 'while true; do echo x >> {}; done' &", "$MLCTL_OUTPUT_X");
    let sources = bench.sources(&[("a", "x")]);
    let text = format!("{text}\n sleep 0.05; pwd > where");
    let done = bench.run(&script(&bench, &text).sources(sources).output("x").output_at("w", "where"));
    let pids = pids(&done.log);
    assert_eq!(pids.len(), 6, "{}", done.log);
    for pid in &pids {
        assert!(!is_alive(pid), "{pid} of {pids:?}");
    }
    let next = bench.run(&script(&bench, "pwd > where").sources(sources).output_at("w", "where"));
    assert_ne!(bench.output(&done, "w"), bench.output(&next, "w"), "its directory is not used again");
}

#[test]
fn a_time_limit_reaches_other_sessions() {
    let bench = Bench::new();
    let done = bench.run(&script(&bench, &format!("{CHILDREN} sleep 60")).timeout(500));
    let pids = pids(&done.log);
    assert_eq!(pids.len(), 6, "{}", done.log);
    assert!(pids.iter().all(|pid| !is_alive(pid)), "{}", done.log);
    done.failure();
}

#[test]
fn the_dead_are_reaped() {
    let bench = Bench::new();
    bench.run(&script(&bench, "(sh -c 'setsid true &' &); (true &); sleep 0.1")).result();
    let me = std::process::id();
    let children = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap();
    let mine = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(true) Z"));
    assert_eq!(children.split_whitespace().find(mine), None);
}
