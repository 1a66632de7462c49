//! What the TOML parser says, as diagnostics.

use toml::de::Error;

use super::words::quote;
use crate::diag::{Diag, Span};

/// One diagnostic for each line with an error: what follows on a line is mostly a consequence.
pub(super) fn diags(text: &str, errors: &[Error]) -> Vec<Diag> {
    let mut diags: Vec<Diag> = errors.iter().map(|error| diag(text, error)).collect();
    diags.sort_by_key(|diag| diag.span);
    let mut last_line = None;
    // In a table that is there twice, keys are there twice.
    let mut doubled_until = 0;
    diags.retain(|diag| {
        let start = diag.span.start as usize;
        let line = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        if diag.code == "duplicate-key" {
            if start < doubled_until {
                return false;
            }
            if text[line..].trim_start().starts_with('[') {
                doubled_until = text[start..].find("\n[").map_or(text.len(), |length| start + length);
            }
        }
        last_line.replace(line) != Some(line)
    });
    diags
}

fn diag(text: &str, error: &Error) -> Diag {
    let range = error.span().unwrap_or_default();
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.ceil_char_boundary(range.end.clamp(start, text.len()));
    let span = Span::from(start..end);
    let written = &text[start..end];
    let diag = |message: String| Diag::error("syntax", span, message);
    match error.message() {
        said if said.contains("duplicate key") => {
            Diag { code: "duplicate-key", ..diag(format!("{} is set twice", quote(written))) }
                .help("remove one of them")
        }
        said if said.contains("string values must be quoted") && written.is_empty() => {
            diag("a value is missing".to_owned())
        }
        said if said.contains("string values must be quoted") => diag(format!("{} is not a value", quote(written)))
            .help(format!("strings are written in quotes: {written:?}")),
        said if said.contains("key with no value") => {
            diag("a key without a value".to_owned()).help("TOML is written `key = value`")
        }
        said if said.contains("recurs") => diag("more than 80 levels of nesting".to_owned()),
        said => diag(format!("not TOML: {said}")),
    }
}
