//! Printing steps' output: as it is into a pipe, made harmless on a terminal, with the instance before each line where
//! there are several.

use std::collections::HashMap;

use serde_json::json;

use super::source::LogFile;
use crate::error::CommandError;
use crate::ui::clean::Cleaner;
use crate::ui::style::BUSY;
use crate::ui::{Format, Ui};

/// A line is printed in pieces of at most this many bytes: steps may print lines of any length.
const LONGEST: usize = 64 * 1024;

/// Prints the output of one or several instances.
pub(super) struct Printer<'a> {
    ui: &'a Ui,
    /// The instance stands before each line.
    prefixed: bool,
    clean: bool,
    streams: HashMap<String, Stream>,
}

#[derive(Default)]
struct Stream {
    cleaner: Cleaner,
    /// The beginning of a line whose end is still to come.
    partial: Vec<u8>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(ui: &'a Ui, prefixed: bool) -> Self {
        let by_line = prefixed || ui.format == Format::Json;
        Self { ui, prefixed: by_line, clean: ui.stdout_is_terminal(), streams: HashMap::new() }
    }

    /// Prints all that there is of a log.
    pub(super) fn copy(&mut self, instance: &str, attempt: u32, log: &mut LogFile) -> Result<(), CommandError> {
        loop {
            let piece = log.next().map_err(|error| {
                CommandError::missing(format!("cannot read the log of `{instance}`")).because(&error)
            })?;
            let Some(piece) = piece else { return Ok(()) };
            if !self.streams.contains_key(instance) {
                self.streams.insert(instance.to_owned(), Stream::default());
            }
            let stream = self.streams.entry(instance.to_owned()).or_default();
            let cleaned;
            let piece = if self.clean {
                cleaned = stream.cleaner.clean(piece);
                cleaned.as_bytes()
            } else {
                piece
            };
            if self.prefixed {
                stream.partial.extend_from_slice(piece);
                let text = lines(self.ui, instance, attempt, &mut stream.partial);
                self.ui.result_bytes(&text)?;
            } else {
                self.ui.result_bytes(piece)?;
            }
        }
    }

    /// No more comes of this attempt.
    pub(super) fn end(&mut self, instance: &str, attempt: u32) -> Result<(), CommandError> {
        let Some(mut stream) = self.streams.remove(instance) else { return Ok(()) };
        if stream.partial.is_empty() {
            return Ok(());
        }
        stream.partial.push(b'\n');
        let text = lines(self.ui, instance, attempt, &mut stream.partial);
        self.ui.result_bytes(&text)
    }
}

/// Takes the whole lines, and what is too long to wait for its end.
fn lines(ui: &Ui, instance: &str, attempt: u32, partial: &mut Vec<u8>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut start = 0;
    loop {
        let rest = &partial[start..];
        let (line, next) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&rest[..end], start + end + 1),
            None if rest.len() > LONGEST => (rest, partial.len()),
            None => break,
        };
        if ui.format == Format::Json {
            let line = json!({ "instance": instance, "attempt": attempt, "line": String::from_utf8_lossy(line) });
            text.extend_from_slice(line.to_string().as_bytes());
        } else {
            text.extend_from_slice(ui.for_stdout(&format!("{BUSY}{instance} |{BUSY:#} ")).as_bytes());
            text.extend_from_slice(line);
            // A line must not colour the next one's prefix.
            if line.contains(&b'\x1b') {
                text.extend_from_slice(b"\x1b[0m");
            }
        }
        text.push(b'\n');
        start = next;
    }
    partial.drain(..start);
    text
}
