//! Durations as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long: `40ms`, `3.2s`, `2m05s`, `3h04m`, `2d03h`.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{}s", millis % 1000 / 100),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// How long ago: `3m05s ago`.
pub(crate) fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) {
        0..1000 => "just now".into(),
        millis => format!("{} ago", elapsed(millis)),
    }
}

/// How long so far, in whole seconds: for what is redrawn while it grows.
pub(crate) fn elapsed(millis: u64) -> String {
    if millis < 60_000 { format!("{}s", millis / 1000) } else { duration(millis) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let shown = [0, 999, 1000, 59_999, 60_000, 3_599_999, 3_600_000, 86_400_000, 180_000_000].map(duration);
        assert_eq!(shown, ["0ms", "999ms", "1.0s", "59.9s", "1m00s", "59m59s", "1h00m", "1d00h", "2d02h"]);
    }
}
