//! Nothing that a step started outlives it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mlctl_core::action::Task;
use mlctl_exec::job::{Job, REPORT, TASK};

use crate::support::{Bench, Builder, WARDEN, script};

/// The ids that a step wrote, one a line.
fn pids(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// A dead child that nobody reaped is not alive.
fn is_alive(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
}

fn all_die(pids: &[String], within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while pids.iter().any(|pid| is_alive(pid)) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    true
}

/// In the group; a session of its own; forked twice; TERM ignored; stopped.
const CHILDREN: &str = r#"
    sleep 60 & echo $!
    setsid sh -c 'echo $$; exec sleep 61' &
    (setsid sh -c 'sh -c "echo \$\$; exec sleep 62" & sleep 0.05' &)
    setsid sh -c 'trap "" TERM HUP; echo $$; while true; do sleep 1; done' &
    env -i sh -c 'echo $$; exec /bin/sleep 63' &
    sh -c 'kill -STOP $$' & echo $!
    sleep 0.2
"#;

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

/// A job on disk.
struct Written {
    directory: PathBuf,
    log: PathBuf,
}

fn write_job(bench: &Bench, task: Task) -> Written {
    let directory = bench.path("bundle");
    fs::create_dir(&directory).unwrap();
    let place = bench.place();
    let log = place.log.clone();
    let job = Job { task, place, store: bench.path("store") };
    fs::write(directory.join(TASK), serde_json::to_vec(&job).unwrap()).unwrap();
    Written { directory, log }
}

/// Runs `text` by `mlctl-exec`, kills that with -9, and gives the ids that the step wrote.
fn kill_the_executor(bench: &Bench, text: &str) -> Vec<String> {
    let Written { directory, log } = write_job(bench, script(bench, text));
    let mut executor = Command::new(WARDEN).arg(&directory).stdin(Stdio::null()).process_group(0).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")) {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5));
    }
    executor.kill().unwrap();
    executor.wait().unwrap();
    assert!(!directory.join(REPORT).exists());
    pids(&fs::read_to_string(&log).unwrap().replace("ready\n", ""))
}

#[test]
fn the_warden_kills_what_a_killed_executor_leaves() {
    let bench = Bench::new();
    let pids = kill_the_executor(&bench, &format!("echo $$; {CHILDREN} echo ready; sleep 60"));
    assert_eq!(pids.len(), 7, "{pids:?}");
    assert!(all_die(&pids, Duration::from_secs(3)), "{pids:?}");
}

#[test]
fn the_wardens_limit_is_an_empty_environment_in_another_session() {
    let bench = Bench::new();
    let text = "env -i setsid sh -c 'echo $$; exec /bin/sleep 64' & sleep 0.2; echo ready; sleep 60";
    let pids = kill_the_executor(&bench, text);
    sleep(Duration::from_millis(300));
    assert!(is_alive(&pids[0]), "better than documented");
    let pid = rustix::process::Pid::from_raw(pids[0].parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A fork would copy the page tables of mlctl for every step: see `spawn`.
#[test]
fn a_static_binary_starts_commands_without_a_fork() {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return;
    }
    let bench = Bench::new();
    let Written { directory, .. } = write_job(&bench, script(&bench, "exec true"));
    let trace = bench.path("trace");
    let arguments = ["-f", "-e", "trace=clone,clone3,fork,vfork,execve", "-o"];
    let status = Command::new("strace").args(arguments).arg(&trace).arg(WARDEN).arg(&directory).status().unwrap();
    assert!(status.success());
    let trace = fs::read_to_string(trace).unwrap();
    let made = |line: &&str| line.contains("clone") && !line.contains("CLONE_THREAD") && !line.contains("resumed");
    let processes: Vec<&str> = trace.lines().filter(made).collect();
    assert_eq!(processes.len(), 2, "the warden and the command: {trace}");
    assert!(processes.iter().all(|line| line.contains("CLONE_VM|CLONE_VFORK")), "{trace}");
}

#[test]
fn a_bundle_on_disk_gives_a_report() {
    let bench = Bench::new();
    let Written { directory, .. } = write_job(&bench, script(&bench, "echo x > $MLCTL_OUTPUT_X").output("x"));
    let status = Command::new(WARDEN).arg(&directory).status().unwrap();
    assert!(status.success());
    let report: mlctl_exec::Report = serde_json::from_slice(&fs::read(directory.join(REPORT)).unwrap()).unwrap();
    let artifact = report.result.unwrap().artifacts["x"];
    assert_eq!(fs::read(bench.store.object_path(&artifact)).unwrap(), b"x\n");
    assert!(!directory.join("report.json.partial").exists());
}
