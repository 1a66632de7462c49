//! Where a part of a string stands in the file: escapes make the text shorter than its literal.

use std::ops::Range;

use super::reader::Text;
use crate::diag::Span;

/// The place of `part` (byte offsets into the decoded text) in the file.
pub(super) fn place(source: &str, text: Text<'_>, part: Range<usize>) -> Span {
    let Some(literal) = source.get(text.span.range()) else { return text.span };
    let multiline = literal.starts_with("\"\"\"") || literal.starts_with("'''");
    let mut at = if multiline { 3 } else { 1 };
    if multiline {
        // The newline right after the delimiter is not part of the text.
        at += ["\r\n", "\n"]
            .iter()
            .find(|newline| literal[at..].starts_with(**newline))
            .map_or(0, |newline| newline.len());
    }
    let escapes = literal.starts_with('"');
    let base = text.span.start as usize;
    let mut decoded = 0;
    let mut start = None;
    while decoded < part.end && at < literal.len() {
        if escapes {
            at += continuation(&literal[at..]);
        }
        if decoded >= part.start && start.is_none() {
            start = Some(at);
        }
        let (written, meant) = if escapes { escape(&literal[at..]) } else { plain(&literal[at..]) };
        at += written;
        decoded += meant;
    }
    let start = start.unwrap_or(at);
    Span::from(base + start..base + at.max(start))
}

/// The length of a backslash at the end of a line and the white space that it swallows.
fn continuation(rest: &str) -> usize {
    let Some(after) = rest.strip_prefix('\\') else { return 0 };
    let blank = after.len() - after.trim_start_matches([' ', '\t', '\r', '\n']).len();
    if after[..blank].contains('\n') { 1 + blank } else { 0 }
}

/// Bytes of the literal and bytes of the text of one character.
fn escape(rest: &str) -> (usize, usize) {
    let Some(after) = rest.strip_prefix('\\') else { return plain(rest) };
    let digits = match after.bytes().next() {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        _ => return (2, 1),
    };
    let code = after.get(1..=digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
}

fn plain(rest: &str) -> (usize, usize) {
    let length = rest.chars().next().map_or(1, char::len_utf8);
    (length, length)
}
