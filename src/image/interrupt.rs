//! Ctrl-C while the daemon works for us.

use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::sync::Notify;

use crate::error::{CommandError, Kind};
use crate::platform::docker::Daemon;

/// Waits for `work`, unless a signal comes first: then it is dropped, and with it the connections by which the daemon
/// knows that somebody waits for what it does.
pub(super) fn unless<T>(daemon: &Daemon, work: impl Future<Output = T>) -> Result<T, CommandError> {
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
    let ended = daemon.block_on(async {
        tokio::select! {
            ended = work => Some(ended),
            () = interrupted.notified() => None,
        }
    });
    handle.close();
    let _ = listener.join();
    ended.ok_or_else(|| CommandError::new(Kind::Interrupted, "interrupted: nothing was left half made"))
}
