//! What is shown while objects travel: on a terminal a bar, elsewhere nothing.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlctl_remote::{Amount, Watch};

use super::Ui;
use super::style::BUSY;

/// How often what does not move is drawn anew.
const TURN: Duration = Duration::from_millis(200);

/// Shows one transfer. Whatever is drawn disappears with it.
pub(crate) struct Transfer {
    bar: ProgressBar,
}

impl Transfer {
    /// Nothing is drawn where nothing travels.
    pub(crate) fn new(ui: &Ui, verb: &str, amount: Amount) -> Self {
        let drawn = ui.draws_progress() && amount.objects > 0;
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(amount.bytes), target);
        let template = "{msg} {bar:24} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("{BUSY}{verb}{BUSY:#}"));
        if drawn {
            bar.enable_steady_tick(TURN);
        }
        Self { bar }
    }

    /// Told what has moved.
    pub(crate) fn watch(&self) -> Watch {
        let bar = self.bar.clone();
        Arc::new(move |moved: Amount| bar.inc(moved.bytes))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
