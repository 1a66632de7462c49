//! Cancelling attempts from another thread, without a thread or a wake-up of its own for each of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};

/// Cancels every attempt that holds a clone of it, now or later: their process trees get TERM, and KILL after a grace.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Pipe>);

/// Nothing is ever written: closing the one writing end wakes every `poll` of the reading end, for good.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: Mutex<Option<OwnedFd>>,
}

impl Cancel {
    /// One that has not been cancelled.
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Pipe { read, write: Mutex::new(Some(write)) })))
    }

    /// Cancels. Doing it again changes nothing.
    pub fn cancel(&self) {
        self.writer().take();
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.writer().is_none()
    }

    /// Becomes ready (hung up) when cancelled.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.read.as_fd()
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.0.write.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
