//! Who starts a slot's commands: the caller itself, or a confined thread that lives as long as the slot needs no other
//! confinement. A command costs two wake-ups more then; to confine a new thread for each would cost ten times that.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::{Invocation, Running, spawn};
use crate::sandbox::Writable;

/// Starts commands.
#[derive(Debug, Default)]
pub(crate) struct Starter {
    confined: Option<Confined>,
}

/// A confined thread. It ends when this is dropped.
#[derive(Debug)]
struct Confined {
    to: Writable,
    requests: Sender<Request>,
    replies: Receiver<Result<Running, String>>,
}

struct Request {
    invocation: Invocation,
    directory: PathBuf,
    output: OwnedFd,
}

impl Starter {
    /// Starts `invocation` in `directory`, confined `to`. The error is the reason, for people.
    pub(crate) fn start(
        &mut self,
        invocation: Invocation,
        directory: PathBuf,
        output: OwnedFd,
        to: Option<Writable>,
    ) -> Result<Running, String> {
        let Some(to) = to else { return spawn(&invocation, &directory, &output) };
        let confined = match self.confined.take() {
            Some(confined) if confined.to == to => confined,
            _ => Confined::new(to)?,
        };
        let confined = self.confined.insert(confined);
        let gone = || "the thread that starts commands is gone".to_owned();
        confined.requests.send(Request { invocation, directory, output }).map_err(|_| gone())?;
        confined.replies.recv().map_err(|_| gone())?
    }
}

impl Confined {
    fn new(to: Writable) -> Result<Self, String> {
        let (requests, inbox) = channel::<Request>();
        let (outbox, replies) = channel();
        let (ready, confined) = channel();
        let rules = to.clone();
        let work = move || {
            let result = rules.confine_this_thread().map_err(|error| format!("cannot confine the step: {error}"));
            let failed = result.is_err();
            if ready.send(result).is_err() || failed {
                return;
            }
            for Request { invocation, directory, output } in inbox {
                if outbox.send(spawn(&invocation, &directory, &output)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("starter".to_owned()).stack_size(256 * 1024);
        thread.spawn(work).map_err(|error| format!("cannot start a thread: {error}"))?;
        confined.recv().map_err(|error| format!("cannot confine the step: {error}"))??;
        Ok(Self { to, requests, replies })
    }
}
