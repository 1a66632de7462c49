//! What an executor is asked to do and what it answers: the contract between the scheduler and every engine.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::spec::quantity;
use crate::template::Template;
use crate::value::{Type, Value};
use crate::workflow::Resources;

/// The version of what a step *is*: part of every key. Raised when the same action could give other bytes.
pub const CONTRACT: u32 = 1;

/// A stored file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// Of a file its content, of a directory its manifest.
    pub digest: Digest,
    /// Bytes of content, of a directory all files together.
    pub size: u64,
}

/// What an artifact is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// A regular file.
    File,
    /// A regular file with an executable bit.
    Executable,
    /// A directory.
    Directory,
}

/// One attempt of one instance, fully bound but for what only the place knows: paths, secrets, the environment's
/// programs. The executor renders the templates: every [`crate::template::Piece`] left is `Text`, `Input` or `Output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// [`CONTRACT`] of the writer.
    pub contract: u32,
    /// The run's id.
    pub run: String,
    /// The instance's id, as people see it.
    pub instance: String,
    /// Counts from 1.
    pub attempt: u32,
    /// The cache key; `None`: the result may not be reused.
    pub key: Option<Digest>,
    /// What to run: argv.
    pub command: Vec<Template>,
    /// The spec's `env`, the params and matrix variables, `MLCTL_RUN_STATUS`.
    pub env: BTreeMap<String, Template>,
    /// The params that the step receives: `MLCTL_PARAMS` is written where there are any.
    pub params: BTreeMap<String, Value>,
    /// The tree of the step's sources: digest of its manifest.
    pub sources: Digest,
    /// By name, as written.
    pub inputs: IndexMap<String, TaskInput>,
    /// By name, as written.
    pub outputs: IndexMap<String, TaskOutput>,
    /// The environment's name; `None`: the machine's own programs.
    pub environment: Option<String>,
    /// Names of secrets; their values travel apart.
    pub secrets: Vec<String>,
    /// The settings, with the context's values.
    pub settings: BTreeMap<String, String>,
    /// Names of unkeyed directories that survive runs.
    pub caches: Vec<String>,
    /// Whether there is a directory that survives attempts.
    pub checkpoint: bool,
    /// Limits.
    pub resources: Resources,
    /// Of the command alone.
    pub timeout: Option<Duration>,
}

/// An input of a [`Task`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskInput {
    /// The last part of its path inside the bundle: the producer's base name, so that extensions survive.
    pub file_name: String,
    /// Also placed here, relative to the working directory.
    pub at: Option<String>,
    /// What it is; `None`: optional, and nothing was produced (no variable is set, templates render empty).
    pub content: Option<InputContent>,
}

impl TaskInput {
    /// Whether it stands in a directory of its own in the bundle: all but values do.
    pub fn has_directory(&self) -> bool {
        !matches!(self.content, None | Some(InputContent::Value(_)))
    }
}

/// What an input holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputContent {
    /// A stored artifact, or one entry of a stored directory (`entry` is relative to it).
    Artifact {
        /// The artifact whose object holds it.
        artifact: Artifact,
        /// The entry; `None`: all of it.
        entry: Option<String>,
    },
    /// A value: rendered as text.
    Value(Value),
    /// A gather: a directory made for this attempt, with `index.json`.
    Gather(Vec<Member>),
}

/// A member of a gather, in matrix order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The producer's instance id.
    pub id: String,
    /// Its axes.
    pub matrix: BTreeMap<String, Value>,
    /// The entry's name in the directory: id plus the output's extension.
    pub file_name: String,
    /// What it holds: never a `Gather`.
    pub content: Box<InputContent>,
}

/// An output that a [`Task`] must produce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOutput {
    /// Where the program leaves it, relative to its working directory; `None`: where its variable points.
    pub at: Option<String>,
    /// For a value: its type, and where to read it in another output (name, keys).
    pub value: Option<TaskValue>,
}

/// How a value output is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskValue {
    /// Its type.
    pub ty: Type,
    /// Read from this output's JSON at these keys; `None`: from its own file.
    pub from: Option<(String, Vec<String>)>,
}

/// What a successful attempt produced. Only this is ever reused.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActionResult {
    /// Artifact outputs by name.
    pub artifacts: BTreeMap<String, Artifact>,
    /// Value outputs by name.
    pub values: BTreeMap<String, Value>,
    /// Wall time of the command, in milliseconds.
    pub millis: u64,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum StepFailure {
    /// The command ended with a status other than 0.
    Exit {
        /// The status.
        code: i32,
    },
    /// The command was ended by a signal.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// It ran longer than `timeout`.
    TimedOut {
        /// The limit in milliseconds.
        limit_millis: u64,
    },
    /// It used more memory than it may.
    OutOfMemory {
        /// The limit in bytes, if its step has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// The command could not be started.
    NotStarted {
        /// The whole chain of causes.
        reason: String,
    },
    /// It succeeded, but an output is missing or is not what it must be.
    BadOutput {
        /// The output's name.
        output: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An input could not be had.
    BadInput {
        /// The input's name.
        input: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The executor itself failed: disk full, store unreachable.
    Executor {
        /// The whole chain of causes.
        reason: String,
    },
    /// It was ended because the run was cancelled.
    Cancelled,
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { code } => write!(f, "exit status {code}"),
            Self::Signal { signal } => write!(f, "ended by signal {signal}"),
            Self::TimedOut { limit_millis } => {
                write!(f, "timed out after {:?}", Duration::from_millis(*limit_millis))
            }
            Self::OutOfMemory { limit: Some(limit) } => {
                write!(f, "out of memory: its limit is {}; `resources.memory` gives it more", quantity::written(*limit))
            }
            Self::OutOfMemory { limit: None } => f.write_str("out of memory: where it ran there was no more"),
            Self::NotStarted { reason } => write!(f, "could not be started: {reason}"),
            Self::BadOutput { output, reason } => write!(f, "output `{output}`: {reason}"),
            Self::BadInput { input, reason } => write!(f, "input `{input}`: {reason}"),
            Self::Executor { reason } => f.write_str(reason),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}
