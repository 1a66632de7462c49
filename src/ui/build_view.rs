//! What is shown while images are made ready: on a terminal what runs and for how long, elsewhere a line for each step.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::style::{BUSY, ERROR, FAINT, GOOD, STRONG};
use super::{Ui, clean, size, time};
use crate::image::{End, Event, Origin};

/// How often what grows is drawn anew.
const TURN: Duration = Duration::from_millis(120);
/// The longest line of a step that is worth showing.
const LINE: usize = 120;
/// The most steps of one environment that are drawn.
const SHOWN: usize = 6;

/// Shows [`Event`]s. Whatever is drawn disappears with it.
pub(crate) struct BuildView<'a> {
    ui: &'a Ui,
    bar: ProgressBar,
    state: Arc<Mutex<State>>,
    ticker: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

/// What is known of each environment.
#[derive(Default)]
struct State(IndexMap<String, Environment>);

struct Environment {
    began: Instant,
    /// What is done where no step runs.
    doing: String,
    steps: IndexMap<String, Step>,
    done: usize,
    cached: usize,
    /// The beginnings of lines that are not whole yet, by step.
    cut: HashMap<String, Vec<u8>>,
    /// Somebody else was building it.
    waited: bool,
    over: bool,
}

struct Step {
    name: String,
    began: Instant,
    /// What it printed last, or how far it is.
    last: String,
}

impl<'a> BuildView<'a> {
    /// Nothing is drawn before there is something to show.
    pub(crate) fn new(ui: &'a Ui) -> Self {
        let target = if ui.draws_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { ui, bar, state: Arc::default(), ticker: Mutex::default() }
    }

    /// Shows what happens to an environment.
    pub(crate) fn update(&self, environment: &str, event: Event<'_>) {
        let mut state = lock(&self.state);
        if !state.0.contains_key(environment) {
            if matches!(event, Event::Ready(Origin::Found) | Event::Loaded { sent: 0, .. } | Event::Pushed(0)) {
                return;
            }
            state.0.insert(environment.to_owned(), Environment::new());
        }
        if let Event::Warning(text) = event {
            drop(state);
            return self.bar.suspend(|| self.ui.warning(text));
        }
        let Some(at) = state.0.get_mut(environment) else { return };
        let lines = at.take(environment, event);
        if !lines.is_empty() && !self.bar.is_hidden() {
            self.bar.set_message(state.compose());
        }
        drop(state);
        for line in lines {
            match line {
                Line::Note(text) => self.bar.suspend(|| self.ui.note(&text)),
                // On a terminal it is seen while it happens.
                Line::Plain(text) if self.bar.is_hidden() => self.ui.note(&text),
                Line::Plain(text) | Line::Detail(text) => self.bar.suspend(|| self.ui.detail(&text)),
            }
        }
        self.draw_on();
    }

    /// Keeps what is drawn up to date.
    fn draw_on(&self) {
        let mut ticker = lock(&self.ticker);
        if self.bar.is_hidden() || ticker.is_some() {
            return;
        }
        let (stop, stopped) = mpsc::channel();
        let (bar, state) = (self.bar.clone(), Arc::clone(&self.state));
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
                bar.set_message(lock(&state).compose());
                bar.tick();
            }
        });
        *ticker = Some((stop, thread));
    }
}

impl Drop for BuildView<'_> {
    fn drop(&mut self) {
        if let Some((stop, thread)) = lock(&self.ticker).take() {
            drop(stop);
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

/// A line to print.
enum Line {
    /// Anywhere.
    Note(String),
    /// Where nothing is drawn.
    Plain(String),
    /// For those who want to see everything.
    Detail(String),
}

impl Environment {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            doing: String::new(),
            steps: IndexMap::new(),
            done: 0,
            cached: 0,
            cut: HashMap::new(),
            waited: false,
            over: false,
        }
    }

    /// Takes note of an event; gives what is to be printed of it.
    fn take(&mut self, name: &str, event: Event<'_>) -> Vec<Line> {
        let head = format!("{STRONG}{name}{STRONG:#}");
        match event {
            Event::Waiting => {
                self.waited = true;
                self.doing = "the same is being built: waiting for it".to_owned();
                vec![Line::Plain(format!("{head}  {}", self.doing))]
            }
            Event::Pulling(what) => self.transfer(&head, "pulling", what),
            Event::Pushing(what) => self.transfer(&head, "pushing", what),
            Event::Sending(bytes) => {
                self.doing = format!("sending the context, {}", size(bytes));
                Vec::new()
            }
            Event::Loading(bytes) => self.loading(&head, bytes),
            Event::Loaded { sent: 0, .. } | Event::Pushed(0) => {
                self.over = true;
                Vec::new()
            }
            Event::Pushed(sent) => {
                self.over = true;
                vec![Line::Note(format!("{head}  {GOOD}pushed: {}{GOOD:#}", size(sent)))]
            }
            Event::Loaded { sent, left_out } => {
                self.over = true;
                let there = if left_out > 0 { format!(", {} were there", size(left_out)) } else { String::new() };
                vec![Line::Note(format!("{head}  {GOOD}loaded into the cluster: {} sent{there}{GOOD:#}", size(sent)))]
            }
            Event::Step { id, name } => {
                let step = Step { name: plain(name), began: Instant::now(), last: String::new() };
                let text = format!("{head}  {BUSY}{}{BUSY:#}", step.name);
                self.steps.insert(id.to_owned(), step);
                if !is_internal(name) {
                    self.doing.clear();
                }
                vec![if is_internal(name) { Line::Detail(text) } else { Line::Plain(text) }]
            }
            Event::Ended { id, name, end } => self.ended(&head, id, &plain(name), end),
            Event::Status { id, text } => {
                if let Some(step) = self.steps.get_mut(id) {
                    step.last = clean::line(text.as_bytes(), LINE);
                }
                Vec::new()
            }
            Event::Output { id, text } => self.output(&head, id, text),
            Event::Ready(origin) => {
                self.over = true;
                self.steps.clear();
                let took = time::duration(millis(self.began));
                let steps = super::count((self.done + self.cached) as u64, "step");
                let how = match origin {
                    // What was there is not worth a line, unless somebody waited for it.
                    Origin::Found if !self.waited => return Vec::new(),
                    Origin::Found => format!("built by another mlctl, waited {took}"),
                    Origin::Fetched => format!("pulled in {took}"),
                    Origin::Built => format!("built in {took}: {steps}, {} of them cached", self.cached),
                };
                vec![Line::Note(format!("{head}  {GOOD}{how}{GOOD:#}"))]
            }
            Event::Warning(_) => Vec::new(),
        }
    }

    fn loading(&mut self, head: &str, bytes: u64) -> Vec<Line> {
        const DOING: &str = "loading into the cluster";
        let first = !self.doing.starts_with(DOING);
        self.over = false;
        self.doing = format!("{DOING}, {}", size(bytes));
        if first { vec![Line::Plain(format!("{head}  {DOING}"))] } else { Vec::new() }
    }

    fn transfer(&mut self, head: &str, verb: &str, what: &str) -> Vec<Line> {
        let first = !self.doing.starts_with(verb);
        self.doing = format!("{verb} {}", plain(what));
        let text = format!("{head}  {}", self.doing);
        vec![if first { Line::Plain(text) } else { Line::Detail(text) }]
    }

    fn ended(&mut self, head: &str, id: &str, name: &str, end: End) -> Vec<Line> {
        // The last line may have no end.
        let mut lines =
            if self.cut.get(id).is_some_and(|cut| !cut.is_empty()) { self.output(head, id, b"\n") } else { Vec::new() };
        self.cut.remove(id);
        let step = self.steps.shift_remove(id);
        let counts = !is_internal(name);
        let how = match end {
            End::Cached => {
                self.cached += usize::from(counts);
                format!("{FAINT}cached{FAINT:#}")
            }
            End::Done(took) => {
                self.done += usize::from(counts);
                // The classic builder does not say.
                let own = step.map_or(took, |step| took.max(step.began.elapsed()));
                format!("{GOOD}done{GOOD:#} in {}", time::duration(u64::try_from(own.as_millis()).unwrap_or(0)))
            }
            End::Failed => format!("{ERROR}failed{ERROR:#}"),
        };
        let text = format!("{head}  {name}  {how}");
        lines.push(if counts { Line::Plain(text) } else { Line::Detail(text) });
        lines
    }

    fn output(&mut self, head: &str, id: &str, text: &[u8]) -> Vec<Line> {
        let cut = self.cut.entry(id.to_owned()).or_default();
        cut.extend_from_slice(text);
        let whole = cut.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<String> = cut[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| clean::line(line, LINE))
            .collect();
        cut.drain(..whole);
        // A line that never ends is not kept.
        cut.truncate(8 * LINE);
        if let (Some(step), Some(last)) = (self.steps.get_mut(id), lines.last()) {
            step.last.clone_from(last);
        }
        lines.into_iter().map(|line| Line::Detail(format!("{head}  {FAINT}{line}{FAINT:#}"))).collect()
    }
}

impl State {
    fn compose(&self) -> String {
        let mut text = String::new();
        for (name, at) in self.0.iter().filter(|(_, at)| !at.over) {
            let all = time::elapsed(millis(at.began));
            let _ =
                writeln!(text, "{BUSY}building{BUSY:#} {STRONG}{name}{STRONG:#}  {all}  {FAINT}{}{FAINT:#}", at.doing);
            let more = at.steps.len().saturating_sub(SHOWN);
            for step in at.steps.values().skip(more) {
                let took = time::elapsed(millis(step.began));
                let _ = writeln!(text, "  {}  {took}  {FAINT}{}{FAINT:#}", step.name, step.last);
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Steps of the builder's own, of which people need not know.
fn is_internal(name: &str) -> bool {
    name.starts_with("[internal]") || name.starts_with("copy /context") || name.starts_with("exporting")
}

/// One line, harmless.
fn plain(text: &str) -> String {
    clean::line(text.replace(['\n', '\t'], " ").as_bytes(), LINE)
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
