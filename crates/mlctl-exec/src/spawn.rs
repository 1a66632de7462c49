//! Starting a step's command and waiting for it.
//!
//! A command is the leader of its own process group, reads nothing, and writes both streams to one place. Everything
//! here stays on std's posix_spawn path (an absolute program, `process_group(0)`, no `pre_exec`): a fork copies the
//! parent's page tables, which makes starting a step many times dearer as mlctl grows.

mod program;
mod starter;
mod wait;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

pub(crate) use starter::Starter;
pub(crate) use wait::{Ending, Limits, Running};

/// The longest pause before a program that is being written is given up.
const BUSY_AT_MOST: Duration = Duration::from_millis(500);

/// A command, rendered.
pub(crate) struct Invocation {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Invocation {
    /// The value of a variable.
    fn variable(&self, name: &str) -> Option<&OsString> {
        self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// Starts `invocation` in `directory`, with both streams to `output`. The error is the reason, for people.
fn spawn(invocation: &Invocation, directory: &Path, output: &OwnedFd) -> Result<Running, String> {
    let mut child = spawn_child(invocation, directory, output)?;
    Running::of(&child).map_err(|error: io::Error| {
        // Nobody would ever wait for it.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
        format!("cannot watch the process: {error}")
    })
}

/// As [`spawn`], for who waits for it in another way.
pub(crate) fn spawn_child(invocation: &Invocation, directory: &Path, output: &OwnedFd) -> Result<Child, String> {
    let nothing = OsString::new();
    let first = invocation.argv.first().unwrap_or(&nothing);
    let path = invocation.variable("PATH").unwrap_or(&nothing);
    let program = program::resolve(first, path, directory)?;
    let mut command = Command::new(&program);
    command
        .args(&invocation.argv[1..])
        .arg0(first)
        .env_clear()
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        .process_group(0)
        .stdin(nothing_to_read());
    let streams = || output.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    command.stdout(streams()?).stderr(streams()?);
    start(&mut command).map_err(|error| program::explain(&error, &program, &invocation.argv))
}

/// The null device, opened once.
fn nothing_to_read() -> Stdio {
    static NULL: LazyLock<Option<File>> = LazyLock::new(|| File::open("/dev/null").ok());
    NULL.as_ref().and_then(|null| null.try_clone().ok()).map_or_else(Stdio::null, Stdio::from)
}

/// Another thread's child holds, until its own exec, what that thread was writing: a program that a slot was just given
/// may be "busy" for a moment.
fn start(command: &mut Command) -> io::Result<Child> {
    let mut pause = Duration::from_millis(1);
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && pause < BUSY_AT_MOST => {
                sleep(pause);
                pause *= 2;
            }
            started => return started,
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
mod keep_posix_spawn {
    //! std looks `posix_spawn_file_actions_addchdir_np` up as a weak symbol. In a static binary nothing else pulls it
    //! in, it is then null, and `current_dir` falls back to a fork. Naming it once links it. It is never called here.
    use std::ffi::{c_char, c_int, c_void};

    unsafe extern "C" {
        fn posix_spawn_file_actions_addchdir_np(actions: *mut c_void, path: *const c_char) -> c_int;
    }

    #[used]
    static ADDCHDIR: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int = posix_spawn_file_actions_addchdir_np;
}
