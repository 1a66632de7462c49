//! Programs that a test starts. None is waited for without a limit: one that hangs fails its test and says where.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::Ended;

/// Nothing that a test starts takes as long, unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// What is left of a program that was killed gets so long to disappear.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// A program that goes on beside the test. It is killed when the test fails before its end.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Where its streams go: files, since a pipe fills up, and may be held open by what the program leaves behind.
    streams: [File; 2],
}

/// What tests do with a command, in the place of `spawn` and `output`.
pub(crate) trait Start {
    /// Starts it beside the test.
    fn start(&mut self) -> Running;

    /// Runs it to its end.
    fn ended(&mut self) -> Ended;
}

impl Start for Command {
    fn start(&mut self) -> Running {
        let streams = [(); 2].map(|()| tempfile::tempfile().unwrap());
        let [stdout, stderr] = [0, 1].map(|index: usize| streams[index].try_clone().unwrap());
        let child = self.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        Running { child, streams }
    }

    fn ended(&mut self) -> Ended {
        self.start().end()
    }
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let status = wait(&mut self.child);
        let [stdout, stderr] = [0, 1].map(|index| self.said(index));
        Ended { code: status.code().unwrap_or(-1), stdout, stderr }
    }

    fn said(&mut self, stream: usize) -> String {
        let mut bytes = Vec::new();
        // The position is shared with the program, which is gone.
        self.streams[stream].rewind().unwrap();
        self.streams[stream].read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over() {
            let _ = self.child.kill();
            let _ = wait_at_most(&mut self.child, AFTER_KILL);
        }
    }
}

/// Waits for the end of a program. After [`LIMIT`] the test fails.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    if let Some(status) = wait_at_most(child, LIMIT) {
        return status;
    }
    let doing = doing(child.id());
    let _ = child.kill();
    let killed = wait_at_most(child, AFTER_KILL).is_some();
    panic!("still running after {LIMIT:?} (killed: {killed}):\n{doing}");
}

fn wait_at_most(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        match &pidfd {
            Some(pidfd) => drop(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&second))),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// What a process and all below it do at this moment, thread by thread, as the kernel tells it.
fn doing(process: u32) -> String {
    let mut text = String::new();
    let mut left = vec![process];
    while let Some(pid) = left.pop() {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let _ = writeln!(text, "{pid}: {}", read("cmdline").replace('\0', " "));
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads.map(|thread| thread.path()) {
            let read = |name: &str| fs::read_to_string(thread.join(name)).unwrap_or_default().trim().to_owned();
            let stat = read("stat");
            let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().get(..1)).unwrap_or("?").to_owned();
            let [name, place, call] = ["comm", "wchan", "syscall"].map(read);
            let _ = writeln!(text, "  {name}: {state} in {place}, system call {call}");
            // Only root may read it, and not on every kernel.
            for line in read("stack").lines() {
                let _ = writeln!(text, "      {line}");
            }
            left.extend(read("children").split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    text
}

#[test]
fn what_a_program_does_is_told() {
    let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
    let said = loop {
        let said = doing(child.id());
        // Not the shell that is about to become it.
        if said.contains(": sleep 60") && said.contains("  sleep: S in ") {
            break said;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(said.contains(&format!("{}: sh -c sleep 60 & wait", child.id())), "{said}");
    child.kill().unwrap();
    assert!(wait_at_most(&mut child, AFTER_KILL).is_some());
}
