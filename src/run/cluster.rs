//! A run on a cluster: submitted, followed if that is wanted, and then finished here as any other.

use std::sync::Arc;
use std::time::Instant;

use mlctl_core::event::{Outcome, Recorded};
use mlctl_core::forecast::{Forecast, answer};
use mlctl_core::scheduler::{Command, Input, Options, Scheduler};
use mlctl_core::submission::Submission;
use mlctl_exec::store::{Lease, Store};
use mlctl_remote::Remote;

use super::ready::{Making, Ready};
use super::{How, attach};
use crate::config::Context;
use crate::engine::argo::{self, Compiled, Cut, Follow, Followed, Manner, Order, Place};
use crate::engine::{Engine, local};
use crate::error::CommandError;
use crate::forecast::Stored;
use crate::lock::Lock;
use crate::platform::kube::Cluster;
use crate::prepare::Asked;
use crate::record::{Run, RunMeta, RunWriter, Runs, id};
use crate::remote::{self, Both};
use crate::ui::run_view::RunView;
use crate::ui::time::now;

/// What came of it.
pub(super) enum Done<'a> {
    /// It was followed to its end.
    Ended(Box<local::Ended<'a>>, Lease),
    /// It goes on without us: its id.
    Goes(String),
}

/// The store of a cluster's runs. Other engines submit nothing.
pub(super) fn remote(
    engine: &Engine,
    context: &Context,
    store: &Store,
    how: &How,
) -> Result<Option<Arc<Remote>>, CommandError> {
    if matches!(engine, Engine::Argo(_)) {
        return Ok(Some(Arc::new(remote::records(context, store)?)));
    }
    match &how.submit {
        None => Ok(None),
        Some(_) => Err(CommandError::usage(format!(
            "context `{}` runs on this machine: nothing can be submitted",
            context.name
        ))
        .hint("`mlctl run` runs it; `--context` names a cluster's, and `mlctl context list` lists them")),
    }
}

/// Runs what is ready on the cluster of the context.
pub(super) fn run<'a>(
    making: &Making<'a>,
    ready: &Ready,
    asked: &Asked,
    mut meta: RunMeta,
    how: &How,
) -> Result<Done<'a>, CommandError> {
    let Making { session, project, context, store, .. } = *making;
    let (Some(forecast), Some(remote)) = (&ready.forecast, making.remote) else {
        return Err(CommandError::failed("nothing was looked up"));
    };
    let began = Instant::now();
    let cut = Cut::of(context, forecast);
    let given = given_id(how)?;
    if let Some(given) = given
        && let Some(done) = take_up(making, asked, (forecast, &cut), given, (how, began))?
    {
        return Ok(done);
    }
    if cut.is_empty() {
        meta.id = given.unwrap_or_default().to_owned();
        if Runs::open(&project.root)?.names().contains(&meta.id) {
            return Ok(Done::Goes(meta.id));
        }
        return nothing_to_run(making, forecast, remote, meta);
    }
    let cluster = Cluster::connect(context)?;
    cluster.has_argo().map_err(|fault| cluster.explain("run on", &fault))?;
    let compiled = compile(making, asked, (forecast, &cut), how)?;
    let place = Place::new(context, store, remote, &compiled.run, &compiled.name).on(&cluster);
    meta.id.clone_from(&compiled.run);
    meta.cluster = Some(place.on_cluster(&project.workflow.name, cluster.namespace()));
    argo::push(&session.ui, &place, forecast)?;
    let (was_there, submission) = argo::submit(&place, &compiled, &meta)?;
    if was_there {
        session.ui.note(&format!("run {} was submitted already", compiled.run));
    }
    let run = mirror(&project.root, &meta, &submission)?;
    if how.submit.as_ref().is_some_and(|submit| !submit.wait) {
        return Ok(Done::Goes(compiled.run));
    }
    follow(making, &place, &submission, &run, (how, began))
}

/// A run of the given id that was submitted before, if it is the one that is asked for now.
fn take_up<'a>(
    making: &Making<'a>,
    asked: &Asked,
    (forecast, cut): (&Forecast, &Cut),
    given: &str,
    (how, began): (&How, Instant),
) -> Result<Option<Done<'a>>, CommandError> {
    let Making { session, project, context, store, .. } = *making;
    let Some(remote) = making.remote else { return Ok(None) };
    let place = Place::new(context, store, remote, given, "");
    let (Some(theirs), Some(meta)) = (place.submission()?, place.meta()?) else { return Ok(None) };
    argo::is_alike(&argo::submission((project, context), asked, forecast, cut, given), &theirs)?;
    let workflow = meta.cluster.as_ref().map(|on| on.workflow.clone()).unwrap_or_default();
    let place = Place::new(context, store, remote, given, &workflow);
    if !argo::has_begun(&place)? {
        return Ok(None);
    }
    session.ui.note(&format!("run {given} was submitted already"));
    let run = mirror(&project.root, &RunMeta { context: context.name.clone(), ..meta }, &theirs)?;
    if how.submit.as_ref().is_some_and(|submit| !submit.wait) || run.ended().is_some() {
        return Ok(Some(Done::Goes(given.to_owned())));
    }
    follow(making, &place, &theirs, &run, (how, began)).map(Some)
}

/// Follows a run to its end.
fn follow<'a>(
    making: &Making<'a>,
    place: &Place,
    submission: &Submission,
    run: &Run,
    (how, began): (&How, Instant),
) -> Result<Done<'a>, CommandError> {
    let Making { session, store, .. } = *making;
    let mut said = false;
    let writer = attach::writer(run, || {
        if !std::mem::replace(&mut said, true) {
            let id = run.id();
            session.ui.note(&format!("another mlctl follows run {id} in this directory: its end is waited for"));
        }
        std::thread::sleep(RunView::TICK);
        Ok(())
    })?;
    let Some(writer) = writer else { return Ok(Done::Goes(run.id().to_owned())) };
    // Another directory's mlctl may follow the same run.
    let lease = lease(store, &format!("{}-{}", run.id(), id::new()))?;
    let deadline = how.deadline.and_then(|deadline| began.checked_add(deadline));
    let manner = if how.submit.is_some() { Manner::Watching } else { Manner::Owning };
    let known = run.events();
    let view = RunView::new(&session.ui, run.id(), run.dir(), run.planned());
    let mut follow = Follow::new((place, submission), writer, Some(view), &known)?;
    follow.until_ended(manner, deadline, None)?;
    match follow.into_parts() {
        Some(Followed { outcome, scheduler, writer, view: Some(view), .. }) => {
            if matches!(outcome, Outcome::Cancelled | Outcome::Interrupted | Outcome::TimedOut) {
                place.sweep()?;
            }
            place.fetch_shown(&session.ui, &scheduler, outcome == Outcome::Succeeded)?;
            Ok(Done::Ended(Box::new(local::Ended { outcome, scheduler, writer, view }), lease))
        }
        _ => {
            let id = run.id().to_owned();
            session.ui.note(&format!("run {id} goes on: `mlctl watch {id}` follows it, `mlctl cancel {id}` ends it"));
            Ok(Done::Goes(id))
        }
    }
}

/// What is sent: the images are made and brought to where the nodes find them first.
fn compile(
    making: &Making<'_>,
    asked: &Asked,
    (forecast, cut): (&Forecast, &Cut),
    how: &How,
) -> Result<Compiled, CommandError> {
    let Making { session, project, context, target, store, .. } = *making;
    let lock = Lock::read(&project.root)?;
    let of = argo::images::Of { project, context, lock: &lock, target, store: store.root() };
    let images = of.ready(session, &argo::images::environments(forecast.plan(), cut.units()))?;
    let mut context = context.clone();
    context.merged.parallelism = how.jobs.or(context.merged.parallelism);
    let deadline = how.deadline.map(|deadline| deadline.as_secs().max(1));
    let (context, images) = (&context, &images);
    let order = Order { project, context, asked, forecast, cut, images, fail_fast: how.fail_fast, deadline };
    let compiled = match given_id(how)? {
        Some(given) => order.compile(std::iter::once(given.to_owned()))?,
        None => order.compile(std::iter::repeat_with(id::new))?,
    };
    compiled.ok_or_else(|| {
        CommandError::usage("Argo would take two pods of the run for one")
            .cause("it tells them apart by a short hash of their names, in which the run's id is")
            .hint("take another `--run-id`")
    })
}

/// The run id that is given, if it can be one: it becomes a part of names in Kubernetes.
fn given_id(how: &How) -> Result<Option<&str>, CommandError> {
    const LONGEST: usize = 40;
    let Some(given) = how.submit.as_ref().and_then(|submit| submit.run.as_deref()) else { return Ok(None) };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = given.len() <= LONGEST && given.chars().all(plain) && !given.starts_with('-') && !given.ends_with('-');
    if fits && given.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(Some(given));
    }
    Err(CommandError::usage(format!("`{given}` cannot be the id of a run")).hint(format!(
        "it begins with a small letter, has small letters, digits and hyphens, and at most {LONGEST} of them"
    )))
}

/// This machine's record of a run, made if it is not there.
pub(crate) fn mirror(project: &std::path::Path, meta: &RunMeta, submission: &Submission) -> Result<Run, CommandError> {
    let id = &meta.id;
    let known = |runs: &Runs| runs.names().contains(id);
    if !known(&Runs::open(project)?) {
        let (plan, _) = submission
            .plan()
            .map_err(|why| CommandError::missing(format!("cannot read what run `{id}` is")).cause(why))?;
        let ids: Vec<String> = plan.instances().map(|ix| plan.graph.id(ix)).collect();
        let made = RunWriter::create(project, meta.clone(), &submission.spec, ids.iter().map(String::as_str));
        // Another process may have been quicker.
        made.map(drop)
            .or_else(|error| if Runs::open(project).is_ok_and(|runs| known(&runs)) { Ok(()) } else { Err(error) })?;
    }
    Runs::open(project)?.find(id)
}

fn lease(store: &Store, run: &str) -> Result<Lease, CommandError> {
    store.lease(run).map_err(|error| CommandError::missing("cannot use the store").because(&error))
}

/// Everything is there: no pod and no workflow is made.
fn nothing_to_run<'a>(
    making: &Making<'a>,
    forecast: &Forecast,
    remote: &Arc<Remote>,
    meta: RunMeta,
) -> Result<Done<'a>, CommandError> {
    let Making { session, project, files, store, plan, .. } = *making;
    let ids: Vec<String> = plan.instances().map(|ix| plan.graph.id(ix)).collect();
    let mut writer = RunWriter::create(&project.root, meta, &project.source.text, ids.iter().map(String::as_str))?;
    let lease = lease(store, writer.id())?;
    let mut view = RunView::new(&session.ui, writer.id(), writer.dir(), ids);
    let options = Options { run: writer.id().to_owned(), jobs: 1, ..Options::default() };
    let mut scheduler = Scheduler::new(plan.clone(), forecast.facts().clone(), options);
    let results = argo::results(forecast);
    let mut known = Both::there(Stored { store, inputs: &files.inputs, keeps: false }, remote);
    let (mut inputs, mut commands) = (vec![Input::Begin], Vec::new());
    loop {
        for input in inputs.drain(..) {
            scheduler.step(input, &mut commands);
        }
        for command in commands.drain(..) {
            match command {
                Command::Done(outcome) => {
                    let place = Place::new(making.context, store, remote, writer.id(), "");
                    place.fetch_shown(&session.ui, &scheduler, outcome == Outcome::Succeeded)?;
                    return Ok(Done::Ended(Box::new(local::Ended { outcome, scheduler, writer, view }), lease));
                }
                Command::Record(event) => {
                    let recorded = Recorded { at: now(), event };
                    view.event(&recorded);
                    writer.append(&recorded)?;
                }
                Command::LookUp { ix, key } => {
                    inputs.push(Input::LookedUp { ix, result: results.get(&key).cloned() });
                }
                command => inputs.extend(answer(&command, &mut known)),
            }
        }
        if inputs.is_empty() {
            return Err(CommandError::failed("there is something to run after all"));
        }
    }
}
