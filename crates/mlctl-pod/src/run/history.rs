//! What earlier pods of a unit did with an instance.

use std::collections::BTreeMap;

use mlctl_core::action::StepFailure;
use mlctl_core::event::Event;
use mlctl_core::records::{self, INSTANCES, Mark};

use super::Unit;
use crate::protocol::Trouble;

/// What became of an attempt that an earlier pod started.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Past {
    /// It failed.
    Failed(StepFailure),
    /// Its pod was lost.
    Lost,
}

/// The attempts of an instance that earlier pods started, by their numbers.
pub(super) fn of(unit: &Unit, instance: &str) -> Result<BTreeMap<u32, Past>, Trouble> {
    let mut attempts = BTreeMap::new();
    for (name, text) in unit.connection.records_below(format!("{INSTANCES}/{instance}"))? {
        match Mark::parse(&name) {
            Some((_, Mark::Started(attempt))) => drop(attempts.entry(attempt).or_insert(Past::Lost)),
            Some((_, Mark::Failed(attempt))) => {
                let failure = match records::decode_event(text.as_bytes()).map(|recorded| recorded.event) {
                    Ok(Event::InstanceRetrying { failure: Some(failure), .. }) => failure,
                    _ => StepFailure::Executor { reason: format!("the record `{name}` cannot be read") },
                };
                attempts.insert(attempt, Past::Failed(failure));
            }
            Some((_, Mark::Finished)) | None => {}
        }
    }
    Ok(attempts)
}
