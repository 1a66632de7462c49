//! Names: what may be called what.

use super::reader::Reader;
use super::words::quote;
use crate::diag::{Diag, Span};

/// Words that conditions and references use themselves.
const RESERVED: &[&str] = &["params", "matrix", "run", "and", "or", "not", "in", "true", "false"];
/// A name becomes part of variables, directories and Kubernetes objects.
const MAX_LENGTH: usize = 63;

/// Whether hyphens may stand in a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hyphens {
    Allowed,
    Refused,
}

/// Refuses what is no name; the value is used nevertheless, so that what refers to it is not reported as well.
pub(crate) fn check(reader: &mut Reader<'_>, what: &str, name: &str, span: Span, hyphens: Hyphens) {
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || (c == '-' && hyphens == Hyphens::Allowed);
    if RESERVED.contains(&name) {
        let message = format!("{what} cannot be called {}: the word is reserved", quote(name));
        reader.push(Diag::error("reserved-name", span, message).help(format!("for example `{name}_1`")));
    } else if name.len() > MAX_LENGTH {
        let message = format!("{what} has a name of {} characters", name.len());
        reader.push(Diag::error("bad-name", span, message).help(format!("at most {MAX_LENGTH} are allowed")));
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(allowed) {
        let rule = match hyphens {
            Hyphens::Allowed => "lower-case letters, digits, `_` and `-`, a letter first",
            Hyphens::Refused => "lower-case letters, digits and `_`, a letter first",
        };
        let help = match repaired(name, hyphens) {
            Some(name) => format!("a name has {rule}: `{name}`"),
            None => format!("a name has {rule}"),
        };
        reader.push(Diag::error("bad-name", span, format!("{what} cannot be called {}", quote(name))).help(help));
    }
}

/// The name that was probably meant.
fn repaired(name: &str, hyphens: Hyphens) -> Option<String> {
    let separator = if hyphens == Hyphens::Allowed { '-' } else { '_' };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { separator };
    let repaired: String = name.chars().map(plain).collect();
    repaired.starts_with(|c: char| c.is_ascii_lowercase()).then_some(repaired)
}

/// Refuses what cannot be an environment variable of a step.
pub(crate) fn check_variable(reader: &mut Reader<'_>, name: &str, span: Span) {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
        let message = format!("{} cannot be an environment variable", quote(name));
        reader.push(Diag::error("bad-variable", span, message).help("use letters, digits and `_`, no digit first"));
    } else if name.starts_with("MLCTL_") || ["HOME", "TMPDIR"].contains(&name) {
        let message = format!("{} is set by mlctl", quote(name));
        reader.push(Diag::error("reserved-variable", span, message).help("choose another name"));
    }
}
