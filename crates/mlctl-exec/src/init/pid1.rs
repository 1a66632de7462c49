//! What the first process does: starts the command, passes on what is asked for, reaps, and ends with the command.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process_group, wait};
use signal_hook::consts::{SIGCHLD, SIGTERM};

use super::{How, KILL, News, Order, TERMINATE};
use crate::memory;
use crate::spawn::{Invocation, spawn_child};

/// How long killed processes get to disappear: one that cannot die must not keep the step for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the first process of a step's container does.
pub fn main() -> ExitCode {
    // It signals every process it sees: of a container that is what it is for, elsewhere it would end the machine.
    if getpid() != Pid::INIT {
        let _ = writeln!(io::stderr(), "{} is for the first process of a container", super::ARGUMENT);
        return ExitCode::FAILURE;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // An error means that nobody is there any more who could read it.
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn supervise() -> io::Result<()> {
    // Unbuffered: what follows the order is polled for.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    let order = Order::read(&mut input)?;
    let directory = order.directory();
    let argv = order.argv.into_iter().map(Into::into).collect();
    let env = order.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    // Before the command, so that its end is not missed.
    let (ends, terms) = (signals(SIGCHLD)?, signals(SIGTERM)?);
    let since = Instant::now();
    let command = match spawn_child(&Invocation { argv, env }, &directory, &output) {
        Ok(child) => Pid::from_child(&child),
        Err(reason) => return say(&News::NotStarted(reason)),
    };
    say(&News::Started)?;
    let family = Family { command, input, ends, terms };
    let (how, ended) = family.watch()?;
    let alone = family.sweep()?;
    let millis = u64::try_from(ended.duration_since(since).as_millis()).unwrap_or(u64::MAX);
    say(&News::Ended { how, millis, out_of_memory: memory::kills() > 0, alone })
}

/// A pipe into which each `signal` puts a byte.
fn signals(signal: i32) -> io::Result<OwnedFd> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&read, true)?;
    signal_hook::low_level::pipe::register(signal, write)?;
    Ok(read)
}

fn say(news: &News) -> io::Result<()> {
    let mut line = serde_json::to_vec(news)?;
    line.push(b'\n');
    io::stderr().write_all(&line)
}

/// All processes of the container: the command, what it started, and what those left behind, which becomes ours.
struct Family {
    command: Pid,
    input: File,
    ends: OwnedFd,
    terms: OwnedFd,
}

impl Family {
    /// Until the command ended. Who was told to stop gets its time: then until nothing else runs either, or all is to be
    /// killed.
    fn watch(&self) -> io::Result<(How, Instant)> {
        let (mut ended, mut stopping) = (None, false);
        loop {
            let watched = [self.input.as_fd(), self.ends.as_fd(), self.terms.as_fd()];
            let mut watched = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let [asked, some_ended, told] = watched.map(|fd| !fd.revents().is_empty());
            if some_ended {
                drain(&self.ends);
                let more = reap(|pid, status| {
                    if pid == self.command {
                        ended = Some((how(status), Instant::now()));
                    }
                })?;
                if let Some(ended) = ended.filter(|_| !(stopping && more)) {
                    return Ok(ended);
                }
            }
            if told {
                drain(&self.terms);
            }
            let asked = if asked { self.asked()? } else { None };
            if asked == Some(KILL) {
                kill_all(Signal::KILL);
                if let Some(ended) = ended {
                    return Ok(ended);
                }
            } else if told || asked == Some(TERMINATE) {
                stopping = true;
                kill_all(Signal::TERM);
                // What is stopped gets to see it.
                kill_all(Signal::CONT);
            }
        }
    }

    /// What mlctl asks for. An error when it is gone: this process then ends, and the kernel everything with it.
    fn asked(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match (&self.input).read(&mut byte)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Some(byte[0])),
        }
    }

    /// Ends all that the command left behind: whoever takes its outputs must find nobody writing there. `false`: some
    /// would not go.
    fn sweep(&self) -> io::Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            kill_all(Signal::KILL);
            drain(&self.ends);
            if !reap(|_, _| {})? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let pause = Timespec { tv_sec: 0, tv_nsec: left.min(Duration::from_millis(100)).subsec_nanos().into() };
            let _ = poll(&mut [PollFd::new(&self.ends, PollFlags::IN)], Some(&pause));
        }
    }
}

/// Reaps all that is dead. Tells whether anything lives.
fn reap(mut each: impl FnMut(Pid, WaitStatus)) -> io::Result<bool> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => each(pid, status),
            Ok(None) => return Ok(true),
            Err(Errno::CHILD) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn how(status: WaitStatus) -> How {
    match status.exit_status() {
        Some(code) => How::Exit(code),
        None => How::Signal(status.terminating_signal().unwrap_or_default()),
    }
}

/// Signals every process of the container but this one: so does `kill(-1)`, and 1 is our own number. Where there is
/// none it fails.
fn kill_all(signal: Signal) {
    let _ = kill_process_group(Pid::INIT, signal);
}

fn drain(pipe: &OwnedFd) {
    let mut bytes = [0; 64];
    while let Ok(1..) = read(pipe, &mut bytes) {}
}
