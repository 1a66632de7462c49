//! A run as it goes: fed with events, drawn on a terminal, told in lines elsewhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use mlctl_core::action::StepFailure;
use mlctl_core::event::{Event, Outcome, Reason, Recorded, Status};

use super::style::{BUSY, ERROR, FAINT, GOOD, STRONG, WARNING};
use super::{Ui, Verbosity, count, time};
use crate::error::CommandError;
use crate::record::{Ended, Tally};

mod screen;
mod tail;

use screen::Screen;

/// How many failures are told with the end of their log; the others in a line each.
const DETAILED: usize = 10;
/// How many skipped and cancelled instances are told one by one: they come in crowds.
const TOLD: usize = 20;

/// Where nothing is drawn, nobody waits longer than this for a sign of life: some CI systems end what says nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// A run as it goes.
pub(crate) struct RunView<'a> {
    ui: &'a Ui,
    run: String,
    dir: PathBuf,
    tally: Tally,
    running: IndexMap<String, Running>,
    failed: Vec<(String, String)>,
    told: usize,
    /// Lines that are not written yet.
    lines: String,
    written: Instant,
    screen: Option<Screen>,
}

/// An instance that runs.
#[derive(Debug)]
struct Running {
    attempt: u32,
    started: u64,
}

impl<'a> RunView<'a> {
    /// The longest time between two calls of [`Self::tick`].
    pub(crate) const TICK: Duration = Duration::from_millis(100);

    /// The view of a run in the directory `dir`. `instances` are those planned, in the plan's order.
    pub(crate) fn new(ui: &'a Ui, run: &str, dir: &Path, instances: impl IntoIterator<Item = String>) -> Self {
        // Who does not draw does not need the names.
        let mut total = 0;
        let mut counted = instances.into_iter().inspect(|_| total += 1);
        let screen = if ui.draws_progress() {
            Some(Screen::new(counted.collect()))
        } else {
            counted.by_ref().for_each(drop);
            None
        };
        Self {
            ui,
            run: run.to_owned(),
            dir: dir.to_owned(),
            tally: Tally { total, ..Tally::default() },
            running: IndexMap::new(),
            failed: Vec::new(),
            told: 0,
            lines: String::new(),
            written: Instant::now(),
            screen,
        }
    }

    /// Takes in what happened. Nothing is written before the next tick.
    pub(crate) fn event(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::RunStarted { .. } => {
                let known = count(self.tally.total, "instance");
                let run = self.run.clone();
                self.say(format_args!("{STRONG}run {run}{STRONG:#}: {known}"));
            }
            Event::RunFinished { .. } => {}
            Event::GraphExpanded { step, instances } => self.expanded(step, instances),
            Event::InstanceStarted { instance, attempt, .. } => self.started(instance, *attempt, recorded.at),
            Event::InstanceRetrying { instance, attempt, failure, delay_millis } => {
                self.running.shift_remove(instance);
                let why = failure.as_ref().map_or_else(|| "its machine was lost".into(), StepFailure::to_string);
                let delay =
                    if *delay_millis > 0 { format!(" in {}", time::duration(*delay_millis)) } else { String::new() };
                self.say(format_args!(
                    "{instance}: {WARNING}attempt {attempt} failed{WARNING:#}: {why}; the next one starts{delay}"
                ));
            }
            Event::InstanceFinished { instance, status, reason, attempts, failure, result, .. } => {
                let started = self.running.shift_remove(instance).map(|running| running.started);
                let lasted = || started.map_or(0, |started| recorded.at.saturating_sub(started));
                let millis = result.as_ref().map_or_else(lasted, |result| result.millis);
                self.tally.count(*status);
                if let (Some(screen), None) = (&mut self.screen, started) {
                    screen.begun(instance);
                }
                self.finished(instance, *status, reason.as_ref(), *attempts, failure.as_ref(), millis);
            }
        }
    }

    /// Writes and draws: before waiting for anything, and at least every [`Self::TICK`].
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        let Some(screen) = &mut self.screen else {
            if now.duration_since(self.written) >= SILENCE && self.ui.verbosity > Verbosity::Quiet {
                self.break_silence();
            }
            if !self.lines.is_empty() && now.duration_since(self.written) >= Self::TICK / 2 {
                self.write(now);
            }
            return;
        };
        if now.duration_since(self.written) >= Self::TICK {
            let lines = std::mem::take(&mut self.lines);
            if !lines.is_empty() {
                screen.above(|| self.ui.stderr(&lines));
            }
            let drawn = screen.compose(&self.dir, &self.tally, &self.running, self.failed.len());
            screen.draw(self.ui.for_stderr(&drawn).into_owned());
            self.written = now;
        }
    }

    /// Says something above the progress, at once.
    pub(crate) fn note(&mut self, text: &str) {
        self.write(Instant::now());
        match &self.screen {
            Some(screen) => screen.above(|| self.ui.note(text)),
            None => self.ui.note(text),
        }
    }

    /// Ends the view with the summary of how the run ended.
    pub(crate) fn finish(mut self, ended: &Ended, millis: u64) -> Result<(), CommandError> {
        if let Some(screen) = self.screen.take() {
            screen.clear();
        }
        self.write(Instant::now());
        let mut failures = String::new();
        for (instance, why) in self.failed.iter().take(DETAILED) {
            let _ = writeln!(failures, "{ERROR}failed{ERROR:#}: {instance}: {why}");
        }
        if self.failed.len() > DETAILED {
            let _ = writeln!(failures, "... and {} more: mlctl status {}", self.failed.len() - DETAILED, self.run);
        }
        if self.failed.len() > 1 && self.ui.verbosity > Verbosity::Quiet {
            self.ui.stderr(&failures);
        }
        summarise(self.ui, &self.run, ended, millis, None)
    }

    /// Says what takes so long.
    fn break_silence(&mut self) {
        let now = time::now();
        let long = |(id, running): (&String, &Running)| {
            format!("{id} ({})", time::elapsed(now.saturating_sub(running.started)))
        };
        let running: Vec<String> = self.running.iter().take(DETAILED).map(long).collect();
        let (done, total) = (self.tally.done(), self.tally.total);
        if !running.is_empty() {
            self.say(format_args!("{FAINT}{done}/{total} done, running: {}{FAINT:#}", running.join(", ")));
        }
    }

    /// One more line, unless nothing but errors is to be said.
    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        if self.ui.verbosity > Verbosity::Quiet {
            let _ = writeln!(self.lines, "{line}");
        }
    }

    fn write(&mut self, now: Instant) {
        let lines = std::mem::take(&mut self.lines);
        self.written = now;
        if lines.is_empty() {
            return;
        }
        match &self.screen {
            Some(screen) => screen.above(|| self.ui.stderr(&lines)),
            None => self.ui.stderr(&lines),
        }
    }

    fn expanded(&mut self, step: &str, instances: &[String]) {
        self.tally.total += instances.len() as u64;
        if let Some(screen) = &mut self.screen {
            screen.add(instances);
        }
        if self.ui.verbosity == Verbosity::Verbose {
            let _ = writeln!(self.lines, "{step}: became {}", count(instances.len() as u64, "instance"));
        }
    }

    fn started(&mut self, instance: &str, attempt: u32, at: u64) {
        self.running.insert(instance.to_owned(), Running { attempt, started: at });
        if let Some(screen) = &mut self.screen {
            screen.begun(instance);
        }
        if self.ui.verbosity == Verbosity::Verbose {
            let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            let _ = writeln!(self.lines, "{instance}: {BUSY}started{BUSY:#}{again}");
        }
    }

    fn finished(
        &mut self,
        instance: &str,
        status: Status,
        reason: Option<&Reason>,
        attempts: u32,
        failure: Option<&StepFailure>,
        millis: u64,
    ) {
        let verbose = self.ui.verbosity == Verbosity::Verbose;
        match status {
            Status::Succeeded => {
                let took = time::duration(millis);
                self.say(format_args!("{instance}: {GOOD}succeeded{GOOD:#} in {took}"));
            }
            Status::Cached if verbose => {
                let _ = writeln!(self.lines, "{instance}: {FAINT}cached{FAINT:#}");
            }
            Status::Cached => {}
            Status::Failed => self.tell_failure(instance, reason, attempts, failure),
            Status::Skipped | Status::Cancelled => {
                self.told += 1;
                if self.told <= TOLD || verbose {
                    let word = if status == Status::Skipped { "skipped" } else { "cancelled" };
                    let why = reason.map(|reason| format!(": {}", explain(reason))).unwrap_or_default();
                    self.say(format_args!("{instance}: {FAINT}{word}{FAINT:#}{why}"));
                }
            }
        }
    }

    fn tell_failure(&mut self, instance: &str, reason: Option<&Reason>, attempts: u32, failure: Option<&StepFailure>) {
        let mut why = failure.map_or_else(|| "it failed".into(), StepFailure::to_string);
        if attempts > 1 {
            let _ = write!(why, " (attempt {attempts})");
        }
        if reason == Some(&Reason::FailureAllowed) {
            why += " (allowed)";
        } else {
            self.failed.push((instance.to_owned(), why.clone()));
        }
        let _ = writeln!(self.lines, "{instance}: {ERROR}failed{ERROR:#}: {why}");
        let log = self.dir.join("logs").join(format!("{instance}.{attempts}.log"));
        if self.failed.len() <= DETAILED && attempts > 0 {
            if log.exists() {
                tail::append(&mut self.lines, &log);
                let shown = super::relative(&log);
                let _ = writeln!(self.lines, "  log: {shown}\n  all of it: mlctl logs {instance} --run {}", self.run);
            } else {
                self.lines.push_str("  it printed nothing\n");
            }
        }
    }
}

/// Why an instance was skipped or cancelled, in words.
pub(crate) fn explain(reason: &Reason) -> String {
    match reason {
        Reason::When => "its `when` is false".into(),
        Reason::DependencySkipped { instance } => format!("`{instance}` was skipped"),
        Reason::DependencyFailed { instance, allowed } => {
            format!("`{instance}` did not succeed{}", if *allowed { " (allowed)" } else { "" })
        }
        Reason::FailureAllowed => "its failure is allowed".into(),
        Reason::FailFast => "another instance had failed, and --fail-fast was given".into(),
        Reason::Cancelled => "the run was cancelled".into(),
        Reason::DeadlinePassed => "the run's deadline passed".into(),
        Reason::Interrupted => "the run was interrupted".into(),
    }
}

/// The summary of a run: how it ended, how many instances did what, and what it made.
pub(crate) fn summarise(
    ui: &Ui,
    run: &str,
    ended: &Ended,
    millis: u64,
    reused: Option<&str>,
) -> Result<(), CommandError> {
    if ui.format != super::Format::Text || ui.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let (style, words) = match ended.outcome {
        Outcome::Succeeded => (GOOD, "succeeded in"),
        Outcome::Failed => (ERROR, "failed after"),
        Outcome::TimedOut => (ERROR, "passed its deadline after"),
        Outcome::Cancelled => (WARNING, "was cancelled after"),
        Outcome::Interrupted => (WARNING, "was interrupted after"),
    };
    let mut text = format!("run {STRONG}{run}{STRONG:#} {style}{words}{style:#} {}", time::duration(millis));
    match reused {
        Some(base) => {
            let _ = writeln!(text, ": nothing to do, all {} are as run {base} made them", ended.tally.total);
        }
        None => {
            let _ = writeln!(text, ": {}", tally(&ended.tally));
        }
    }
    let highlights = &ended.highlights;
    for (name, value) in &highlights.values {
        let _ = writeln!(text, "  {name} = {}", super::clean::line(value.to_string().as_bytes(), 200));
    }
    for (name, value) in &highlights.metrics {
        let _ = writeln!(text, "  {name} = {}", super::clean::line(value.to_string().as_bytes(), 200));
    }
    if ended.outcome == Outcome::Succeeded {
        for (name, path) in &highlights.exported {
            let _ = writeln!(text, "  {name} -> {path}");
        }
    }
    if matches!(ended.outcome, Outcome::Cancelled | Outcome::Interrupted | Outcome::TimedOut) {
        let _ = writeln!(text, "{FAINT}what was done is kept: `mlctl run` goes on with the rest{FAINT:#}");
    } else if ended.tally.succeeded + ended.tally.cached > 0 {
        let _ = writeln!(text, "{FAINT}results: mlctl artifacts ls --run {run}{FAINT:#}");
    }
    ui.result(&text)
}

/// `5 succeeded, 12 cached, 1 failed`.
pub(crate) fn tally(tally: &Tally) -> String {
    counts(&[
        (tally.succeeded, "succeeded"),
        (tally.cached, "cached"),
        (tally.skipped, "skipped"),
        (tally.failed, "failed"),
        (tally.cancelled, "cancelled"),
    ])
}

/// Those of which there are any, in words.
pub(crate) fn counts(counts: &[(u64, &str)]) -> String {
    let some: Vec<String> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    if some.is_empty() { "no instances".into() } else { some.join(", ") }
}
