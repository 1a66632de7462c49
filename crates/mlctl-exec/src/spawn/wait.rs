//! Waiting for a command: its end, its time limit, or a cancellation, whichever comes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};

use crate::cancel::Cancel;
use crate::family::Family;
use crate::logs::Copier;

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
    /// Between TERM and KILL, unless the cancellation is forced.
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
    pub(crate) fn wait(self, limits: &Limits, family: &Family, log: &mut Copier<'_>) -> io::Result<(Ending, bool)> {
        // What cannot be watched must not run on.
        self.end(limits, family, log).inspect_err(|_| {
            family.kill(self.pid);
            family.sweep(self.pid);
        })
    }

    fn end(&self, limits: &Limits, family: &Family, log: &mut Copier<'_>) -> io::Result<(Ending, bool)> {
        let deadline = limits.timeout.and_then(|timeout| self.since.checked_add(timeout));
        let by_us = match self.until(deadline, limits.cancel.fd(), log)? {
            Next::Ended => None,
            Next::Cancelled => Some(Ending::Cancelled),
            Next::Deadline => Some(Ending::TimedOut(limits.timeout.unwrap_or_default())),
        };
        if by_us.is_some() {
            family.terminate(self.pid);
            let deadline = Instant::now() + limits.grace;
            self.until(Some(deadline), limits.cancel.forced_fd(), log)?;
            while Instant::now() < deadline && !limits.cancel.is_forced() && family.has_orphans(self.pid) {
                log.copy();
                sleep(Duration::from_millis(10));
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
        Ok((by_us.unwrap_or(Ending::Exited(status)), left_some))
    }

    /// Copies to `log` until something else happens.
    fn until(&self, deadline: Option<Instant>, cancel: BorrowedFd<'_>, log: &mut Copier<'_>) -> io::Result<Next> {
        loop {
            let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
            // A negative descriptor would be left out; the process's own twice does no harm.
            let own = self.pidfd.as_fd();
            let watched = [own, cancel, log.fd().unwrap_or(own)];
            let mut watched = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut watched, left.as_ref()) {
                Ok(0) => return Ok(Next::Deadline),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [ended, cancelled, written] = watched.map(|fd| !fd.revents().is_empty());
            // First: the same signal may have reached the command, and have ended it.
            if cancelled {
                return Ok(Next::Cancelled);
            }
            if ended {
                return Ok(Next::Ended);
            }
            if written {
                log.copy();
            }
        }
    }
}

/// Why waiting is over.
enum Next {
    Ended,
    Cancelled,
    Deadline,
}

fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}
