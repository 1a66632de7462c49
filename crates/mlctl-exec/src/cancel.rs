//! Cancelling attempts from another thread, without a thread or a wake-up of its own for each of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};

/// Cancels every attempt that holds a clone of it, now or later: their process trees get TERM, and KILL after a grace.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Levels>);

#[derive(Debug)]
struct Levels {
    asked: Latch,
    forced: Latch,
}

/// Nothing is ever written: closing the one writing end wakes every `poll` of the reading end, for good.
#[derive(Debug)]
struct Latch {
    read: OwnedFd,
    write: Mutex<Option<OwnedFd>>,
}

impl Cancel {
    /// One that has not been cancelled.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Levels { asked: Latch::new()?, forced: Latch::new()? })))
    }

    /// Cancels. Doing it again changes nothing.
    pub fn cancel(&self) {
        self.0.asked.writer().take();
    }

    /// Cancels, and ends the grace of what has been told to stop already: KILL at once.
    pub fn force(&self) {
        self.0.forced.writer().take();
        self.cancel();
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.asked.is_set()
    }

    /// Whether [`Cancel::force`] was called.
    pub fn is_forced(&self) -> bool {
        self.0.forced.is_set()
    }

    /// Becomes ready (hung up) when cancelled.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.asked.read.as_fd()
    }

    /// Becomes ready (hung up) when forced.
    pub fn forced_fd(&self) -> BorrowedFd<'_> {
        self.0.forced.read.as_fd()
    }
}

impl Latch {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { read, write: Mutex::new(Some(write)) })
    }

    fn is_set(&self) -> bool {
        self.writer().is_none()
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.write.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
