//! Finishes a run of anywhere: what it made is brought to where the new run looks for results.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Status};
use mlctl_remote::{RemoteError, Watch};

use super::attach;
use super::ready::Making;
use crate::engine::{Engine, argo};
use crate::error::CommandError;
use crate::record::{InstanceState, Phase, Run};
use crate::remote;
use crate::ui::count;
use crate::ui::transfer::Transfer;

/// Brings what a run made here, and from here to the store of the context. Gives what has no key, as events of the new
/// run: only while the spec is the same is it known to be what that would make.
pub(super) fn bring(making: &Making<'_>, run: &Run) -> Result<Vec<Event>, CommandError> {
    let Making { session, project, store, .. } = *making;
    let state = run.fold();
    let made = |state: &InstanceState| {
        matches!(state.phase, Phase::Finished(Status::Succeeded | Status::Cached)) && state.result.is_some()
    };
    let made: Vec<(&String, &InstanceState)> = state.instances.iter().filter(|(_, state)| made(state)).collect();
    let keys: Vec<Digest> = made.iter().filter_map(|(_, state)| state.key).collect();
    let is_same = run.meta.spec == project.digest;
    if !is_same {
        session.ui.note(&format!("the spec is not that of run {} any more: what that changes runs again", run.id()));
    }
    let finally: BTreeMap<&str, bool> =
        project.workflow.steps.iter().map(|step| (step.name.as_str(), step.finally)).collect();
    let step = |id: &str| id.split_once('@').map_or(id, |(step, _)| step).to_owned();
    let unkeyed = made
        .iter()
        .filter(|(id, state)| is_same && state.key.is_none() && finally.get(step(id).as_str()) == Some(&false));
    let unkeyed: Vec<(&String, &InstanceState)> = unkeyed.copied().collect();
    let artifacts: Vec<Artifact> = unkeyed
        .iter()
        .filter_map(|(_, state)| state.result.as_ref())
        .flat_map(|result| result.artifacts.values().copied())
        .collect();
    if let Some(on) = &run.meta.cluster {
        let place = attach::place_of(session, run, &on.workflow, &run.meta.context)?;
        if !place.shares_store() {
            let failed = |error: RemoteError| place.failed("fetch the results of", &error);
            let pull = place.remote.plan_pull(store, &keys).map_err(failed)?;
            let transfer = Transfer::new(&session.ui, "fetching results", pull.amount());
            let pulled = place.remote.pull(store, pull, &transfer.watch()).map_err(failed)?;
            drop(transfer);
            place.fetch(&session.ui, &artifacts)?;
            let results = count(pulled.received.len() as u64, "result");
            session.ui.note(&format!("fetched {results} of run {}", run.id()));
        }
    }
    if matches!(making.engine, Engine::Argo(_)) {
        return push(making, &keys).map(|()| Vec::new());
    }
    Ok(unkeyed.into_iter().map(|(id, state)| replayed(id, state)).collect())
}

/// Brings results to the store in which pods look.
fn push(making: &Making<'_>, keys: &[Digest]) -> Result<(), CommandError> {
    let Making { session, context, store, .. } = *making;
    let Some(remote) = making.remote.filter(|_| !argo::shares_store(context, store.root())) else { return Ok(()) };
    let url = context.store_url();
    let failed = |error: RemoteError| remote::failure(format!("cannot send results to `{url}`"), url, &error);
    let push = remote.plan_push(store, keys).map_err(failed)?;
    let transfer = Transfer::new(&session.ui, "sending results", push.amount());
    let watch: Watch = Arc::clone(&transfer.watch());
    remote.push(push, &watch).map(drop).map_err(failed)
}

/// A result without a key, as the new run takes it over.
fn replayed(id: &str, state: &InstanceState) -> Event {
    Event::InstanceFinished {
        instance: id.to_owned(),
        status: Status::Cached,
        reason: None,
        attempts: 0,
        key: None,
        components: BTreeMap::new(),
        result: state.result.clone(),
        failure: None,
    }
}
