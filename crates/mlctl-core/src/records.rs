//! Records: what the pods of a run on a cluster and the machines that follow it tell each other, as small objects of the
//! store. They are the truth about the run; the engine's own phases never are.
//!
//! ```text
//! runs/<run>/run.json                            what was asked for, by whoever submitted it
//! runs/<run>/submission.json                     a [`crate::submission::Submission`]; pods are told its digest
//! runs/<run>/instances/<id>/<attempt>.started    [`Started`]: a command is about to start
//! runs/<run>/instances/<id>/<attempt>.failed     [`Recorded`] `instance.retrying`: the attempt failed, another follows
//! runs/<run>/instances/<id>/finished             [`Recorded`] `instance.finished`
//! runs/<run>/logs/<id>/<attempt>/<offset>        what the attempt printed, from this byte on (16 hexadecimal digits)
//! runs/<run>/failed                              with `--fail-fast`: the id of an instance that failed: nothing new starts
//! runs/<run>/cancel                              [`Cancel`]: somebody wants the run to end
//! runs/<run>/ended                               [`Recorded`] `run.finished`, by whoever saw it first
//! ```
//!
//! Each is put only if there is none; whoever comes second takes what is there. So of two pods that run the same
//! instance, which a cluster may start when it loses sight of one, only one result counts, and all see the same.
//! An attempt that was started and neither failed nor finished, and whose pod is gone, was lost: its number is used up, a
//! retry is not.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::{Reason, Recorded, Status};

/// The name of what was asked for.
pub const RUN: &str = "run.json";
/// The name of the submission.
pub const SUBMISSION: &str = "submission.json";
/// The directory of what became of instances.
pub const INSTANCES: &str = "instances";
/// The directory of what attempts printed.
pub const LOGS: &str = "logs";
/// The name of the mark that keeps new instances from starting.
pub const FAILED: &str = "failed";
/// The name of the wish that the run ends.
pub const CANCEL: &str = "cancel";
/// The name of the run's end.
pub const ENDED: &str = "ended";

/// Where the records of runs are, that have a store at `store`: beside it. A directory that is the nodes' own store has
/// a layout of its own, and holds them apart.
pub fn location(store: &str) -> String {
    if store.starts_with("file://") { format!("{}/cluster", store.trim_end_matches('/')) } else { store.to_owned() }
}

/// `<attempt>.started`: written before the command starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The UID of the pod: only this tells two pods of the same name apart.
    pub pod: String,
    /// The cache key.
    pub key: Option<Digest>,
}

/// `cancel`: why the run is to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cancel {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// [`Reason::Cancelled`], [`Reason::DeadlinePassed`] or [`Reason::Interrupted`].
    pub reason: Reason,
}

/// A record of an instance, by its name below [`INSTANCES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// An attempt was started.
    Started(u32),
    /// An attempt failed, and another follows.
    Failed(u32),
    /// The instance ended.
    Finished,
}

impl Mark {
    /// The record's name.
    pub fn name(self, instance: &str) -> String {
        match self {
            Self::Started(attempt) => format!("{INSTANCES}/{instance}/{attempt}.started"),
            Self::Failed(attempt) => format!("{INSTANCES}/{instance}/{attempt}.failed"),
            Self::Finished => format!("{INSTANCES}/{instance}/finished"),
        }
    }

    /// What a record's name says: the instance and the mark; `None`: it is something else.
    pub fn parse(name: &str) -> Option<(&str, Self)> {
        let (instance, mark) = name.strip_prefix(INSTANCES)?.strip_prefix('/')?.rsplit_once('/')?;
        let mark = match mark.split_once('.') {
            None if mark == "finished" => Self::Finished,
            Some((attempt, "started")) => Self::Started(attempt.parse().ok()?),
            Some((attempt, "failed")) => Self::Failed(attempt.parse().ok()?),
            _ => return None,
        };
        Some((instance, mark))
    }
}

/// The name of a part of an attempt's log: what was printed from byte `offset` on.
pub fn log_part(instance: &str, attempt: u32, offset: u64) -> String {
    format!("{LOGS}/{instance}/{attempt}/{offset:016x}")
}

/// The directory of an attempt's log.
pub fn log_parts(instance: &str, attempt: u32) -> String {
    format!("{LOGS}/{instance}/{attempt}")
}

/// How an instance ended, as the letter by which a pod tells the cluster's engine of it.
pub const fn letter(status: Status) -> char {
    match status {
        Status::Succeeded => 's',
        Status::Cached => 'c',
        Status::Skipped => 'k',
        Status::Failed => 'f',
        Status::Cancelled => 'x',
    }
}

/// The bytes of a record.
pub fn encode(record: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(record)
}

/// An event as a record, or what is no such event.
pub fn decode_event(bytes: &[u8]) -> Result<Recorded, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_and_what_they_are() {
        let instance = "train@depth=2,path=%2Fa%20b";
        for mark in [Mark::Started(1), Mark::Failed(12), Mark::Finished] {
            assert_eq!(Mark::parse(&mark.name(instance)), Some((instance, mark)));
        }
        for other in ["run.json", "instances/a", "instances/a/ended", "instances/a/x.failed", "logs/a/1/00"] {
            assert_eq!(Mark::parse(other), None);
        }
        assert_eq!(log_part("a", 2, 255), "logs/a/2/00000000000000ff");
    }

    #[test]
    fn records_are_beside_a_shared_store_and_inside_a_directory() {
        assert_eq!(location("s3://bucket/x"), "s3://bucket/x");
        assert_eq!(location("file:///var/store/"), "file:///var/store/cluster");
    }
}
