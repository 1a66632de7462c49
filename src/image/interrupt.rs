//! Ctrl-C while a daemon or a registry works for us.

use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::error::{CommandError, Kind};

/// Waits for `work`, unless a signal comes first: then it is dropped, and with it the connections by which they
/// know that somebody waits for what they do.
pub(super) fn unless<T>(runtime: &Runtime, work: impl Future<Output = T>) -> Result<T, CommandError> {
    let cannot = |error: std::io::Error| CommandError::missing("cannot listen for signals").because(&error);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(cannot)?;
    let handle = signals.handle();
    let interrupted = Arc::new(Notify::new());
    let notify = Arc::clone(&interrupted);
    let listener = std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            notify.notify_one();
        }
    });
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = work => Some(ended),
            () = interrupted.notified() => None,
        }
    });
    handle.close();
    let _ = listener.join();
    ended.ok_or_else(|| CommandError::new(Kind::Interrupted, "interrupted: nothing was left half made"))
}
