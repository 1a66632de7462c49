//! `mlctl run`, from what was asked for to the record of what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mlctl_core::action::Artifact;
use mlctl_core::diag::Source;
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Outcome, Recorded, Status};
use mlctl_core::scheduler::{Input, Options, Scheduler, State};
use mlctl_exec::store::{Lease, Store};
use mlctl_exec::{Cancel, Executor, Warden};

use crate::engine::Engine;
use crate::engine::docker::{self, Containers, leftovers};
use crate::engine::local::{self, Launcher, LocalRun, Surroundings};
use crate::error::CommandError;
use crate::lock::Mode;
use crate::platform::docker::Daemon;
use crate::prepare::{self, Asked, Files};
use crate::record::{Ended, Highlights, Run, RunMeta, RunWriter, Runs, Tally};
use crate::remote::shared::{Sending, Shared};
use crate::reuse::{self, Note, Notes};
use crate::session::{self, Project, Session};
use crate::ui::run_view::{RunView, summarise};
use crate::ui::time::now;
use crate::{environment, export, git};

pub(crate) mod attach;
mod cluster;
mod ready;
mod resume;

use ready::{Images, Making, Ready};

/// Runs that take this long are synced to disk after their end: the sync costs little beside them.
const WORTH_A_SYNC: Duration = Duration::from_secs(10);

/// The directory of a run's slots in the store.
const WORK: &str = "work";

/// How it is to be run.
#[derive(Debug, Clone, Default)]
pub(crate) struct How {
    /// Instances at a time; `None`: the context's, or the number of CPUs.
    pub(crate) jobs: Option<u32>,
    /// Whether the lock may not be changed.
    pub(crate) locked: bool,
    /// Whether the first failure keeps everything else from starting.
    pub(crate) fail_fast: bool,
    /// The longest that it may take.
    pub(crate) deadline: Option<Duration>,
    /// Whether steps are confined in what they may write.
    pub(crate) sandbox: bool,
    /// On a cluster: whether the run is the cluster's, and goes on when this command ends.
    pub(crate) submit: Option<Submit>,
}

impl How {
    /// Whether the command stays until the run has ended.
    fn waits(&self) -> bool {
        self.submit.as_ref().is_none_or(|submit| submit.wait)
    }
}

/// How a run is submitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Submit {
    /// Its id, if it is given.
    pub(crate) run: Option<String>,
    /// Whether it is followed to its end.
    pub(crate) wait: bool,
}

/// Runs what is asked for. Gives how it ended, unless it goes on on a cluster, and its record; errors are of what came
/// before and after it.
pub(crate) fn run(session: &Session, asked: &Asked, how: &How) -> Result<(Option<Outcome>, Run), CommandError> {
    let began = (now(), Instant::now());
    let (root, source) = session.spec()?;
    let store = Arc::new(session::open_store()?);
    let files = Files::look(&root)?;
    let wanted = reuse_key(session, &root, &source, asked);
    if asked.force.is_empty()
        && asked.resume.is_none()
        && how.submit.is_none()
        && let Some(base) = Notes::of(&root).find(&wanted, &files.snapshot, &files.inputs, &store)
        && let Ok(base) = Runs::open(&root).and_then(|runs| runs.find(&base))
    {
        return nothing_to_do(session, &root, &source, asked, base, began).map(|(outcome, run)| (Some(outcome), run));
    }
    let project = session.parse(root, source)?;
    session.ui.warnings(&project.source, &project.warnings);
    let context = session.context(&project)?;
    let plan = prepare::plan(&project, &context, asked)?;
    prepare::warn_of_idle_force(&session.ui, &plan);
    let engine = Engine::connect(&context)?;
    if let Engine::Docker(Some(daemon)) = &engine {
        docker::can_run(daemon)?;
    }
    prepare::check_capabilities(&project, (&context, &engine), &plan)?;
    let dirty = git::Dirty::ask(&project.root);
    let authorities = prepare::authorities(&context)?;
    let shared = Shared::of(&session.ui, &context, &store)?;
    let remote = cluster::remote(&engine, &context, &store, how)?;
    let making = Making {
        session,
        project: &project,
        context: &context,
        engine: &engine,
        target: &engine.target(&project, &context),
        plan: &plan,
        files: &files,
        store: &store,
        authorities: authorities.as_deref(),
        shared: shared.as_ref(),
        remote: remote.as_ref(),
        mode: if how.locked { Mode::Frozen } else { Mode::Complete },
    };
    let resumed = match &asked.resume {
        Some(run) => resume::bring(&making, run)?,
        None => Vec::new(),
    };
    let mut ready = making.ready()?;
    // The lock may be new. What changes from here on is not what this run saw.
    let wanted = reuse::Asked { lock: std::mem::take(&mut ready.lock), ..wanted };
    files.save();
    if !asked.force.is_empty() {
        Notes::of(&project.root).forget().map_err(|error| {
            CommandError::missing("cannot forget what earlier runs made").because(&error).hint("remove `.mlctl/reuse`")
        })?;
    }
    let meta = meta(&making, &ready, asked, began.0);
    let exports = export::of(&plan);
    let sources = files.snapshot.fingerprint(&export::paths(&exports)).filter(|_| ready.is_seen_by_notes());
    let inputs = std::mem::take(&mut ready.requirements);
    let (ended, lease, sending) = if matches!(engine, Engine::Argo(_)) {
        match cluster::run(&making, &ready, asked, meta, how)? {
            cluster::Done::Goes(id) => {
                let run = Runs::open(&project.root)?.find(&id)?;
                let ended = run.ended().filter(|_| how.waits());
                if let Some(ended) = &ended {
                    let took = ended.at.saturating_sub(run.meta.started);
                    summarise(&session.ui, run.id(), ended, took, run.meta.reused.as_deref())?;
                }
                return Ok((ended.map(|ended| ended.outcome), run));
            }
            cluster::Done::Ended(ended, lease) => (*ended, lease, None),
        }
    } else {
        execute(&making, &store, ready, meta, how, &resumed)?
    };
    let note = Note { run: ended.writer.id().to_owned(), sources, inputs, exports: Vec::new() };
    let end = End { project: &project, store: &store, wanted, files: &files, note, exports, began };
    let done = end.finish(ended, lease, dirty);
    // The run is over and its record closed, however long this takes.
    if let (Some(sending), Ok((_, run))) = (sending, &done) {
        sending.finish(&session.ui, run.id());
    }
    done.map(|(outcome, run)| (Some(outcome), run))
}

/// Runs what is ready, to its end.
fn execute<'a>(
    making: &Making<'a>,
    store: &Arc<Store>,
    ready: Ready,
    meta: RunMeta,
    how: &How,
    resumed: &[Event],
) -> Result<(local::Ended<'a>, Lease, Option<Sending>), CommandError> {
    let Making { session, project, context, engine, plan, files, .. } = *making;
    let ids: Vec<String> = plan.instances().map(|ix| plan.graph.id(ix)).collect();
    let mut writer = RunWriter::create(&project.root, meta, &project.source.text, ids.iter().map(String::as_str))?;
    let lease =
        store.lease(writer.id()).map_err(|error| CommandError::missing("cannot use the store").because(&error))?;
    let mut view = RunView::new(&session.ui, writer.id(), writer.dir(), ids);
    let jobs = how.jobs.or(context.merged.parallelism).map_or_else(|| engine.cpus(), |jobs| jobs as usize);
    let jobs = jobs.min(local::MOST_JOBS);
    let capacity = engine.capacity();
    let run = writer.id().to_owned();
    let options = Options { run, jobs, capacity, fail_fast: how.fail_fast, share: None };
    if how.sandbox && matches!(engine, Engine::Process) && !mlctl_exec::sandbox::is_available() {
        session.ui.detail("this system has no Landlock: steps are not confined in what they may write");
    }
    // Steps have the same umask everywhere; what is exported is the user's again.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let executor = Executor::new(store.clone()).guarded_by(Warden::this_program());
    let environment =
        |name: &str| environment::realise(&ready.realisations[name], &project.root, store.root(), &|_| {});
    let images = Images { making, found: Mutex::new(ready.images) };
    let image_of = |name: Option<&str>| images.of(name);
    let containers = match engine.daemon() {
        Some(daemon) => {
            leftovers::remove(daemon, &leftovers::find(daemon, store)?);
            Some(Containers::new(daemon.clone(), store.root(), lease.path(), &image_of)?)
        }
        None => None,
    };
    let cancel = || Cancel::new().map_err(|error| CommandError::missing("cannot make a pipe").because(&error));
    let sending = making.shared.map(Shared::send);
    let around = Surroundings {
        executor: &executor,
        store,
        inputs: &files.inputs,
        project: &project.root,
        work: lease.path().join(WORK),
        launcher: containers.as_ref().map_or(Launcher::Process(&environment), Launcher::Docker),
        gpus: capacity.gpu.unwrap_or(0),
        authorities: making.authorities.map(Path::to_owned),
        secrets: ready.secrets,
        sandbox: how.sandbox,
        computed: &|key| {
            if let Some(sending) = &sending {
                sending.computed(key);
            }
        },
        cancel: cancel()?,
        cancel_finally: cancel()?,
    };
    let mut scheduler = Scheduler::new(plan.clone(), ready.facts, options);
    for event in resumed {
        let recorded = Recorded { at: now(), event: event.clone() };
        view.event(&recorded);
        writer.append(&recorded)?;
        scheduler.step(Input::Replay(event.clone()), &mut Vec::new());
    }
    let ended = LocalRun::new(around, scheduler, writer, view).run(jobs, how.deadline);
    if let Some(containers) = &containers {
        containers.finish();
    }
    rustix::process::umask(umask);
    Ok((ended?, lease, sending))
}

fn reuse_key<'a>(session: &'a Session, root: &Path, source: &Source, asked: &'a Asked) -> reuse::Asked<'a> {
    let text = |path: PathBuf| std::fs::read(path).unwrap_or_default();
    let file = |(path, text): &(PathBuf, String)| format!("{}\0{text}", path.display()).into_bytes();
    reuse::Asked {
        spec: Digest::of(source.text.as_bytes()),
        lock: ready::lock_text(root),
        contexts: [Some(root.join(session::LOCAL)), self::session::user_config()]
            .into_iter()
            .flatten()
            .map(text)
            .collect(),
        params: asked.params.iter().map(|param| param.clone().into_bytes()).collect(),
        params_files: asked.params_files.iter().map(file).collect(),
        targets: &asked.targets,
        context: session.context_name(),
        docker: Daemon::meant(),
    }
}

fn meta(making: &Making<'_>, ready: &Ready, asked: &Asked, started: u64) -> RunMeta {
    RunMeta {
        id: String::new(),
        started,
        argv: argv(),
        params: making.plan.params.clone(),
        targets: asked.targets.clone(),
        context: making.context.name.clone(),
        environments: ready.environments(),
        spec: making.project.digest,
        commit: git::head(&making.project.root),
        mlctl: env!("CARGO_PKG_VERSION").to_owned(),
        reused: None,
        cluster: None,
    }
}

/// The command line. A name of a directory may be any bytes.
fn argv() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Records that all is as an earlier run made it.
fn nothing_to_do(
    session: &Session,
    root: &Path,
    source: &Source,
    asked: &Asked,
    base: Run,
    began: (u64, Instant),
) -> Result<(Outcome, Run), CommandError> {
    let meta = RunMeta {
        started: began.0,
        argv: argv(),
        targets: asked.targets.clone(),
        commit: git::head(root),
        reused: Some(base.id().to_owned()),
        cluster: None,
        ..base.meta.clone()
    };
    let before = base.ended().unwrap_or_else(|| Ended {
        outcome: Outcome::Succeeded,
        at: began.0,
        tally: base.fold().tally(),
        dirty: None,
        highlights: Highlights::default(),
    });
    let done = before.tally.succeeded + before.tally.cached;
    let tally = Tally { succeeded: 0, cached: done, ..before.tally };
    let ended = Ended { at: now(), tally, dirty: None, ..before };
    let id = RunWriter::record_reused(root, meta, &source.text, &ended)?;
    summarise(&session.ui, &id, &ended, millis(began.1), Some(base.id()))?;
    Ok((Outcome::Succeeded, Runs::open(root)?.find(&id)?))
}

/// What the end of a run needs to know.
struct End<'a> {
    project: &'a Project,
    store: &'a Arc<Store>,
    wanted: reuse::Asked<'a>,
    files: &'a Files,
    note: Note,
    exports: Vec<export::Export>,
    began: (u64, Instant),
}

impl End<'_> {
    /// Exports, closes the record, tells, and notes the run for those that have nothing to do.
    fn finish(
        mut self,
        ended: local::Ended<'_>,
        lease: Lease,
        dirty: git::Dirty,
    ) -> Result<(Outcome, Run), CommandError> {
        let local::Ended { outcome, scheduler, writer, view } = ended;
        // Before there is anything new in the project.
        let dirty = dirty.join();
        let kept = keep_partial(&lease, writer.dir());
        let exported = match outcome {
            Outcome::Succeeded => self.export(&scheduler),
            _ => Ok(()),
        };
        let by_id: BTreeMap<String, _> = scheduler
            .instances()
            .filter(|instance| instance.matrix().next().is_none())
            .filter_map(|instance| Some((instance.id(), instance.result()?.clone())))
            .collect();
        let highlights = Highlights::collect(
            &self.project.workflow,
            |id| by_id.get(id).map(AsRef::as_ref),
            |artifact| self.store.object_path(artifact),
        );
        let id = writer.id().to_owned();
        let ended = writer.finish(outcome, now(), dirty, highlights)?;
        view.finish(&ended, millis(self.began.1))?;
        if outcome == Outcome::Succeeded && exported.is_ok() && is_reusable(&scheduler) {
            let inputs = scheduler.facts().files.iter();
            self.note.inputs.extend(inputs.filter_map(|(path, found)| Some((path.clone(), *found.as_ref().ok()?))));
            let results = scheduler.instances().filter_map(|instance| instance.result().map(AsRef::as_ref));
            Notes::of(&self.project.root).write(&self.wanted, &self.note, results, self.store);
        }
        self.files.save();
        // Until here gc took nothing of this run. Slots are many small files: it removes what a failure leaves.
        let _ = mlctl_exec::store::remove_tree(&if kept { lease.path().join(WORK) } else { lease.path().to_owned() });
        drop(lease);
        if self.began.1.elapsed() > WORTH_A_SYNC {
            // What is not synced is rehashed after a power loss: no reason to fail.
            let _ = self.store.sync_beside();
        }
        exported?;
        Ok((outcome, Runs::open(&self.project.root)?.find(&id)?))
    }

    fn export(&mut self, scheduler: &Scheduler) -> Result<(), CommandError> {
        for export in &self.exports {
            let Some(artifact) = result_of(scheduler, export) else { continue };
            export::write(export, &artifact, &self.project.root, self.store, &self.files.inputs)?;
            self.note.exports.push((export.path.clone(), artifact));
        }
        Ok(())
    }
}

/// Moves what failed attempts left of their outputs to the record. Where that is on another file system it stays in the
/// store until the next gc, and the record has a link to it: tells whether it is so. On a disk that is nearly full, which
/// it may be that filled it, nothing is kept.
fn keep_partial(lease: &Lease, record: &Path) -> bool {
    // A hundredth of it must be free, but of a large disk no more than this.
    const BYTES: u64 = 1 << 30;
    const FILES: u64 = 10_000;
    let is_full = |disk: rustix::fs::StatVfs| {
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        bytes < BYTES.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 100)
            || disk.f_favail < FILES.min(disk.f_files / 100)
    };
    if rustix::fs::statvfs(lease.path()).is_ok_and(is_full) {
        return false;
    }
    let (from, to) = (lease.path().join(local::PARTIAL), record.join(local::PARTIAL));
    let moved = std::fs::rename(&from, &to);
    let elsewhere = moved.is_err_and(|error| error.kind() == std::io::ErrorKind::CrossesDevices);
    elsewhere && std::os::unix::fs::symlink(from, to).is_ok()
}

fn result_of(scheduler: &Scheduler, export: &export::Export) -> Option<Artifact> {
    let instance = scheduler.graph().instances_of(export.step).next()?;
    scheduler.instance(instance).result()?.artifacts.get(&export.output).copied()
}

/// Whether a run that is asked for the same would have nothing to do.
fn is_reusable(scheduler: &Scheduler) -> bool {
    scheduler.instances().all(|instance| match instance.state() {
        State::Finished(Status::Succeeded | Status::Cached) => instance.key().is_some(),
        State::Finished(Status::Skipped) | State::Dissolved => true,
        _ => false,
    })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
