//! All printing: results to stdout, everything else to stderr.
//!
//! Texts are composed with styles; whether the colours survive is decided when they are written. A reader that went
//! away is a quiet end ([`Kind::ClosedPipe`]), never a panic.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anstream::AutoStream;
use clap::ValueEnum;
use mlctl_core::diag::{Diag, Source, render};
use serde::Serialize;

use crate::error::{CommandError, Kind};

pub(crate) mod build_view;
pub(crate) mod clean;
pub(crate) mod preparing;
pub(crate) mod prompt;
pub(crate) mod run_view;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod transfer;

use style::{ERROR, HINT, WARNING};

/// When to use colours. (What clap would show as help of the values stands behind `//`: they explain themselves.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    // On a terminal, unless NO_COLOR says otherwise.
    #[default]
    Auto,
    Always,
    Never,
}

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One document; one a line where the command follows something.
    Json,
    /// Names only, one a line.
    Name,
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// What matters.
    #[default]
    Normal,
    /// Every event.
    Verbose,
}

/// The one object that prints.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    /// The form of results.
    pub(crate) format: Format,
    /// How much is said on stderr.
    pub(crate) verbosity: Verbosity,
    stdout: Manner,
    stderr: Manner,
}

/// How a stream wants its texts.
#[derive(Debug, Clone, Copy)]
struct Manner {
    color: bool,
    terminal: bool,
}

impl Manner {
    fn of(stream: &(impl IsTerminal + anstream::stream::RawStream), color: Color) -> Self {
        let color = match color {
            Color::Auto => AutoStream::choice(stream) != anstream::ColorChoice::Never,
            Color::Always => true,
            Color::Never => false,
        };
        Self { color, terminal: IsTerminal::is_terminal(stream) }
    }

    /// A text as the stream wants it. What stands in it may come from anywhere (a file's name, a param): on a terminal
    /// it must not be able to do more than to be seen.
    fn dress<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self {
            Self { color: false, .. } => plain(text).into(),
            Self { terminal: true, .. } => clean::Cleaner::default().clean(text.as_bytes()).into(),
            _ => text.into(),
        }
    }
}

/// Without control sequences, and without control characters but line breaks and tabs.
fn plain(text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    clean::Cleaner::default().clean(text.as_bytes())
}

impl Ui {
    /// Decides once where colours go.
    pub(crate) fn new(color: Color, format: Format, verbosity: Verbosity) -> Self {
        Self { format, verbosity, stdout: Manner::of(&io::stdout(), color), stderr: Manner::of(&io::stderr(), color) }
    }

    /// Whether results are read by a program.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether progress can be drawn: stderr is a terminal that understands it, and someone wants to see it.
    pub(crate) fn draws_progress(&self) -> bool {
        let capable = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        self.verbosity > Verbosity::Quiet && capable && self.stderr.terminal
    }

    /// Whether results go to a terminal: then steps' output is made harmless.
    pub(crate) const fn stdout_is_terminal(&self) -> bool {
        self.stdout.terminal
    }

    /// Writes a result.
    pub(crate) fn result(&self, text: &str) -> Result<(), CommandError> {
        self.result_bytes(self.for_stdout(text).as_bytes())
    }

    /// Writes a result as it is: a step's log, an artifact.
    pub(crate) fn result_bytes(&self, bytes: &[u8]) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CommandError::new(Kind::ClosedPipe, ""),
            _ => CommandError::missing("cannot write to stdout").because(&error),
        })
    }

    /// Writes a result as it is, piece by piece, from a file of any size.
    pub(crate) fn result_from(&self, from: &mut impl io::Read) -> Result<(), CommandError> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.result_bytes(&buffer[..read])?,
                Err(error) => return Err(CommandError::missing("cannot read the file").because(&error)),
            }
        }
    }

    /// A text as stdout wants it.
    pub(crate) fn for_stdout<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.stdout.dress(text)
    }

    /// A text as stderr wants it.
    pub(crate) fn for_stderr<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.stderr.dress(text)
    }

    /// Writes a result as one JSON document.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), CommandError> {
        self.result(&(to_json(value, true) + "\n"))
    }

    /// Writes a result as one line of JSON.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> Result<(), CommandError> {
        self.result(&(to_json(value, false) + "\n"))
    }

    /// Writes a result as YAML.
    pub(crate) fn yaml(&self, value: &impl Serialize) -> Result<(), CommandError> {
        self.result(&to_yaml(value)?)
    }

    /// Says something that helps, unless `-q`.
    pub(crate) fn note(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.stderr(&format!("{text}\n"));
        }
    }

    /// Says something that only `-v` wants.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbosity == Verbosity::Verbose {
            self.stderr(&format!("{text}\n"));
        }
    }

    /// Warns, unless `-q`.
    pub(crate) fn warning(&self, text: &str) {
        self.note(&format!("{WARNING}warning{WARNING:#}: {text}"));
    }

    /// Shows warnings about a text, unless `-q`.
    pub(crate) fn warnings(&self, source: &Source, warnings: &[Diag]) {
        if self.verbosity > Verbosity::Quiet {
            self.stderr(&render(source, warnings, true));
        }
    }

    /// Shows an error: the findings, what failed, why, and what to do next.
    pub(crate) fn error(&self, error: &CommandError) {
        if error.kind == Kind::ClosedPipe {
            return;
        }
        let mut text = String::new();
        for (source, diags) in &error.diags {
            text += &render(source, diags, true);
        }
        if !error.message.is_empty() {
            let _ = writeln!(text, "{ERROR}error{ERROR:#}: {}", error.message);
        }
        for cause in &error.causes {
            let _ = writeln!(text, "  because: {}", cause.replace('\n', "\n           "));
        }
        for hint in &error.hints {
            let _ = writeln!(text, "{HINT}help{HINT:#}: {}", hint.replace('\n', "\n      "));
        }
        self.stderr(&text);
    }

    /// Writes to stderr; that nobody reads it is no reason to stop.
    pub(crate) fn stderr(&self, text: &str) {
        let _ = io::stderr().lock().write_all(self.for_stderr(text).as_bytes());
    }
}

/// Texts that readers of YAML 1.1 would take for something else, as a bare `n`, are in quotes.
fn to_yaml(value: &impl Serialize) -> Result<String, CommandError> {
    let options = serde_saphyr::ser_options! { yaml_12: false, prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| CommandError::failed("cannot write YAML").because(&error))
}

/// A value that a report holds always has a JSON form: reports have text keys and finite numbers.
fn to_json(value: &impl Serialize, pretty: bool) -> String {
    let json = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    json.unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }).to_string())
}

/// A number and what is counted, in the right form: `1 step`, `2 steps`.
pub(crate) fn count(number: u64, singular: &str) -> String {
    if number == 1 { format!("1 {singular}") } else { format!("{number} {singular}s") }
}

/// A path as people know it: relative to where they are, where it is below.
pub(crate) fn relative(path: &std::path::Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// A number of bytes: `17 B`, `3.4 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut rest = bytes as f64;
    let mut unit = "B";
    for larger in units {
        if rest < 1024.0 {
            break;
        }
        rest /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{rest:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts_whatever_reads_the_yaml() {
        let texts =
            ["n", "y", "on", "No", "null", "~", "1", "1.0", "1e3", "0x1f", "0o7", "1_000", "1:30", "2026-01-01"];
        for text in
            texts.into_iter().chain(["", " a", "a: b", "a #b", "- a", "{a", "'a", "\"a", "@a", "a\nb\n", "=", "<<"])
        {
            let yaml = to_yaml(&serde_json::json!({ "key": text })).unwrap();
            let value = yaml.trim_end().strip_prefix("key: ").unwrap();
            assert!(value.starts_with(['"', '\'']), "{text:?}: {yaml}");
        }
        assert_eq!(to_yaml(&serde_json::json!({ "n": ["a-b/c", 1, true] })).unwrap(), "\"n\":\n- a-b/c\n- 1\n- true\n");
    }
}
