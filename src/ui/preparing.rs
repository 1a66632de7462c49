//! What is shown while environments and downloads are made ready: a line that changes on a terminal, a note for each
//! new piece of work elsewhere.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Ui;
use super::clean;
use super::style::{BUSY, FAINT};
use crate::environment::{Phase, Update};

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// The longest line of a tool that is worth showing.
const LINE: usize = 200;

/// Shows [`Update`]s. Whatever is drawn disappears with it.
pub(crate) struct Preparing<'a> {
    ui: &'a Ui,
    bar: ProgressBar,
    /// The work shown last, so that each is noted once.
    last: Mutex<Option<(Phase, String)>>,
}

impl<'a> Preparing<'a> {
    /// Nothing is drawn before there is something to show.
    pub(crate) fn new(ui: &'a Ui) -> Self {
        let target = if ui.draws_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { ui, bar, last: Mutex::new(None) }
    }

    /// Shows what happens now.
    pub(crate) fn update(&self, update: Update<'_>) {
        match update {
            Update::Warning(text) => self.bar.suspend(|| self.ui.warning(text)),
            Update::Working { phase, subject, line } => self.working(phase, subject, line),
        }
    }

    fn working(&self, phase: Phase, subject: &str, line: &str) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let new = last.as_ref().is_none_or(|(shown, of)| *shown != phase || of != subject);
        if new {
            *last = Some((phase, subject.to_owned()));
        }
        let verb = phase.verb();
        if self.bar.is_hidden() {
            if new {
                self.ui.note(&format!("{BUSY}{verb}{BUSY:#} {subject}"));
            }
            if !line.is_empty() {
                self.ui.detail(&format!("{FAINT}  {line}{FAINT:#}"));
            }
            return;
        }
        self.bar.enable_steady_tick(TURN);
        let line = clean::line(line.as_bytes(), LINE);
        self.bar.set_message(format!("{BUSY}{verb}{BUSY:#} {subject}  {FAINT}{line}{FAINT:#}"));
    }
}

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
