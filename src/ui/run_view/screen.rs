//! What is drawn on a terminal: what runs and for how long, how far the run is, and what is next.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use indexmap::IndexMap;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use unicode_width::UnicodeWidthChar;

use super::{Running, tail};
use crate::record::Tally;
use crate::ui::style::{BUSY, ERROR, FAINT, GOOD};
use crate::ui::time;

/// The most instances that are drawn.
const SHOWN: usize = 10;
/// The width of the bar.
const BAR: usize = 24;

/// The drawn part of a run's view.
pub(super) struct Screen {
    bar: ProgressBar,
    began: u64,
    /// In the plan's order; those before `next` have begun.
    order: Vec<String>,
    next: usize,
    begun: HashSet<String>,
}

impl Screen {
    pub(super) fn new(order: Vec<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { bar, began: time::now(), order, next: 0, begun: HashSet::new() }
    }

    /// Instances that became known.
    pub(super) fn add(&mut self, instances: &[String]) {
        self.order.extend_from_slice(instances);
    }

    /// An instance that is not "next" any more.
    pub(super) fn begun(&mut self, instance: &str) {
        self.begun.insert(instance.to_owned());
        while self.order.get(self.next).is_some_and(|next| self.begun.remove(next)) {
            self.next += 1;
        }
    }

    /// Does something while nothing is drawn.
    pub(super) fn above(&self, act: impl FnOnce()) {
        self.bar.suspend(act);
    }

    /// Removes what was drawn.
    pub(super) fn clear(self) {
        self.bar.finish_and_clear();
    }

    /// Draws anew.
    pub(super) fn draw(&self, text: String) {
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// What is to be drawn.
    pub(super) fn compose(
        &self,
        dir: &Path,
        tally: &Tally,
        running: &IndexMap<String, Running>,
        failed: usize,
    ) -> String {
        let now = time::now();
        // Some terminals do not know their size, and say 0.
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok().filter(|size| size.ws_col > 0);
        let columns = size.map_or(80, |size| usize::from(size.ws_col)).clamp(20, 400);
        let rows = size.map_or(24, |size| usize::from(size.ws_row));
        let shown = SHOWN.min(rows.saturating_sub(3)).max(1);
        let mut text = String::new();
        for (id, instance) in running.iter().take(shown) {
            let elapsed = time::elapsed(now.saturating_sub(instance.started));
            let again = if instance.attempt > 1 { format!(" (attempt {})", instance.attempt) } else { String::new() };
            let head = format!("  {id}{again}  {elapsed}");
            let room = columns.saturating_sub(head.len() + 4);
            let log = dir.join("logs").join(format!("{id}.{}.log", instance.attempt));
            let said = tail::last_line(&log, room).map(|line| plain(&line)).unwrap_or_default();
            let line = fit(&format!("{head}  {said}"), columns - 1);
            let (head, said) = line.split_at(line.len().min(head.len()));
            let _ = writeln!(text, "{BUSY}{head}{BUSY:#}{FAINT}{said}{FAINT:#}");
        }
        if running.len() > shown {
            let _ = writeln!(text, "  {FAINT}... and {} more{FAINT:#}", running.len() - shown);
        }
        text.push_str(&self.status(
            tally,
            running.len(),
            failed,
            time::elapsed(now.saturating_sub(self.began)),
            columns,
        ));
        text
    }

    fn status(&self, tally: &Tally, running: usize, failed: usize, elapsed: String, columns: usize) -> String {
        let done = tally.done().min(tally.total);
        let filled = (done * BAR as u64).checked_div(tally.total).unwrap_or(0) as usize;
        let mut words = format!(" {done}/{} done, {running} running", tally.total);
        if tally.cached > 0 {
            let _ = write!(words, ", {} cached", tally.cached);
        }
        if failed > 0 {
            let _ = write!(words, ", {failed} failed");
        }
        let _ = write!(words, "  {elapsed}");
        if let Some(next) = self.order[self.next.min(self.order.len())..].iter().find(|id| !self.begun.contains(*id)) {
            let _ = write!(words, "  next: {next}");
        }
        let words = fit(&words, columns.saturating_sub(BAR + 1));
        let style = if failed > 0 { ERROR } else { GOOD };
        format!("{style}{}{style:#}{FAINT}{}{FAINT:#}{words}", "━".repeat(filled), "─".repeat(BAR - filled))
    }
}

/// Without colours, so that it can be cut anywhere.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string().replace('\t', " ")
}

/// As much of a text as fits into so many columns.
fn fit(text: &str, columns: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|character| {
            used += character.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_columns_not_by_bytes() {
        assert_eq!(fit("日本語", 4), "日本");
        assert_eq!(fit("abc", 2), "ab");
    }

    #[test]
    fn what_is_next_is_the_first_in_the_plan_that_has_not_begun() {
        let mut screen = Screen::new(vec!["a".into(), "b".into(), "c".into()]);
        let next = |screen: &Screen| screen.status(&Tally { total: 3, ..Tally::default() }, 0, 0, "0s".into(), 120);
        assert!(next(&screen).ends_with("next: a"));
        screen.begun("b");
        assert!(next(&screen).ends_with("next: a"));
        screen.begun("a");
        assert!(next(&screen).ends_with("next: c"));
        screen.begun("c");
        assert!(!next(&screen).contains("next"));
        screen.begun("c");
        screen.add(&["d".into()]);
        assert!(next(&screen).ends_with("next: d"));
    }
}
