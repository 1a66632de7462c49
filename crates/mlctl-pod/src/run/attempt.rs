//! One attempt, on a thread of its own: fetch, say that it starts, run, store.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mlctl_core::action::{ActionResult, Artifact, InputContent, StepFailure, Task};
use mlctl_core::records::{self, Mark, Started};
use mlctl_exec::Place;
use mlctl_exec::store::{Entry, Provenance, remove_tree};

use super::Unit;
use crate::connection::unexpected;
use crate::protocol::{Answer, Request, Trouble, Will};

/// What is to be run.
pub(super) struct Attempt {
    pub(super) task: Task,
    pub(super) place: Place,
    /// What is recorded if it takes its container with it.
    pub(super) will: Will,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It ended.
    Ended(Result<Arc<ActionResult>, StepFailure>),
    /// Another pod has started an attempt of this number.
    Taken,
    /// Nothing can be told: the store cannot be used.
    Trouble(Trouble),
}

impl Attempt {
    /// Runs it. `started` is called once its command runs.
    pub(super) fn run(self, unit: &Unit, started: &mut dyn FnMut()) -> Outcome {
        match self.try_run(unit, started) {
            Ok(outcome) => outcome,
            Err(trouble) if trouble.lasting => Outcome::Trouble(trouble),
            Err(trouble) => Outcome::Ended(Err(StepFailure::Executor { reason: trouble.reason })),
        }
    }

    fn try_run(self, unit: &Unit, started: &mut dyn FnMut()) -> Result<Outcome, Trouble> {
        let Self { task, place, will } = self;
        if !unit.shares_store {
            let request = Request::Fetch { artifacts: artifacts(&task), sources: vec![task.sources] };
            done(unit.connection.call(request)?)?;
        }
        if !begin(unit, &task)? {
            return Ok(Outcome::Taken);
        }
        done(unit.connection.call(Request::Will(Some(will)))?)?;
        let report = unit.executor.run(&task, &place, &unit.cancel, started);
        done(unit.connection.call(Request::Will(None))?)?;
        let flush = Request::Flush { instance: task.instance.clone(), attempt: task.attempt };
        done(unit.connection.call(flush)?)?;
        let result = match report.result {
            Ok(result) if !unit.shares_store => Ok(keep(unit, &task, &place, result)?),
            other => other,
        };
        if task.checkpoint && result.is_ok() {
            // What it was for is done. What cannot be removed only costs space.
            let _ = remove_tree(&place.checkpoint);
        }
        Ok(Outcome::Ended(result))
    }
}

/// Takes the attempt's number. `false`: somebody else has it.
fn begin(unit: &Unit, task: &Task) -> Result<bool, Trouble> {
    let started = Started { at: now(), pod: unit.surroundings.pod.clone(), key: task.key };
    let text = records::encode(&started).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let there = unit.connection.put(Mark::Started(task.attempt).name(&task.instance), text.map_err(Trouble::once)?)?;
    // It may have been this call, made a second time.
    let is_own = |text: String| serde_json::from_str::<Started>(&text).is_ok_and(|there| there.pod == started.pod);
    Ok(there.is_none_or(is_own))
}

/// Stores what an attempt made; gives the result that counts.
fn keep(unit: &Unit, task: &Task, place: &Place, result: Arc<ActionResult>) -> Result<Arc<ActionResult>, Trouble> {
    let (run, instance) = (task.run.clone(), task.instance.clone());
    let provenance = Provenance { run, instance, attempt: task.attempt, finished: now() };
    let entry = Entry { result, components: place.components.clone(), provenance };
    match unit.connection.call(Request::Keep { key: task.key, entry, replace: place.replace })? {
        Answer::Result(Some(result)) => Ok(result),
        other => Err(unexpected(&other)),
    }
}

/// All artifacts that a task reads.
fn artifacts(task: &Task) -> Vec<Artifact> {
    fn add(content: &InputContent, all: &mut Vec<Artifact>) {
        match content {
            InputContent::Artifact { artifact, .. } => all.push(*artifact),
            InputContent::Value(_) => {}
            InputContent::Gather(members) => members.iter().for_each(|member| add(&member.content, all)),
        }
    }
    let mut all = Vec::new();
    task.inputs.values().filter_map(|input| input.content.as_ref()).for_each(|content| add(content, &mut all));
    all
}

fn done(answer: Answer) -> Result<(), Trouble> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
