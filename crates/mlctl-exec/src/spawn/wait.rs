//! Waiting for a command: its end, its time limit, or a cancellation, whichever comes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};

use crate::cancel::Cancel;
use crate::family::Family;

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself, or by somebody else's signal.
    Exited(WaitIdStatus),
    /// By us: it ran longer than this.
    TimedOut(Duration),
    /// By us: its run was cancelled.
    Cancelled,
}

/// What may end a command from outside.
pub(crate) struct Limits<'a> {
    pub(crate) timeout: Option<Duration>,
    /// Between TERM and KILL.
    pub(crate) grace: Duration,
    pub(crate) cancel: &'a Cancel,
}

/// A started command.
pub(crate) struct Running {
    /// Also the id of its process group.
    pid: Pid,
    pidfd: OwnedFd,
    since: Instant,
}

impl Running {
    pub(super) fn of(child: &Child) -> io::Result<Self> {
        let since = Instant::now();
        let pid = Pid::from_child(child);
        Ok(Self { pid, pidfd: pidfd_open(pid, PidfdFlags::empty())?, since })
    }

    /// Its process id, which is that of its group too.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// When it was started.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Waits for the end, then for the end of everything it left behind. The second of the pair tells whether there
    /// was anything.
    pub(crate) fn wait(self, limits: &Limits, family: &Family) -> io::Result<(Ending, bool)> {
        let deadline = limits.timeout.and_then(|timeout| self.since.checked_add(timeout));
        let by_us = match until_ready(&[self.pidfd.as_fd(), limits.cancel.fd()], deadline)? {
            Some(0) => None,
            Some(_) => Some(Ending::Cancelled),
            None => Some(Ending::TimedOut(limits.timeout.unwrap_or_default())),
        };
        if by_us.is_some() {
            family.terminate(self.pid);
            let deadline = Instant::now() + limits.grace;
            if until_ready(&[self.pidfd.as_fd()], Some(deadline))?.is_some() {
                family.await_end(self.pid, deadline);
            }
            family.kill(self.pid);
        }
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => break status,
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let left_some = family.sweep(self.pid);
        Ok((by_us.unwrap_or(Ending::Exited(status)), left_some || status.exit_status().is_none()))
    }
}

/// Which of `fds` is ready first; `None` at the deadline.
fn until_ready(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Option<usize>> {
    let mut polled: Vec<PollFd> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(polled.iter().position(|fd| !fd.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
