//! Paths of a spec: relative, inside their root, never one inside another's.

use super::reader::{Reader, Text};
use super::words::quote;
use crate::diag::{Diag, Span};

/// Reads a path relative to its root, without `.` parts and a trailing slash.
pub(crate) fn relative(reader: &mut Reader<'_>, key: &str, path: Text<'_>) -> Option<String> {
    let fail = |reader: &mut Reader<'_>, problem: &str, help: &str| {
        let message = format!("{}: {problem}", quote(key));
        reader.push(Diag::error("bad-path", path.span, message).help(help));
        None
    };
    if path.text.contains("{{") {
        return fail(reader, "references are not replaced here", "write a plain path");
    }
    if path.text.starts_with('/') {
        return fail(reader, "the path is absolute", "write it relative, so that it holds on every machine");
    }
    if path.text.contains('\0') {
        return fail(reader, "a path cannot contain a NUL character", "remove it");
    }
    let parts: Vec<_> = path.text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return fail(reader, "the path leads out", "remove `..`");
    }
    if parts.is_empty() {
        return fail(reader, "the path is empty", "name a file or a directory");
    }
    Some(parts.join("/"))
}

/// A relative path that is not mlctl's own.
pub(crate) fn of_project(reader: &mut Reader<'_>, key: &str, path: Text<'_>) -> Option<String> {
    let relative = relative(reader, key, path)?;
    let first = relative.split('/').next().unwrap_or_default();
    if first == ".git" {
        let message = format!("{}: {} belongs to git", quote(key), quote(&relative));
        reader.push(Diag::error("bad-path", path.span, message).help("choose another path"));
        return None;
    }
    if first == ".mlctl" || ["mlctl.toml", "mlctl.lock", "mlctl.local.toml"].contains(&relative.as_str()) {
        let message = format!("{}: {} belongs to mlctl", quote(key), quote(&relative));
        reader.push(Diag::error("bad-path", path.span, message).help("choose another path"));
        return None;
    }
    Some(relative)
}

/// A path that something will stand at.
pub(crate) struct Occupied {
    pub(crate) path: String,
    pub(crate) span: Span,
    /// Who is there: "output `model`".
    pub(crate) by: String,
}

/// Refuses two at one path, and one inside another. Takes n log n.
pub(crate) fn check_disjoint(reader: &mut Reader<'_>, mut paths: Vec<Occupied>) {
    // By parts, so that what lies inside a directory follows it directly.
    paths.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')).then(a.span.cmp(&b.span)));
    let mut outer: Option<&Occupied> = None;
    for inner in &paths {
        let Some(held) = outer.filter(|outer| contains(&outer.path, &inner.path)) else {
            outer = Some(inner);
            continue;
        };
        let message = if held.path == inner.path {
            format!("{} and {} have the same path {}", held.by, inner.by, quote(&held.path))
        } else {
            format!("{} at {} is inside {} at {}", inner.by, quote(&inner.path), held.by, quote(&held.path))
        };
        let (first, second) = if held.span <= inner.span { (held, inner) } else { (inner, held) };
        reader.push(Diag::error("same-path", second.span, message).related(first.span, "the other one"));
    }
}

/// Whether `inner` is `outer` or lies inside it.
fn contains(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
