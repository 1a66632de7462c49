//! What is stored, wherever that is.

use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_core::forecast::Known;

use super::super::Unit;
use crate::connection::unexpected;
use crate::protocol::{Answer, Request, Trouble};

/// What is stored, for the questions of the scheduler.
pub(super) struct Stored<'a> {
    unit: &'a Unit,
    /// The store cannot be used.
    pub(super) trouble: Option<Trouble>,
}

impl<'a> Stored<'a> {
    pub(super) fn of(unit: &'a Unit) -> Self {
        Self { unit, trouble: None }
    }

    /// The result of a key.
    pub(super) fn result_of(&self, key: Digest) -> Result<Option<Arc<ActionResult>>, Trouble> {
        if self.unit.shares_store {
            return Ok(self.unit.store.lookup(&key).map(|entry| entry.result));
        }
        self.unit.connection.look_up(key)
    }

    /// Asks, and tells what cannot be had apart from a store that cannot be used.
    fn ask<T>(&mut self, request: Request, take: fn(Answer) -> Result<T, Answer>) -> Result<T, String> {
        let answer = self.unit.connection.call(request);
        answer.and_then(|answer| take(answer).map_err(|other| unexpected(&other))).map_err(|trouble| {
            let reason = trouble.reason.clone();
            self.trouble = Some(trouble).filter(|trouble| trouble.lasting);
            reason
        })
    }
}

impl Known for Stored<'_> {
    fn result(&mut self, key: &Digest) -> Option<Arc<ActionResult>> {
        self.result_of(*key).unwrap_or_else(|trouble| {
            self.trouble = Some(trouble);
            None
        })
    }

    fn entries(&mut self, directory: &Artifact) -> Result<Vec<String>, String> {
        if self.unit.shares_store {
            return self.unit.store.entries(directory).map_err(|error| error.to_string());
        }
        self.ask(Request::Entries(*directory), |answer| match answer {
            Answer::Names(names) => Ok(names),
            other => Err(other),
        })
    }

    fn entry(&mut self, directory: &Artifact, path: &str) -> Result<Artifact, String> {
        if self.unit.shares_store {
            return self.unit.store.sub(directory, path).map_err(|error| error.to_string());
        }
        self.ask(Request::Entry(*directory, path.to_owned()), |answer| match answer {
            Answer::Artifact(artifact) => Ok(artifact),
            other => Err(other),
        })
    }

    fn file(&mut self, path: &str) -> Result<Artifact, String> {
        Err(format!("`{path}` was not stored when the run was submitted"))
    }
}
