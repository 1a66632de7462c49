//! What the two containers of a pod say to each other: a [`Call`] a line in one direction, a [`Reply`] a line in the
//! other, as JSON. Calls are answered in any order.
//!
//! Every request may be made twice with the same effect: whoever lost the connection makes again what was not answered.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_core::event::Recorded;
use mlctl_exec::store::Entry;
use mlctl_remote::{ErrorKind, RemoteError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The name of the socket.
pub(crate) const SOCKET: &str = "store.sock";
/// The directory of the pod's own store.
pub(crate) const STORE: &str = "store";

/// A request with a number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) request: Request,
}

/// The answer to the call with this number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    pub(crate) answer: Result<Answer, Trouble>,
}

/// What whoever runs a unit asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The submission: [`Answer::Submission`].
    Submission,
    /// Records by their names: [`Answer::Records`].
    Records(Vec<String>),
    /// All records below these directories: [`Answer::Found`].
    RecordsBelow(Vec<String>),
    /// Write a record unless there is one: [`Answer::Records`] with what was there.
    Put { name: String, text: String },
    /// The result of a key, if everything that it names is there: [`Answer::Result`].
    LookUp(Digest),
    /// Artifacts and trees of sources into the pod's store: [`Answer::Done`].
    Fetch { artifacts: Vec<Artifact>, sources: Vec<Digest> },
    /// The names of what is directly in a stored directory: [`Answer::Names`].
    Entries(Artifact),
    /// What is at a path in a stored directory: [`Answer::Artifact`].
    Entry(Artifact, String),
    /// Store what an action made, which is in the pod's store, and record it by its key if it has one:
    /// [`Answer::Result`] with the result that counts.
    Keep { key: Option<Digest>, entry: Entry, replace: bool },
    /// What is to be recorded if this connection ends without [`Request::Goodbye`]: [`Answer::Done`].
    Will(Option<Will>),
    /// Store the rest of what an attempt printed: [`Answer::Done`].
    Flush { instance: String, attempt: u32 },
    /// All is done: [`Answer::Done`].
    Goodbye,
}

/// What is to be recorded when who runs a command is killed with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Will {
    /// The record's name.
    pub(crate) name: String,
    /// The record, but for its time.
    pub(crate) record: Recorded,
}

/// What came of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The submission, and the directory of the store where that is one of this machine's.
    Submission {
        text: String,
        directory: Option<PathBuf>,
    },
    /// Records, in the order in which they were asked for.
    Records(Vec<Option<String>>),
    /// Records with their names.
    Found(Vec<(String, String)>),
    Result(Option<Arc<ActionResult>>),
    Names(Vec<String>),
    Artifact(Artifact),
    Done,
}

/// Why something was not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// Whether nothing can be done with the store, rather than not this.
    pub(crate) lasting: bool,
    /// The whole chain of causes.
    pub(crate) reason: String,
}

impl Trouble {
    /// The store cannot be used.
    pub(crate) fn lasting(reason: impl Into<String>) -> Self {
        Self { lasting: true, reason: reason.into() }
    }

    /// The store cannot be used, for this reason with its causes.
    pub(crate) fn lasting_of(error: impl std::error::Error) -> Self {
        Self::lasting(error.to_string())
    }

    /// Only this cannot be done.
    pub(crate) fn once(reason: impl std::fmt::Display) -> Self {
        Self { lasting: false, reason: reason.to_string() }
    }
}

impl From<RemoteError> for Trouble {
    fn from(error: RemoteError) -> Self {
        let lasting = match error.kind() {
            ErrorKind::Location
            | ErrorKind::Credentials
            | ErrorKind::Denied
            | ErrorKind::NoBucket
            | ErrorKind::Unreachable
            | ErrorKind::Newer => true,
            ErrorKind::Full | ErrorKind::Damaged | ErrorKind::Missing | ErrorKind::Refused | ErrorKind::Local => false,
        };
        Self { lasting, reason: error.to_string() }
    }
}

/// Writes one line.
pub(crate) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads one line; `None`: there are no more.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    match from.read_until(b'\n', &mut line)? {
        0 => Ok(None),
        // Whoever wrote it was killed.
        _ if line.last() != Some(&b'\n') => Ok(None),
        _ => Ok(Some(serde_json::from_slice(&line)?)),
    }
}
