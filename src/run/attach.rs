//! Runs that others carry on: a cluster's runs, found again from any machine that has the project and the context. Their
//! record here is a copy, brought up to date by whoever wants to read it.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use mlctl_core::action::Artifact;
use mlctl_core::context::EngineKind;
use mlctl_core::digest::Digest;
use mlctl_core::event::Recorded;
use mlctl_core::records;
use mlctl_core::submission::Submission;
use mlctl_exec::store::Provenance;
use mlctl_remote::Remote;

use super::cluster::mirror;
use crate::config::Context;
use crate::engine::argo::{Follow, Followed, Logs, Manner, Place, Wanted};
use crate::error::{CommandError, Kind};
use crate::record::{Ended, Highlights, Phase, Run, RunMeta, RunWriter};
use crate::remote;
use crate::session::{self, Session};
use crate::ui::Ui;
use crate::ui::run_view::RunView;

/// A run that is somewhere else, and can be asked about.
pub(crate) struct Attached {
    /// Where it is.
    pub(crate) place: Place,
    submission: Submission,
    run: Run,
}

/// Finds a run in the project's record or, where a context is named, in the store of that.
pub(crate) fn find(session: &Session, name: &str) -> Result<Run, CommandError> {
    let here = session.runs()?.find(name);
    let Some(context) = session.asked_context() else { return here };
    if name != "@latest" && here.is_ok() {
        return here;
    }
    let project = session.project()?;
    let context = session.named_context(&session.contexts(&project)?, context)?;
    if context.engine() != EngineKind::Argo {
        return here;
    }
    let store = Arc::new(session::open_store()?);
    let remote = Arc::new(remote::records(&context, &store)?);
    let all = there(&context, &remote, &project.workflow.name)?;
    let mut found = all.into_iter().filter(|meta| name == "@latest" || meta.id.starts_with(name));
    let (Some(meta), another) = (found.next(), found.next()) else { return here };
    // Of a run that found everything done there is nothing in the store.
    if name == "@latest" && here.as_ref().is_ok_and(|here| here.meta.started >= meta.started) {
        return here;
    }
    if name != "@latest" && another.is_some() {
        return Err(CommandError::usage(format!("`{name}` is not one run"))
            .hint(format!("give more of its id: `mlctl runs --context {}` lists them", context.name)));
    }
    let place = Place::new(&context, &store, &remote, &meta.id, "");
    let submission = place.submission()?.ok_or_else(|| gone(&place))?;
    // By whatever name it is known here.
    mirror(&project.root, &RunMeta { context: context.name.clone(), ..meta }, &submission)
}

/// The runs of a project in the store of a context, the latest first.
pub(crate) fn there(context: &Context, remote: &Remote, project: &str) -> Result<Vec<RunMeta>, CommandError> {
    let url = context.store_url();
    let found = remote.record_of_runs(records::RUN);
    let found = found.map_err(|error| remote::failure(format!("cannot list the runs in `{url}`"), url, &error))?;
    let metas = found.iter().filter_map(|(_, bytes)| serde_json::from_slice::<RunMeta>(bytes).ok());
    let ours = |meta: &RunMeta| meta.cluster.as_ref().is_some_and(|on| on.project == project);
    let mut metas: Vec<RunMeta> = metas.filter(ours).collect();
    metas.sort_by_key(|meta| std::cmp::Reverse(meta.started));
    Ok(metas)
}

/// The runs of the project in the store of the context that was asked for, if that is a cluster's: what was asked for,
/// and how it ended, where it has.
pub(crate) fn listed(session: &Session) -> Result<Vec<(RunMeta, Option<Recorded>)>, CommandError> {
    let Some(name) = session.asked_context() else { return Ok(Vec::new()) };
    let project = session.project()?;
    let context = session.named_context(&session.contexts(&project)?, name)?;
    if context.engine() != EngineKind::Argo {
        return Ok(Vec::new());
    }
    let remote = remote::records(&context, &session::open_store()?)?;
    let metas = there(&context, &remote, &project.workflow.name)?;
    let ended = remote.record_of_runs(records::ENDED);
    let ended = ended.map_err(|error| remote::failure("cannot list runs", context.store_url(), &error))?;
    let mut ended: HashMap<String, Recorded> =
        ended.into_iter().filter_map(|(run, bytes)| Some((run, records::decode_event(&bytes).ok()?))).collect();
    Ok(metas
        .into_iter()
        .map(|meta| {
            let ended = ended.remove(&meta.id);
            (meta, ended)
        })
        .collect())
}

/// Finds a run, and brings its record up to date. Where that cannot be done it is shown as it was.
pub(crate) fn find_fresh(session: &Session, name: &str) -> Result<Run, CommandError> {
    let run = find(session, name)?;
    refresh(session, &run);
    Ok(run)
}

/// Brings the record of a run up to date, if it is a cluster's and goes on.
pub(crate) fn refresh(session: &Session, run: &Run) {
    let refresh = || -> Result<(), CommandError> {
        let Some(attached) = Attached::to(session, run)? else { return Ok(()) };
        let Some(mut follow) = attached.follow(None)? else { return Ok(()) };
        follow.refresh(true)?;
        attached.close(&session.ui, follow).map(drop)
    };
    if let Err(error) = refresh() {
        session.ui.warning(&format!("run {} is shown as it was when it was last asked about: {error}", run.id()));
    }
}

/// How often it is looked whether another process has stopped keeping the record of a run.
const TURN: Duration = Duration::from_secs(1);

/// Keeps the record of a run up to date while somebody reads it.
pub(crate) struct Upkeep {
    thread: JoinHandle<Result<(), CommandError>>,
    run: Run,
}

impl Upkeep {
    /// Of a run that goes on elsewhere; with the logs that are `wanted`. While another process keeps its record, only these
    /// are fetched.
    pub(crate) fn of(session: &Session, run: &Run, wanted: Wanted) -> Result<Option<Self>, CommandError> {
        let Some(attached) = Attached::to(session, run)? else { return Ok(None) };
        let ui = session.ui.clone();
        let keep = move || {
            let mut logs = Logs::new(&attached.place, attached.run.dir());
            let follow = attached.follow_in_turn(|| {
                attached.fetch_running(&mut logs, &wanted);
                sleep(TURN);
                Ok(())
            })?;
            let Some(mut follow) = follow else { return Ok(()) };
            (follow.logs, follow.notes) = (wanted, Some(&ui));
            follow.until_ended(Manner::Watching, None, None)?;
            attached.close(&ui, follow).map(drop)
        };
        Ok(Some(Self { thread: std::thread::spawn(keep), run: run.clone() }))
    }

    /// Whether it is kept: not if that failed, or somebody interrupted it.
    pub(crate) fn check(self) -> Result<Self, CommandError> {
        if !self.thread.is_finished() || self.run.ended().is_some() {
            return Ok(self);
        }
        match self.thread.join() {
            Ok(Err(error)) => Err(error),
            _ => Err(CommandError::new(Kind::Interrupted, format!("run `{}` goes on", self.run.id()))),
        }
    }
}

impl Attached {
    /// To a run that goes on elsewhere; `None`: it is this machine's, or it has ended.
    pub(crate) fn to(session: &Session, run: &Run) -> Result<Option<Self>, CommandError> {
        let Some(on) = run.meta.cluster.as_ref().filter(|_| run.ended().is_none()) else { return Ok(None) };
        let place = place(session, run, &on.workflow)?;
        let submission = place.submission()?.ok_or_else(|| gone(&place))?;
        Ok(Some(Self { place, submission, run: run.clone() }))
    }

    /// Whoever follows it; `None`: another process of this machine does, or did until it ended.
    pub(crate) fn follow<'v>(&self, view: Option<RunView<'v>>) -> Result<Option<Follow<'_, 'v>>, CommandError> {
        let Some(writer) = RunWriter::resume(&self.run)?.filter(|_| self.run.ended().is_none()) else {
            return Ok(None);
        };
        self.following(writer, view).map(Some)
    }

    /// The same, once no other process follows it; `None`: one did until it ended. See [`writer`].
    pub(crate) fn follow_in_turn(
        &self,
        meanwhile: impl FnMut() -> Result<(), CommandError>,
    ) -> Result<Option<Follow<'_, 'static>>, CommandError> {
        writer(&self.run, meanwhile)?.map(|writer| self.following(writer, None)).transpose()
    }

    fn following<'v>(&self, writer: RunWriter, view: Option<RunView<'v>>) -> Result<Follow<'_, 'v>, CommandError> {
        Follow::new((&self.place, &self.submission), writer, view, &self.run.events())
    }

    /// Fetches what running instances printed. What cannot be had now is asked for again.
    fn fetch_running(&self, logs: &mut Logs<'_>, wanted: &Wanted) {
        for (instance, state) in self.run.fold().instances {
            if state.phase == Phase::Running && wanted.wants(&instance) {
                let _ = logs.fetch(&instance, state.attempts);
            }
        }
    }

    /// Closes the record, if the run has ended.
    pub(crate) fn close(&self, ui: &Ui, follow: Follow<'_, '_>) -> Result<Option<Ended>, CommandError> {
        let Some(Followed { outcome, at, scheduler, writer, view }) = follow.into_parts() else { return Ok(None) };
        // Without them there is less to show.
        let _ = self.place.fetch_shown(ui, &scheduler, false);
        let by_id = |id: &str| {
            let single =
                scheduler.instances().find(|instance| instance.matrix().next().is_none() && instance.id() == id);
            single.and_then(|instance| instance.result().map(AsRef::as_ref))
        };
        let store = &self.place.store;
        let highlights = Highlights::collect(&scheduler.plan().workflow, by_id, |artifact| store.object_path(artifact));
        let ended = writer.finish(outcome, at, None, highlights)?;
        if let Some(view) = view {
            view.finish(&ended, ended.at.saturating_sub(self.run.meta.started))?;
        }
        Ok(Some(ended))
    }
}

/// Fetches logs of a cluster's run that are not here: of these attempts. What cannot be had is said.
pub(crate) fn fetch_logs<'a>(session: &Session, run: &Run, wanted: impl Iterator<Item = (&'a str, u32)>) {
    let Some(on) = &run.meta.cluster else { return };
    let fetch = || {
        let place = place(session, run, &on.workflow)?;
        let mut logs = Logs::new(&place, run.dir());
        wanted.filter(|(_, attempt)| *attempt > 0).try_for_each(|(instance, attempt)| logs.fetch(instance, attempt))
    };
    if let Err(error) = fetch() {
        session.ui.warning(&format!("not all logs of run {} are here: {error}", run.id()));
    }
}

/// Whoever keeps this machine's record of a run: us, once no other process does; `None`: another did so until the run
/// ended. `meanwhile` passes the time until it is looked again.
pub(super) fn writer(
    run: &Run,
    mut meanwhile: impl FnMut() -> Result<(), CommandError>,
) -> Result<Option<RunWriter>, CommandError> {
    loop {
        let writer = RunWriter::resume(run)?;
        if run.ended().is_some() {
            return Ok(None);
        }
        if writer.is_some() {
            return Ok(writer);
        }
        meanwhile()?;
    }
}

/// Who made the result of a key that a run reused, as far as this machine's store remembers, or the run's.
pub(crate) fn provenance(session: &Session, run: &Run, key: &Digest) -> Option<Provenance> {
    let known = session::open_store().ok().and_then(|store| store.peek(key));
    let found = known.or_else(|| {
        let is_there = is_for_cluster(session, run).unwrap_or(false);
        let place = is_there.then(|| place(session, run, "").ok()).flatten()?;
        place.remote.result(key).ok().flatten()
    });
    found.map(|entry| entry.provenance)
}

/// Brings an artifact of a cluster's run here.
pub(crate) fn fetch(session: &Session, run: &Run, artifact: &Artifact) -> Result<(), CommandError> {
    if session::open_store()?.contains(artifact) {
        return Ok(());
    }
    let workflow = match &run.meta.cluster {
        Some(on) => &on.workflow,
        // Everything was in the store.
        None if is_for_cluster(session, run)? => "",
        None => return Ok(()),
    };
    place(session, run, workflow)?.fetch(&session.ui, &[*artifact])
}

/// Whether a run's context is a cluster's.
fn is_for_cluster(session: &Session, run: &Run) -> Result<bool, CommandError> {
    let project = session.project()?;
    let layers = session.contexts(&project)?;
    Ok(session.named_context(&layers, &run.meta.context).is_ok_and(|context| context.engine() == EngineKind::Argo))
}

/// Where a run is that is known here: in the context that was asked for, if that is a cluster's.
fn place(session: &Session, run: &Run, workflow: &str) -> Result<Place, CommandError> {
    if let Some(name) = session.asked_context().filter(|name| *name != run.meta.context) {
        let project = session.project()?;
        let context = session.named_context(&session.contexts(&project)?, name)?;
        if context.engine() == EngineKind::Argo {
            return place_of(session, run, workflow, name);
        }
    }
    place_of(session, run, workflow, &run.meta.context)
}

/// Where a run is, by the context of this name.
pub(crate) fn place_of(session: &Session, run: &Run, workflow: &str, name: &str) -> Result<Place, CommandError> {
    let project = session.project()?;
    let context = session.named_context(&session.contexts(&project)?, name)?;
    let store = Arc::new(session::open_store()?);
    let remote = Arc::new(remote::records(&context, &store)?);
    Ok(Place::new(&context, &store, &remote, run.id(), workflow))
}

fn gone(place: &Place) -> CommandError {
    CommandError::missing(format!("the store `{}` knows no run `{}`", place.store_url(), place.run))
        .hint("is it the store of the context that the run was submitted with?")
}
