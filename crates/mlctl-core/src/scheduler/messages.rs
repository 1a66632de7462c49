//! What a scheduler is told, and what it says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Capacity;
use crate::action::{ActionResult, Artifact, StepFailure};
use crate::digest::Digest;
use crate::event::{Event, Outcome, Reason};
use crate::graph::InstanceIx;
use crate::units::Share;
use crate::workflow::StepIx;

/// What is known before a run besides its plan.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The digest of the tree of sources of each step that is needed.
    pub sources: BTreeMap<StepIx, Digest>,
    /// What steps without an environment run on; `None`: their results are not reused.
    pub host: Option<Digest>,
    /// The realisation of each environment, by name; of one that is not here results are not reused.
    pub environments: BTreeMap<String, Digest>,
    /// Project inputs by path, or why they cannot be had.
    pub files: HashMap<String, Result<Artifact, String>>,
    /// Downloads by address.
    pub urls: HashMap<String, Artifact>,
    /// The context's settings.
    pub settings: BTreeMap<String, String>,
}

/// How a run is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The run's id.
    pub run: String,
    /// How many instances may run at once.
    pub jobs: usize,
    /// What they may use together.
    pub capacity: Capacity,
    /// Whether the first failure keeps everything else from starting.
    pub fail_fast: bool,
    /// What is launched here; `None`: everything. What is launched elsewhere waits for the [`Input::Replay`] of its end.
    pub share: Option<Share>,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The run begins, after the replay of an earlier part of it.
    Begin,
    /// The answer to [`Command::LookUp`].
    LookedUp {
        /// Whose key it was.
        ix: InstanceIx,
        /// A result whose objects all exist.
        result: Option<Arc<ActionResult>>,
    },
    /// The command of an attempt was started.
    Started {
        /// The instance.
        ix: InstanceIx,
        /// The attempt.
        attempt: u32,
    },
    /// An attempt ended.
    Finished {
        /// The instance.
        ix: InstanceIx,
        /// The attempt.
        attempt: u32,
        /// How.
        result: Result<Arc<ActionResult>, StepFailure>,
    },
    /// The machine under an attempt is gone.
    Lost {
        /// The instance.
        ix: InstanceIx,
        /// The attempt.
        attempt: u32,
    },
    /// A launch was not carried out: it is not counted, and made again unless something keeps it from starting.
    NotBegun {
        /// The instance.
        ix: InstanceIx,
        /// The attempt.
        attempt: u32,
    },
    /// The delay of [`Command::RetryAfter`] is over.
    RetryDue {
        /// The instance.
        ix: InstanceIx,
    },
    /// The answer to [`Command::ListEntries`].
    Entries {
        /// The directory.
        artifact: Artifact,
        /// The names of what is directly in it.
        entries: Result<Vec<String>, String>,
    },
    /// The answer to [`Command::ResolveEntry`].
    EntryResolved {
        /// The directory.
        artifact: Artifact,
        /// The path in it.
        entry: String,
        /// What is there.
        result: Result<Artifact, String>,
    },
    /// The answer to [`Command::Digest`].
    Digested {
        /// The path.
        path: String,
        /// What is there.
        result: Result<Artifact, String>,
    },
    /// The run is cancelled: by someone, by Ctrl-C ([`Reason::Interrupted`]), by its deadline.
    Cancel(Reason),
    /// With `--fail-fast`: something failed elsewhere.
    FailFast,
    /// An event that another scheduler of this run recorded: before [`Input::Begin`] what an earlier one did, after it
    /// what is done elsewhere. In any order.
    Replay(Event),
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Look for a result with this key: answer with [`Input::LookedUp`].
    LookUp {
        /// The instance.
        ix: InstanceIx,
        /// Its key.
        key: Digest,
    },
    /// List a stored directory: answer with [`Input::Entries`].
    ListEntries {
        /// The directory.
        artifact: Artifact,
    },
    /// Find an entry of a stored directory: answer with [`Input::EntryResolved`].
    ResolveEntry {
        /// The directory.
        artifact: Artifact,
        /// The path in it.
        entry: String,
    },
    /// Take an input of the project into the store: answer with [`Input::Digested`].
    Digest {
        /// Its path, relative to the project.
        path: String,
    },
    /// Run [`super::Scheduler::task`]: answer with [`Input::Started`], then [`Input::Finished`] or [`Input::Lost`].
    Launch {
        /// The instance.
        ix: InstanceIx,
        /// The attempt.
        attempt: u32,
    },
    /// Answer with [`Input::RetryDue`] when the delay is over.
    RetryAfter {
        /// The instance.
        ix: InstanceIx,
        /// How long.
        delay: Duration,
    },
    /// End what runs of this instance; its end is then told as ever.
    Kill {
        /// The instance.
        ix: InstanceIx,
    },
    /// Something happened that the record and the UI want to know.
    Record(Event),
    /// The run is over.
    Done(Outcome),
}
