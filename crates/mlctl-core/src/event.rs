//! Events: facts in the past tense. The only thing that the UI and the record know of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::action::{ActionResult, StepFailure};
use crate::digest::Digest;

/// An event with the time at which it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum Event {
    /// The run began.
    #[serde(rename = "run.started")]
    RunStarted {
        /// Its id.
        run: String,
        /// Instances known at the start: `graph.expanded` adds to them.
        instances: u64,
    },
    /// A step with dynamic axes became instances.
    #[serde(rename = "graph.expanded")]
    GraphExpanded {
        /// The step's name.
        step: String,
        /// The new instances' ids, in matrix order.
        instances: Vec<String>,
    },
    /// A command was started.
    #[serde(rename = "instance.started")]
    InstanceStarted {
        /// The instance's id.
        instance: String,
        /// Counts from 1.
        attempt: u32,
        /// The cache key.
        key: Option<Digest>,
    },
    /// An attempt failed or was lost, and another follows.
    #[serde(rename = "instance.retrying")]
    InstanceRetrying {
        /// The instance's id.
        instance: String,
        /// The attempt that failed.
        attempt: u32,
        /// Why; `None`: the machine was lost, which uses up no attempt.
        failure: Option<StepFailure>,
        /// Milliseconds until the next.
        delay_millis: u64,
    },
    /// The instance is done: exactly one for each instance.
    #[serde(rename = "instance.finished")]
    InstanceFinished {
        /// The instance's id.
        instance: String,
        /// How it ended.
        status: Status,
        /// Why it was skipped or cancelled, or whether its failure is allowed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
        /// Attempts made: 0 unless it ran.
        attempts: u32,
        /// The cache key, where it was computed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Digest>,
        /// Digests of what went into the key, by component: what `why` compares.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        components: BTreeMap<String, Digest>,
        /// What it produced, when it succeeded or was cached.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<std::sync::Arc<ActionResult>>,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<StepFailure>,
    },
    /// The run ended.
    #[serde(rename = "run.finished")]
    RunFinished {
        /// How.
        outcome: Outcome,
    },
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its command ran and succeeded.
    Succeeded,
    /// An earlier result was reused.
    Cached,
    /// It was not needed.
    Skipped,
    /// Its last attempt failed.
    Failed,
    /// It never ran, or was ended, because of something else.
    Cancelled,
}

/// Why an instance was skipped or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "because")]
pub enum Reason {
    /// Its own `when` is false.
    When,
    /// This dependency was skipped.
    DependencySkipped {
        /// The instance (or step) that was.
        instance: String,
    },
    /// This dependency failed or was cancelled.
    DependencyFailed {
        /// The instance (or step) that did.
        instance: String,
        /// Whether that failure is allowed: then this one does not fail the run either.
        allowed: bool,
    },
    /// It failed itself, and its step says `allow-failure`.
    FailureAllowed,
    /// `--fail-fast`: another instance had failed.
    FailFast,
    /// Someone cancelled the run.
    Cancelled,
    /// The run's own deadline passed.
    DeadlinePassed,
    /// mlctl itself was killed; found out later.
    Interrupted,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing failed that may not.
    Succeeded,
    /// Something did.
    Failed,
    /// The run's deadline passed.
    TimedOut,
    /// Someone cancelled it.
    Cancelled,
    /// Ctrl-C, or mlctl was killed.
    Interrupted,
}
