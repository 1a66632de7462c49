//! Why an instance has no result: what is different from the last one that it had.

use std::collections::BTreeMap;

use mlctl_core::digest::Digest;
use mlctl_core::event::Status;
use mlctl_core::forecast::{Forecast, Outlook, Why};
use mlctl_core::scheduler::Instance;
use mlctl_exec::manifest::Manifest;
use mlctl_exec::store::Store;

use crate::cli::why::changes::{self, Side};
use crate::forecast::Looked;
use crate::record::{InstanceState, Phase, Run, RunState, Runs, UsedEnvironment};
use crate::session::{Session, open_store};

/// How many earlier runs are looked at.
const RUNS: usize = 5;
/// How many changes are named.
const CHANGES: usize = 2;

/// The latest runs, read when they are first asked for.
pub(super) struct Past<'a> {
    runs: Option<Runs>,
    read: Vec<(Run, RunState)>,
    store: Option<Store>,
    sources: BTreeMap<Digest, &'a Manifest>,
    /// What environments are now.
    environments: &'a [UsedEnvironment],
}

impl<'a> Past<'a> {
    /// What is now, is from `looked`: the store does not have those sources yet.
    pub(super) fn new(session: &Session, looked: &'a Looked) -> Self {
        let sources = looked.trees.values().map(|tree| (tree.digest, &tree.manifest)).collect();
        let (runs, store) = (session.runs().ok(), open_store().ok());
        Self { runs, read: Vec::new(), store, sources, environments: &looked.environments }
    }

    /// Why an instance will run, better than the forecast knows it: that does not know what was before.
    pub(super) fn why(&mut self, forecast: &Forecast, instance: &Instance<'_>, outlook: &Outlook) -> Option<String> {
        let (Outlook::Runs(Why::NoResult), Some(key)) = (outlook, instance.key()) else { return None };
        let id = instance.id();
        for place in 0..RUNS {
            let Some((run, before)) = self.at(place, &id) else { continue };
            let Some(before_key) = before.key else { continue };
            let has_result = matches!(before.phase, Phase::Finished(Status::Succeeded | Status::Cached));
            match (before_key == key, has_result) {
                (true, false) => return Some(format!("{} in run {}", before.phase.name(), run.id())),
                (true, true) => return Some(format!("the store no longer has what run {} made", run.id())),
                (false, true) => return self.compare(place, forecast, instance),
                (false, false) => {}
            }
        }
        None
    }

    fn compare(&self, place: usize, forecast: &Forecast, instance: &Instance<'_>) -> Option<String> {
        let (run, state) = self.read.get(place)?;
        let before = state.instances.get(&instance.id())?;
        // Components stand in the record of what ran; the store has those of what was reused.
        let was = match (&before.key, &self.store) {
            (Some(key), Some(store)) if before.components.is_empty() => store.peek(key)?.components,
            _ => before.components.clone(),
        };
        let is = forecast.components(instance.ix);
        let before = Side::of(&was, &run.meta);
        let now = Side { components: &is, params: &forecast.plan().params, environments: self.environments };
        let manifest = |digest: &Digest| match self.sources.get(digest) {
            Some(manifest) => Some((*manifest).clone()),
            None => self.store.as_ref()?.manifest(digest).ok(),
        };
        let changes = changes::between(&before, &now, &manifest);
        let told = changes.iter().take(CHANGES).map(|change| match change.component.as_str() {
            "sources" => change.what.clone(),
            component => format!("{component}: {}", change.what),
        });
        let mut told: Vec<String> = told.collect();
        let more = changes.len().saturating_sub(CHANGES);
        told.extend((more > 0).then(|| format!("and {more} more")));
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// An instance in the run at this place, the latest first.
    fn at(&mut self, place: usize, id: &str) -> Option<(&Run, &InstanceState)> {
        if self.read.len() <= place {
            let run = self.runs.as_ref()?.list().nth(place)?;
            let state = run.fold();
            self.read.push((run, state));
        }
        let (run, state) = self.read.get(place)?;
        Some((run, state.instances.get(id)?))
    }
}
