//! The few styles there are, by meaning. `{ERROR}text{ERROR:#}` in a format string.

use anstyle::{AnsiColor, Style};

/// What failed.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What may not be meant.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What to do next.
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What is happening.
pub(crate) const BUSY: Style = AnsiColor::Cyan.on_default();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// Headings and names.
pub(crate) const STRONG: Style = Style::new().bold();
