//! Submits a run: what its pods need goes into the store, then its records, then its workflow. Each is put only if it is
//! not there: what was cut off is done again, and nothing twice.

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_core::forecast::Forecast;
use mlctl_core::records;
use mlctl_core::submission::Submission;
use mlctl_core::units::{Cutting, Unit, units};
use serde_json::Value;

use super::compile::{Job, compile};
use super::images::Images;
use super::place::Place;
use super::{ends, submission};
use crate::config::Context;
use crate::error::CommandError;
use crate::prepare::Asked;
use crate::record::RunMeta;
use crate::session::Project;
use crate::ui::Ui;
use crate::ui::transfer::Transfer;

/// What is to be run, in pods.
pub(crate) struct Cut {
    pub(super) units: Vec<Unit>,
    pub(super) cutting: Cutting,
}

impl Cut {
    /// What of a plan is left to run.
    pub(crate) fn of(context: &Context, forecast: &Forecast) -> Self {
        let ends = ends(forecast);
        let cutting = Cutting::of(&context.merged);
        let units = units(forecast.plan(), &cutting, &|ix| ends.get(&ix).copied().unwrap_or_default());
        Self { units, cutting }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The units.
    pub(crate) fn units(&self) -> &[Unit] {
        &self.units
    }
}

/// What is asked for, as far as it is in a submission.
pub(crate) struct Order<'a> {
    /// Whose.
    pub(crate) project: &'a Project,
    /// Where.
    pub(crate) context: &'a Context,
    /// What.
    pub(crate) asked: &'a Asked,
    /// What of it is done.
    pub(crate) forecast: &'a Forecast,
    /// What is left.
    pub(crate) cut: &'a Cut,
    /// What the pods are made from.
    pub(crate) images: &'a Images,
    /// Whether a failure keeps everything else from starting.
    pub(crate) fail_fast: bool,
    /// Seconds that it may take.
    pub(crate) deadline: Option<u64>,
}

/// What is sent.
pub(crate) struct Compiled {
    /// The run's id.
    pub(crate) run: String,
    /// The workflow's name.
    pub(crate) name: String,
    /// What pods read.
    pub(crate) submission: Submission,
    /// The same, as it is stored.
    pub(crate) bytes: Vec<u8>,
    /// What Argo is given.
    pub(crate) workflow: Value,
}

impl Order<'_> {
    /// What is sent for the first of these run ids with which Argo would not take two nodes for one.
    pub(crate) fn compile(&self, ids: impl Iterator<Item = String>) -> Result<Option<Compiled>, CommandError> {
        let plan = self.forecast.plan();
        for run in ids {
            let mut submission = submission((self.project, self.context), self.asked, self.forecast, self.cut, &run);
            submission.fail_fast = self.fail_fast;
            let bytes = submission.to_bytes();
            let bytes = bytes.map_err(|error| CommandError::failed("cannot write the submission").because(&error))?;
            let job = Job {
                plan,
                units: &self.cut.units,
                cutting: &self.cut.cutting,
                context: &self.context.merged,
                run: &run,
                submission: Digest::of(&bytes),
                images: &self.images.steps,
                executor: &self.images.executor,
                owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
                deadline: self.deadline,
            };
            let workflow = compile(&job).map_err(|diags| CommandError::diags(self.project.source.clone(), diags))?;
            if !job.clashes() {
                let name = job.name();
                return Ok(Some(Compiled { run, name, submission, bytes, workflow }));
            }
        }
        Ok(None)
    }
}

/// Brings what pods need of this machine to the store: sources, the project's files, downloads.
pub(crate) fn push(ui: &Ui, place: &Place, forecast: &Forecast) -> Result<(), CommandError> {
    if place.shares_store() {
        return Ok(());
    }
    let facts = forecast.facts();
    let files = facts.files.values().filter_map(|found| found.as_ref().ok());
    let artifacts: Vec<Artifact> = files.chain(facts.urls.values()).copied().collect();
    let sources: Vec<Digest> = facts.sources.values().copied().collect();
    let failed = |error| place.failed("store what is needed by", &error);
    let push = place.remote.plan_objects(&place.store, &artifacts, &sources).map_err(failed)?;
    let transfer = Transfer::new(ui, "storing sources and inputs", push.amount());
    place.remote.push(push, &transfer.watch()).map(drop).map_err(failed)
}

/// Puts the records, and creates the workflow. Gives whether the run was there already, and what it was submitted with.
pub(crate) fn submit(place: &Place, compiled: &Compiled, meta: &RunMeta) -> Result<(bool, Submission), CommandError> {
    let there = place.put_bytes(records::SUBMISSION, compiled.bytes.clone())?;
    let is_same = there.as_ref().is_none_or(|there| **there == *compiled.bytes);
    let submission = match place.submission()? {
        Some(theirs) if !is_same => {
            is_alike(&compiled.submission, &theirs)?;
            theirs
        }
        _ => compiled.submission.clone(),
    };
    if there.is_some() && has_begun(place)? {
        return Ok((true, submission));
    }
    if !is_same {
        return Err(CommandError::failed(format!("run `{}` was submitted once, but never began", compiled.run))
            .cause("what was done already is different now")
            .hint("take another `--run-id`"));
    }
    place.put(records::RUN, meta)?;
    let cluster = place.cluster()?;
    let created = cluster.create_workflow(&compiled.workflow);
    let created = created.map_err(|fault| cluster.explain("submit the run to", &fault))?;
    Ok((!created, submission))
}

/// Whether a run has a workflow, or had one.
pub(crate) fn has_begun(place: &Place) -> Result<bool, CommandError> {
    if place.record(records::ENDED)?.is_some() {
        return Ok(true);
    }
    let records = place.remote.records(&place.run, records::INSTANCES);
    if !records.map_err(|error| place.failed("read the records of", &error))?.is_empty() {
        return Ok(true);
    }
    let cluster = place.cluster()?;
    let workflow = cluster.workflow(&place.workflow);
    Ok(workflow.map_err(|fault| cluster.explain("ask about the run", &fault))?.is_some())
}

/// Makes sure that a run with this id is the one that is asked for.
pub(crate) fn is_alike(ours: &Submission, theirs: &Submission) -> Result<(), CommandError> {
    let different = [
        ("the spec", ours.spec != theirs.spec),
        ("params", ours.params != theirs.params),
        ("the targets", ours.targets != theirs.targets || ours.force != theirs.force),
        ("sources", ours.known.sources != theirs.known.sources),
        ("environments", ours.known.environments != theirs.known.environments),
        ("the project's files", ours.known.files != theirs.known.files),
    ];
    match different.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((what, _)) => Err(CommandError::usage(format!("there is another run `{}`", ours.run))
            .cause(format!("{what} of that are not those of now"))
            .hint("a run id is of one run: give another, or none")),
    }
}
