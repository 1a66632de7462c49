//! What steps started ends, even where mlctl is killed with -9.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{start, until, until_printed};
use crate::support::{Project, Start, mlctl};

/// Starts children of all kinds, each of which prints its id.
const CHILDREN: &str = include_str!("../../../crates/mlctl-exec/tests/children.sh");

/// A dead child that nobody reaped is not alive.
fn is_alive(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
}

/// A step that prints its own id, then those that `script` does; mlctl is killed, and these are they.
fn killed(script: &str) -> Vec<String> {
    let spec = "project.name = \"p\"\n[steps.slow]\nscript = '''\necho $$\n@\necho ready\nsleep 60\n'''\n";
    let project = Project::new(&spec.replace('@', script));
    let run = start(&project, &["run"]);
    until_printed(&project, "slow", "ready");
    let printed = project.ok(&["logs", "slow"]);
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, -1);
    printed.lines().filter(|line| *line != "ready").map(str::to_owned).collect()
}

#[test]
fn the_warden_ends_what_a_killed_mlctl_leaves() {
    let pids = killed(CHILDREN);
    assert_eq!(pids.len(), 7, "{pids:?}");
    until(&format!("the end of {pids:?}"), || !pids.iter().any(|pid| is_alive(pid)));
}

#[test]
fn the_wardens_limit_is_an_empty_environment_in_another_session() {
    let pids = killed("env -i setsid sh -c 'echo $$; exec /bin/sleep 64' & sleep 0.2");
    until("the end of the step", || !is_alive(&pids[0]));
    assert!(is_alive(&pids[1]), "better than documented");
    kill_process(Pid::from_raw(pids[1].parse().unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// A fork would copy the page tables of mlctl for every step: see `spawn` of `mlctl-exec`.
#[test]
fn a_static_binary_starts_commands_without_a_fork() {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return crate::support::skip("no strace here");
    }
    let project = Project::new("project.name = \"p\"\nsteps.a.command = [\"true\"]\n");
    let trace = project.home().join("trace");
    let mut strace = project.command("strace");
    strace.args(["-f", "-e", "trace=clone,clone3,fork,vfork,execve", "-o"]).arg(&trace);
    let ended = strace.arg(mlctl()).arg("run").ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    let trace = fs::read_to_string(trace).unwrap();
    let made = |line: &&str| line.contains("clone") && !line.contains("CLONE_THREAD") && !line.contains("resumed");
    let processes: Vec<&str> = trace.lines().filter(made).collect();
    assert!(processes.len() >= 2, "the warden and the command: {trace}");
    assert!(processes.iter().all(|line| line.contains("CLONE_VM|CLONE_VFORK")), "{trace}");
}
