//! Running a plan on this machine: the scheduler's commands carried out by threads, one for each job.
//!
//! There is no thread in the middle: whoever has news (a job that ended, a timer, a signal) takes the lock, tells the
//! scheduler, and does at once what it asks for. A job that ends so finds its next one without waking anybody.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mlctl_core::action::{StepFailure, Task};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Outcome, Reason, Recorded};
use mlctl_core::forecast::answer;
use mlctl_core::graph::InstanceIx;
use mlctl_core::scheduler::{Command, Input, Scheduler};
use mlctl_core::workflow::Step;
use mlctl_exec::store::Store;
use mlctl_exec::{Cancel, Executor, Launch, Place, Realised, sources};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::docker::Containers;
use super::gpus::{self, Gpus};
use crate::config::secret::Secrets;
use crate::error::CommandError;
use crate::forecast::Stored;
use crate::platform::machine;
use crate::record::RunWriter;
use crate::ui::run_view::RunView;
use crate::ui::time::now;

/// The directory of what failed attempts left of their outputs.
pub(crate) const PARTIAL: &str = "partial";
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// So many threads at most: each runs one program at a time.
pub(crate) const MOST_JOBS: usize = 1000;
/// Whoever asks for the end within this time after the first request said the same thing twice (`mlctl cancel` leaves
/// a note and sends a signal; `timeout` signals the process and its group); later it means: at once.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// What runs the commands of steps.
pub(crate) enum Launcher<'a> {
    /// This machine, in environments that this makes ready: cheap for one that is.
    Process(&'a (dyn Fn(&str) -> Result<Realised, CommandError> + Sync)),
    /// Docker, in a container for each.
    Docker(&'a Containers<'a>),
}

/// What steps find on this machine.
pub(crate) struct Surroundings<'a> {
    /// Runs attempts.
    pub(crate) executor: &'a Executor,
    /// Where results are looked up.
    pub(crate) store: &'a Store,
    /// The project's files as inputs.
    pub(crate) inputs: &'a sources::Inputs,
    /// The project's directory.
    pub(crate) project: &'a Path,
    /// Holds the working directories of this run.
    pub(crate) work: PathBuf,
    /// Runs their commands.
    pub(crate) launcher: Launcher<'a>,
    /// How many GPUs there are.
    pub(crate) gpus: u32,
    /// The context's certificate authorities.
    pub(crate) authorities: Option<PathBuf>,
    /// The values of secrets.
    pub(crate) secrets: Secrets,
    /// Whether steps are confined in what they may write.
    pub(crate) sandbox: bool,
    /// Told of each result that was computed and may be used again.
    pub(crate) computed: &'a (dyn Fn(Digest) + Sync),
    /// Ends every attempt, but those of `finally` steps: they run after a cancelled run too.
    pub(crate) cancel: Cancel,
    /// Ends those.
    pub(crate) cancel_finally: Cancel,
}

/// A run on this machine.
pub(crate) struct LocalRun<'a, 'v> {
    around: Surroundings<'a>,
    shared: Mutex<Shared<'v>>,
    /// Something can be launched, or all is done.
    work: Condvar,
    /// The supervisor should look: a timer was set, or all is done.
    news: Condvar,
}

struct Shared<'a> {
    scheduler: Scheduler,
    writer: RunWriter,
    view: RunView<'a>,
    launches: VecDeque<(InstanceIx, u32)>,
    timers: BinaryHeap<Reverse<(Instant, InstanceIx)>>,
    gpus: Gpus,
    /// When somebody first asked for the end.
    stopping: Option<Instant>,
    outcome: Option<Outcome>,
    /// The record cannot be written any more: the run ends.
    broken: Option<CommandError>,
}

/// A run that ended.
pub(crate) struct Ended<'a> {
    /// How.
    pub(crate) outcome: Outcome,
    /// What became of each instance.
    pub(crate) scheduler: Scheduler,
    /// To be finished.
    pub(crate) writer: RunWriter,
    /// To be finished.
    pub(crate) view: RunView<'a>,
}

impl<'a, 'v> LocalRun<'a, 'v> {
    /// A run that has not begun.
    pub(crate) fn new(around: Surroundings<'a>, scheduler: Scheduler, writer: RunWriter, view: RunView<'v>) -> Self {
        let gpus = Gpus::new(around.gpus);
        let shared = Shared {
            scheduler,
            writer,
            view,
            launches: VecDeque::new(),
            timers: BinaryHeap::new(),
            gpus,
            stopping: None,
            outcome: None,
            broken: None,
        };
        Self { around, shared: Mutex::new(shared), work: Condvar::new(), news: Condvar::new() }
    }

    /// Runs it to its end, `jobs` instances at a time, each on a thread: at most [`MOST_JOBS`]. It is cancelled when it takes longer than `deadline`.
    pub(crate) fn run(self, jobs: usize, deadline: Option<Duration>) -> Result<Ended<'v>, CommandError> {
        // Under `nohup` the terminal may go.
        let hangup = (!machine::ignores(SIGHUP)).then_some(SIGHUP);
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))
            .map_err(|error| CommandError::missing("cannot catch signals").because(&error))?;
        let deadline = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        self.tell(Input::Begin);
        std::thread::scope(|scope| {
            // Where the system allows no more threads, so many must do.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, || self.work()).is_ok();
            if (0..jobs).take_while(|job| start(*job)).count() == 0 {
                let error =
                    CommandError::missing("cannot start a thread").hint("close other programs, or raise `ulimit -u`");
                self.lock().broken = Some(error);
            }
            self.supervise(&mut signals, deadline);
        });
        let shared = self.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        match shared.broken {
            Some(error) => Err(error),
            None => Ok(Ended {
                outcome: shared.outcome.unwrap_or(Outcome::Interrupted),
                scheduler: shared.scheduler,
                writer: shared.writer,
                view: shared.view,
            }),
        }
    }

    /// Carries out launches until all is done.
    fn work(&self) {
        let mut finished = None;
        while let Some((ix, attempt)) = self.next(finished.take()) {
            let result = self.prepare(ix, attempt).and_then(|(task, place, gpus, cancel)| {
                let mut started = || self.tell(Input::Started { ix, attempt });
                let executor = self.around.executor;
                let result = match &self.around.launcher {
                    Launcher::Process(_) => executor.run(&task, &place, cancel, &mut started).result,
                    Launcher::Docker(containers) => {
                        let launch = |launch: Launch<'_>| containers.run(launch, &gpus, &mut started);
                        executor.run_by(launch, &task, &place, cancel).result
                    }
                };
                if let (Some(key), Ok(_)) = (task.key, &result) {
                    (self.around.computed)(key);
                }
                if task.checkpoint && result.is_ok() {
                    // What it was for is done. What cannot be removed only costs space.
                    let _ = mlctl_exec::store::remove_tree(&place.checkpoint);
                }
                result
            });
            finished = Some(Input::Finished { ix, attempt, result });
        }
    }

    /// Tells what came of the last launch, and waits for the next.
    fn next(&self, finished: Option<Input>) -> Option<(InstanceIx, u32)> {
        let mut shared = self.lock();
        if let Some(input) = finished {
            if let Input::Finished { ix, .. } = &input {
                shared.gpus.give_back(*ix);
            }
            self.apply(&mut shared, input);
        }
        loop {
            if let Some(launch) = shared.launches.pop_front() {
                // Others are woken only for what is left: this thread is awake.
                self.wake(&shared);
                return Some(launch);
            }
            if shared.is_over() {
                return None;
            }
            shared = self.work.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn prepare(&self, ix: InstanceIx, attempt: u32) -> Result<(Task, Place, Vec<u32>, &Cancel), StepFailure> {
        let name = self.lock().scheduler.instance(ix).step().environment.clone();
        let environment = match &self.around.launcher {
            Launcher::Process(realise) => name.map(|name| realise(&name)).transpose().map(Option::unwrap_or_default),
            Launcher::Docker(containers) => containers.realise(name.as_deref()),
        };
        let mut environment = environment.map_err(|error| StepFailure::Executor { reason: error.to_string() })?;
        let mut shared = self.lock();
        let task = shared.scheduler.task(ix, attempt);
        let gpus = shared.gpus.take(ix, task.resources.gpu.unwrap_or(0));
        // A container has no others, and numbers them anew.
        if let (Some(mine), Launcher::Process(_)) = (&gpus, &self.around.launcher) {
            environment.env.insert(gpus::VARIABLE.to_owned(), gpus::names(mine));
        }
        let step = shared.scheduler.instance(ix).step();
        let root = self.around.store.root();
        // Whoever computes the same goes on where another was killed.
        let checkpoint = task
            .key
            .unwrap_or_else(|| Digest::of(format!("{}\0{}", self.around.project.display(), task.instance).as_bytes()));
        let place = Place {
            work: self.around.work.clone(),
            log: shared.writer.log_path(&task.instance, attempt),
            partial: Some(self.around.work.with_file_name(PARTIAL).join(format!("{}.{attempt}", task.instance))),
            environment,
            authorities: self.around.authorities.clone(),
            secrets: self.around.secrets.of(step),
            caches: root.join("caches"),
            checkpoint: root.join("checkpoints").join(checkpoint.to_hex()),
            replace: shared.scheduler.instance(ix).forced(),
            sandbox: self.around.sandbox,
            grace: GRACE,
            components: shared.scheduler.components(ix),
        };
        Ok((task, place, gpus.unwrap_or_default(), self.cancel_of(step)))
    }

    /// Watches the clock, signals, and who asks for the end; draws.
    fn supervise(&self, signals: &mut signal_hook::iterator::Signals, mut deadline: Option<Instant>) {
        let mut cancel_seen = false;
        let mut shared = self.lock();
        while !shared.is_over() {
            let moment = Instant::now();
            while shared.timers.peek().is_some_and(|Reverse((due, _))| *due <= moment) {
                if let Some(Reverse((_, ix))) = shared.timers.pop() {
                    self.apply(&mut shared, Input::RetryDue { ix });
                }
            }
            for signal in signals.pending() {
                let reason = if signal == SIGTERM { Reason::Cancelled } else { Reason::Interrupted };
                self.stop(&mut shared, reason);
            }
            if !cancel_seen && shared.writer.cancel_requested() {
                cancel_seen = true;
                self.stop(&mut shared, Reason::Cancelled);
            }
            if deadline.is_some_and(|due| due <= moment) {
                deadline = None;
                self.apply(&mut shared, Input::Cancel(Reason::DeadlinePassed));
            }
            self.wake(&shared);
            shared.flush();
            self.end_if_over(&shared);
            if shared.is_over() {
                break;
            }
            let next = shared.timers.peek().map(|Reverse((due, _))| *due).into_iter().chain(deadline).min();
            let wait = next.map_or(RunView::TICK, |due| RunView::TICK.min(due.saturating_duration_since(moment)));
            shared = self.news.wait_timeout(shared, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Somebody wants the run to end. Who says so again is not made to wait.
    fn stop(&self, shared: &mut Shared<'_>, reason: Reason) {
        match shared.stopping {
            None => {
                shared.stopping = Some(Instant::now());
                self.apply(shared, Input::Cancel(reason));
                if !shared.is_over() {
                    shared.view.note("ending what runs; Ctrl-C or `mlctl cancel` again kills it at once");
                }
            }
            Some(first) if first.elapsed() < SAME_REQUEST => {}
            Some(_) => {
                self.around.cancel.force();
                self.around.cancel_finally.force();
                self.apply(shared, Input::Cancel(reason));
            }
        }
    }

    fn cancel_of(&self, step: &Step) -> &Cancel {
        if step.finally { &self.around.cancel_finally } else { &self.around.cancel }
    }

    fn tell(&self, input: Input) {
        let mut shared = self.lock();
        self.apply(&mut shared, input);
        self.wake(&shared);
    }

    /// Wakes a worker for each launch.
    fn wake(&self, shared: &Shared<'_>) {
        for _ in 0..shared.launches.len() {
            self.work.notify_one();
        }
    }

    /// Tells the scheduler and does what it asks for, and so on until it asks for nothing more.
    fn apply(&self, shared: &mut Shared<'_>, input: Input) {
        // That a command has started is on disk with the supervisor's next look: many end before it.
        let urgent = !matches!(input, Input::Started { .. });
        let mut inputs = VecDeque::from([input]);
        let mut commands = Vec::new();
        while let Some(input) = inputs.pop_front() {
            shared.scheduler.step(input, &mut commands);
            for command in commands.drain(..) {
                inputs.extend(self.carry_out(shared, command));
            }
        }
        if urgent {
            shared.flush();
        }
        self.end_if_over(shared);
    }

    /// Lets everyone know that there is nothing to wait for.
    fn end_if_over(&self, shared: &Shared<'_>) {
        if shared.is_over() {
            // What runs, if the record is broken, must end too.
            if shared.broken.is_some() {
                self.around.cancel.cancel();
                self.around.cancel_finally.cancel();
            }
            self.work.notify_all();
            self.news.notify_all();
        }
    }

    /// Does what the scheduler asks for; what is answered at once is returned.
    fn carry_out(&self, shared: &mut Shared<'_>, command: Command) -> Option<Input> {
        let mut stored = Stored { store: self.around.store, inputs: self.around.inputs, keeps: true };
        if let Some(input) = answer(&command, &mut stored) {
            return Some(input);
        }
        match command {
            Command::Launch { ix, attempt } => shared.launches.push_back((ix, attempt)),
            Command::RetryAfter { ix, delay } => {
                shared.timers.push(Reverse((Instant::now() + delay, ix)));
                self.news.notify_all();
            }
            Command::Kill { ix } => self.cancel_of(shared.scheduler.instance(ix).step()).cancel(),
            Command::Record(event) => shared.record(&Recorded { at: now(), event }),
            Command::Done(outcome) => shared.outcome = Some(outcome),
            Command::LookUp { .. }
            | Command::ListEntries { .. }
            | Command::ResolveEntry { .. }
            | Command::Digest { .. } => {}
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Shared<'v>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        self.outcome.is_some() || self.broken.is_some()
    }

    fn record(&mut self, recorded: &Recorded) {
        self.view.event(recorded);
        if let Err(error) = self.writer.append(recorded) {
            self.broken.get_or_insert(error);
        }
    }

    /// Nobody waits for anything that others cannot see yet.
    fn flush(&mut self) {
        if let Err(error) = self.writer.flush() {
            self.broken.get_or_insert(error);
        }
        self.view.tick();
    }
}
