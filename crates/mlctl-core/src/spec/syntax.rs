//! What the TOML parser says, as diagnostics.

use toml::de::Error;

use crate::diag::{Diag, Span};

/// One diagnostic for each line with an error: what follows on a line is mostly a consequence.
pub(super) fn diags(text: &str, errors: &[Error]) -> Vec<Diag> {
    let mut diags: Vec<Diag> = errors.iter().map(diag).collect();
    diags.sort_by_key(|diag| diag.span);
    let mut last_line = None;
    diags.retain(|diag| {
        let line_start =
            text.as_bytes()[..(diag.span.start as usize).min(text.len())].iter().rposition(|byte| *byte == b'\n');
        last_line.replace(line_start) != Some(line_start)
    });
    diags
}

fn diag(error: &Error) -> Diag {
    let span = error.span().map(Span::from).unwrap_or_default();
    let diag = Diag::error("syntax", span, format!("not TOML: {}", error.message()));
    if error.message().contains("duplicate key") {
        return Diag { message: "this key stands twice".to_owned(), code: "duplicate-key", ..diag };
    }
    diag
}
