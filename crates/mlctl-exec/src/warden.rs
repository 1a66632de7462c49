//! No orphans, even when mlctl is killed with -9: a process of its own that outlives mlctl by a moment.
//!
//! It holds the reading end of a pipe whose writing end only mlctl has, so it sees mlctl's end however that comes. Then
//! it kills the process groups of the attempts that ran, which mlctl keeps in a file in memory (so that no step wakes
//! the warden), and every process whose environment holds the nonce of this mlctl. It is a session of its own: what
//! ends mlctl's session or group does not end it.
//!
//! **What it cannot find**: a process that left both its group and its session *and* was started with an environment
//! without the nonce; and any, where the warden itself was killed first.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group, setsid};

use crate::family::has_nonce;

/// The hidden first argument that makes a program of mlctl's a warden.
pub const ARGUMENT: &str = "__warden";

/// How often it looks for what is left, and the pause between: a process that cannot die must not keep it for ever.
const LOOKS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// Written to say that nothing is left to be done.
const FAREWELL: &[u8] = b"q";

/// Starts the warden when the first command is started, and tells it what runs.
#[derive(Debug)]
pub struct Warden {
    program: PathBuf,
    active: OnceLock<Option<Active>>,
}

#[derive(Debug)]
struct Active {
    pid: Pid,
    pipe: OwnedFd,
    /// One process group for each attempt that runs now, at the attempt's slot; 0: none.
    groups: File,
}

impl Warden {
    /// The warden is this program, run again: its `main` has to call [`main`] when its first argument is [`ARGUMENT`].
    pub fn this_program() -> Self {
        Self { program: "/proc/self/exe".into(), active: OnceLock::new() }
    }

    /// Starts it unless it runs, for the processes with `nonce`, and gives its id. Without one all goes on: it only
    /// matters when mlctl is killed.
    pub(crate) fn start(&self, nonce: &str) -> Option<Pid> {
        self.active.get_or_init(|| Active::start(&self.program, nonce).ok()).as_ref().map(|active| active.pid)
    }

    /// The attempt at `slot` is the process group `group` from now on; `None`: it is over.
    pub(crate) fn note(&self, slot: u64, group: Option<Pid>) {
        if let Some(Some(active)) = self.active.get() {
            let number = group.map_or(0, |group| group.as_raw_nonzero().get());
            let _ = active.groups.write_all_at(&number.to_ne_bytes(), slot * 4);
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        if let Some(Some(active)) = self.active.get() {
            let _ = rustix::io::write(&active.pipe, FAREWELL);
        }
    }
}

impl Active {
    fn start(program: &PathBuf, nonce: &str) -> io::Result<Self> {
        let (end, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        let groups = File::from(memfd_create("mlctl groups", MemfdFlags::CLOEXEC)?);
        let child = Command::new(program)
            .arg0("mlctl")
            .args([ARGUMENT, nonce])
            .env_clear()
            .stdin(end)
            .stdout(groups.as_fd().try_clone_to_owned()?)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { pid: Pid::from_child(&child), pipe, groups })
    }
}

/// What a warden does. `arguments` are those after [`ARGUMENT`]; the standard input is the pipe, and the standard output
/// the groups.
pub fn main<S: AsRef<OsStr>>(arguments: &[S]) -> ExitCode {
    let Some(nonce) = arguments.first().and_then(|nonce| nonce.as_ref().to_str()) else { return ExitCode::FAILURE };
    let _ = setsid();
    // It must not keep a file system busy.
    let _ = rustix::process::chdir("/");
    let mut farewell = Vec::new();
    match io::stdin().lock().read_to_end(&mut farewell) {
        Ok(0) => {}
        _ => return ExitCode::SUCCESS,
    }
    for group in groups() {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // What forked while it was looked for is found by the next look.
    let mut quiet = 0;
    for _ in 0..LOOKS {
        quiet = if kill_marked(nonce) { 0 } else { quiet + 1 };
        if quiet == 2 {
            break;
        }
        sleep(PAUSE);
    }
    ExitCode::SUCCESS
}

fn groups() -> Vec<Pid> {
    let mut bytes = Vec::new();
    let Ok(fd) = io::stdout().as_fd().try_clone_to_owned() else { return Vec::new() };
    let file = File::from(fd);
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = file.read_at(&mut part, bytes.len() as u64) {
        bytes.extend_from_slice(&part[..length]);
    }
    bytes.as_chunks().0.iter().filter_map(|number| Pid::from_raw(i32::from_ne_bytes(*number))).collect()
}

/// Whether there was any.
fn kill_marked(nonce: &str) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marked = names.filter_map(Pid::from_raw).filter(|pid| *pid != getpid() && has_nonce(*pid, nonce));
    marked.filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count() > 0
}
