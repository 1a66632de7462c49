//! Who starts a slot's commands: the caller itself, or a confined thread that lives as long as the slot needs no other
//! confinement. A command costs two wake-ups more then; to confine a new thread for each would cost ten times that.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Invocation, Running, spawn};
use crate::sandbox::Writable;

/// Starts commands.
#[derive(Default)]
pub(crate) struct Starter {
    confined: Option<Confined>,
}

/// What is to be started, where, and where its output goes.
struct Request {
    invocation: Invocation,
    directory: PathBuf,
    output: OwnedFd,
}

type Reply = Result<Running, String>;

/// A confined thread. It ends when this is dropped.
struct Confined {
    to: Writable,
    requests: Arc<Mailbox<Request>>,
    replies: Arc<Mailbox<Reply>>,
}

/// A request holds secrets: nothing of it is shown.
impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starter").finish_non_exhaustive()
    }
}

impl Starter {
    /// Starts `invocation` in `directory`, confined `to`. The error is the reason, for people.
    pub(crate) fn start(
        &mut self,
        invocation: Invocation,
        directory: PathBuf,
        output: OwnedFd,
        to: Option<Writable>,
    ) -> Reply {
        let Some(to) = to else { return spawn(&invocation, &directory, &output) };
        let confined = match self.confined.take() {
            Some(confined) if confined.to == to => confined,
            _ => Confined::new(to)?,
        };
        let confined = self.confined.insert(confined);
        confined.requests.put(Request { invocation, directory, output });
        confined.replies.take().unwrap_or_else(|| Err("the thread that starts commands is gone".to_owned()))
    }
}

impl Confined {
    fn new(to: Writable) -> Result<Self, String> {
        let (requests, replies) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
        let confined = Self { to: to.clone(), requests: Arc::clone(&requests), replies: Arc::clone(&replies) };
        let work = move || {
            let _closed = CloseOnDrop(&replies);
            let refused = to.confine_this_thread().err().map(|error| format!("cannot confine the step: {error}"));
            while let Some(Request { invocation, directory, output }) = requests.take() {
                replies.put(refused.clone().map_or_else(|| spawn(&invocation, &directory, &output), Err));
            }
        };
        let thread = thread::Builder::new().name("starter".to_owned()).stack_size(256 * 1024);
        thread.spawn(work).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(confined)
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        self.requests.close();
    }
}

/// Room for one thing that goes from one thread to another. std's channels spin before they sleep; what is waited for
/// here always takes longer than that.
struct Mailbox<T> {
    content: Mutex<Content<T>>,
    changed: Condvar,
}

enum Content<T> {
    Nothing,
    Thing(T),
    Closed,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { content: Mutex::new(Content::Nothing), changed: Condvar::new() }
    }
}

impl<T> Mailbox<T> {
    fn put(&self, thing: T) {
        self.set(Content::Thing(thing));
    }

    fn close(&self) {
        self.set(Content::Closed);
    }

    /// Waits for a thing. `None`: there will be none.
    fn take(&self) -> Option<T> {
        let mut content = self.lock();
        loop {
            match std::mem::replace(&mut *content, Content::Nothing) {
                Content::Nothing => content = self.changed.wait(content).unwrap_or_else(PoisonError::into_inner),
                Content::Thing(thing) => return Some(thing),
                Content::Closed => {
                    *content = Content::Closed;
                    return None;
                }
            }
        }
    }

    fn set(&self, new: Content<T>) {
        let mut content = self.lock();
        if !matches!(*content, Content::Closed) {
            *content = new;
        }
        drop(content);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Content<T>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits for a reply learns that there will be none, also when the thread panicked.
struct CloseOnDrop<'a, T>(&'a Mailbox<T>);

impl<T> Drop for CloseOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
