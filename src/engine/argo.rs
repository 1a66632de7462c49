//! The engine `argo`: a plan as an Argo `Workflow` on a Kubernetes cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, CONTRACT};
use mlctl_core::digest::Digest;
use mlctl_core::event::Status;
use mlctl_core::forecast::{Forecast, Outlook};
use mlctl_core::graph::InstanceIx;
use mlctl_core::plan::Plan;
use mlctl_core::submission::{Known, Part, Submission};
use serde_json::Value;

use super::Engine;
use crate::config::Context;
use crate::error::CommandError;
use crate::lock::Lock;
use crate::prepare::Asked;
use crate::session::{self, Project};

mod check;
mod compile;
mod elsewhere;
mod explain;
mod follow;
pub(crate) mod images;
mod judge;
mod logs;
mod names;
mod place;
mod pod;
mod poll;
mod submit;
mod sweep;
mod waiting;

pub(crate) use check::check;
pub(crate) use elsewhere::Elsewhere;
pub(crate) use follow::{Follow, Followed, Manner};
pub(crate) use logs::{Logs, Wanted};
pub(crate) use place::{Place, own_directory};
pub(crate) use submit::{Compiled, Cut, Order, has_begun, is_alike, push, submit};

/// The id of a run that is only shown: a run that is submitted chooses its own.
const SHOWN: &str = "dry-run";

/// Whether pods use the store of this machine: it is mounted in the nodes.
pub(crate) fn shares_store(context: &Context, store: &Path) -> bool {
    let directory = context.merged.store.as_ref().and_then(pod::directory);
    directory.is_some_and(|directory| Path::new(directory) == store)
}

/// The workflow that would be sent now, but for the run's id; `None`: there is nothing to run.
pub(crate) fn manifest(
    (project, context): (&Project, &Context),
    asked: &Asked,
    forecast: &Forecast,
) -> Result<Option<Value>, CommandError> {
    let cut = Cut::of(context, forecast);
    if cut.is_empty() {
        return Ok(None);
    }
    let (lock, target) = (Lock::read(&project.root)?, Engine::Argo(None).target(project, context));
    let store = session::store_root()?;
    let of = images::Of { project, context, lock: &lock, target: &target, store: &store };
    let images = of.known(&images::environments(forecast.plan(), cut.units()))?;
    let (cut, images) = (&cut, &images);
    let order = Order { project, context, asked, forecast, cut, images, fail_fast: false, deadline: None };
    let ids = (1_u32..).map(|n| if n == 1 { SHOWN.to_owned() } else { format!("{SHOWN}-{n}") });
    Ok(order.compile(ids)?.map(|compiled| compiled.workflow))
}

/// Which instances end without anything being run for them.
fn ends(forecast: &Forecast) -> BTreeMap<InstanceIx, bool> {
    forecast.iter().map(|(instance, outlook)| (instance.ix, matches!(outlook, Outlook::Ends(..)))).collect()
}

/// The results that nothing need be run for.
pub(crate) fn results(forecast: &Forecast) -> BTreeMap<Digest, Arc<ActionResult>> {
    let cached = forecast.iter().filter(|(_, outlook)| matches!(outlook, Outlook::Ends(Status::Cached, _)));
    cached.filter_map(|(instance, _)| Some((instance.key()?, instance.result()?.clone()))).collect()
}

/// What pods are told of a run.
pub(crate) fn submission(
    (project, context): (&Project, &Context),
    asked: &Asked,
    forecast: &Forecast,
    cut: &Cut,
    run: &str,
) -> Submission {
    let plan: &Plan = forecast.plan();
    let placed = context.merged.steps.iter();
    Submission {
        contract: CONTRACT,
        run: run.to_owned(),
        store: context.merged.store.as_ref().map(|store| store.url.clone()).unwrap_or_default(),
        results: results(forecast),
        fail_fast: false,
        spec: project.source.text.clone(),
        params: plan.params.clone(),
        targets: asked.targets.clone(),
        force: asked.force.clone(),
        resources: placed.map(|(name, placed)| (name.clone(), placed.resources)).collect(),
        known: Known::of(plan, forecast.facts()),
        units: cut
            .units
            .iter()
            .map(|unit| (plan.step(unit.first()).name.clone(), Part::of(plan, unit, &cut.cutting)))
            .collect(),
    }
}
