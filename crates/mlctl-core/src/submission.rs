//! A submission: all that the pods of a run on a cluster know of it before they look into the store.
//!
//! It is an object of the store, one for a run, and pods are told its digest. From it each of them makes the plan anew
//! (a plan is a pure function) and works through its unit by the scheduler, which takes what other pods recorded instead
//! of running it. Values of secrets are not in it, nor are credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::{ActionResult, Artifact};
use crate::diag::Source;
use crate::digest::Digest;
use crate::plan::{self, Plan, Request};
use crate::scheduler::{Facts, Scheduler};
use crate::spec;
use crate::units::{Cutting, Report, Rows, Share, SharedRows, Unit};
use crate::value::Value;
use crate::workflow::{Resources, StepIx};

/// What a run on a cluster is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// [`crate::action::CONTRACT`] of the writer.
    pub contract: u32,
    /// The run's id.
    pub run: String,
    /// Where the store is.
    pub store: String,
    /// The results that were there already, by their keys: whoever asks for one of these takes it from here, so that all
    /// see the same.
    pub results: BTreeMap<Digest, Arc<ActionResult>>,
    /// After a failure nothing new starts.
    pub fail_fast: bool,
    /// The text of the spec.
    pub spec: String,
    /// All params, bound.
    pub params: BTreeMap<String, Value>,
    /// What is to be made: steps and instances; empty: the workflow's default.
    pub targets: Vec<String>,
    /// Steps and instances whose results are replaced.
    pub force: Vec<String>,
    /// What the context says of steps' resources, by name.
    pub resources: BTreeMap<String, Resources>,
    /// What was known when the run was submitted.
    pub known: Known,
    /// What pods run, by the name of the unit's first step.
    pub units: BTreeMap<String, Part>,
}

/// [`Facts`], by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The digest of the tree of sources of each step.
    pub sources: BTreeMap<String, Digest>,
    /// What steps without an environment run on.
    pub host: Option<Digest>,
    /// The realisation of each environment.
    pub environments: BTreeMap<String, Digest>,
    /// Project inputs, by path.
    pub files: BTreeMap<String, Artifact>,
    /// Downloads, by address.
    pub urls: BTreeMap<String, Artifact>,
    /// The context's settings.
    pub settings: BTreeMap<String, String>,
}

/// What the pods of one unit run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The steps, in order.
    pub steps: Vec<String>,
    /// The places of the instances among those of each step, as first and last of what follows without a gap; `None`:
    /// all, known only when the sources of the axes are done.
    pub rows: Option<Vec<(u32, u32)>>,
    /// How many pods the instances are dealt to, or at most: pod `n` takes the `n`-th and every `pods`-th from there. `None`:
    /// each has its own.
    pub pods: Option<u32>,
    /// What the pod reports, in this order.
    pub reports: Vec<Report>,
}

impl Known {
    /// Of a plan. Files that cannot be had are left out: they are asked for before anything is submitted.
    pub fn of(plan: &Plan, facts: &Facts) -> Self {
        let files = facts.files.iter().filter_map(|(path, found)| Some((path.clone(), *found.as_ref().ok()?)));
        Self {
            sources: facts.sources.iter().map(|(step, tree)| (plan.step(*step).name.clone(), *tree)).collect(),
            host: facts.host,
            environments: facts.environments.clone(),
            files: files.collect(),
            urls: facts.urls.iter().map(|(url, artifact)| (url.clone(), *artifact)).collect(),
            settings: facts.settings.clone(),
        }
    }
}

impl Part {
    /// Of a unit.
    pub fn of(plan: &Plan, unit: &Unit, cutting: &Cutting) -> Self {
        let (rows, pods) = match &unit.rows {
            Rows::Known { rows, pods } => (Some(ranges(rows)), Some(*pods)),
            // Where nobody can count them, so many pods start in any case.
            Rows::Dynamic { count } => (None, (cutting.workers || count.is_none()).then_some(cutting.pods)),
        };
        let steps = unit.steps.iter().map(|step| plan.step(*step).name.clone()).collect();
        Self { steps, rows, pods, reports: unit.reports.clone() }
    }

    /// What the pod with this number runs; `None`: the plan has no such steps.
    pub fn share(&self, plan: &Plan, worker: u32) -> Option<Share> {
        let steps = self.steps.iter().map(|name| plan.find(name)).collect::<Option<Vec<StepIx>>>()?;
        let rows = match &self.rows {
            None => SharedRows::Every { first: worker, stride: self.pods },
            Some(ranges) => {
                let all = ranges.iter().flat_map(|&(first, last)| first..=last);
                let pods = self.pods.unwrap_or(u32::MAX).max(1) as usize;
                SharedRows::Known(all.skip(worker as usize).step_by(pods).collect())
            }
        };
        Some(Share { steps, rows })
    }
}

impl Submission {
    /// What a unit reports, once it is done.
    pub fn told(&self, scheduler: &Scheduler, share: &Share, report: &Report) -> String {
        let pods = match report {
            Report::Pods { of } => self.units.get(&scheduler.plan().step(*of).name).and_then(|part| part.pods),
            Report::Made | Report::Condition { .. } => None,
        };
        report.told(scheduler, share, pods)
    }
}

/// Ascending numbers as first and last of what follows without a gap.
fn ranges(rows: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &row in rows {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == row => *last = row,
            _ => ranges.push((row, row)),
        }
    }
    ranges
}

impl Submission {
    /// The bytes that are stored: the same for the same submission, whoever writes it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The plan, and what is known for it, as whoever submitted them had them.
    pub fn plan(&self) -> Result<(Plan, Facts), String> {
        let source = Source { name: "mlctl.toml".to_owned(), text: self.spec.clone() };
        let parsed = spec::parse(&source).map_err(|diags| {
            let messages: Vec<String> = diags.into_iter().map(|diag| diag.message).collect();
            messages.join("; ")
        })?;
        let workflow = Arc::new(parsed.workflow);
        let request =
            Request { targets: self.targets.clone(), force: self.force.clone(), resources: self.resources.clone() };
        let plan = plan::plan(workflow, self.params.clone(), &request).map_err(|error| error.to_string())?;
        let step = |name: &String| plan.find(name);
        let known = &self.known;
        let facts = Facts {
            sources: known.sources.iter().filter_map(|(name, tree)| Some((step(name)?, *tree))).collect(),
            host: known.host,
            environments: known.environments.clone(),
            files: known.files.iter().map(|(path, artifact)| (path.clone(), Ok(*artifact))).collect(),
            urls: known.urls.iter().map(|(url, artifact)| (url.clone(), *artifact)).collect(),
            settings: known.settings.clone(),
        };
        Ok((plan, facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_without_a_gap_is_one_range() {
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), [(0, 2), (5, 5), (7, 8)]);
    }
}
