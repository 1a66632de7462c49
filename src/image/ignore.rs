//! `.dockerignore`: what of a directory is a build's context, as BuildKit reads it.
//!
//! One pattern a line; the last that matches decides; `!` takes back. A pattern matches from the context's root (`foo`
//! is not `sub/foo`), and what lies below what it matches. Patterns are those of Go's `filepath.Match`, with `**` for any
//! number of directories. Where Docker's own code departs from that (see [`pattern`]) so do we: a context must hold the
//! same files whoever builds.

mod pattern;
mod regexp;

use mlctl_core::diag::{Diag, Source, Span};

use crate::error::CommandError;
use pattern::{Name, Pattern};

/// The patterns of an ignore file.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    patterns: Vec<Pattern>,
    /// No `!` pattern has wildcards but for a last `/*` or `/**`: so one can tell below which directories they match.
    plain_exceptions: bool,
}

/// Which patterns matched a directory: they match what is in it as well.
#[derive(Debug)]
pub(crate) struct Matched(Vec<bool>);

impl Rules {
    /// Reads an ignore file, which people know as `name`.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self, CommandError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut patterns = Vec::new();
        let mut wrong = Vec::new();
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            match pattern::parse(line) {
                Ok(pattern) => patterns.extend(pattern),
                Err(problem) => wrong.push((number, problem)),
            }
        }
        if wrong.is_empty() {
            let plain_exceptions = patterns.iter().filter(|p| p.exception).all(Pattern::is_plain);
            return Ok(Self { patterns, plain_exceptions });
        }
        let source = Source { name: name.to_owned(), text: String::from_utf8_lossy(bytes).into_owned() };
        let diags = wrong.into_iter().map(|(number, problem)| {
            Diag::error("bad-pattern", line_span(&source.text, number), problem.to_string())
                .help("`\\` before a character takes it literally; a set is closed by `]`")
        });
        let diags = diags.collect();
        Err(CommandError::diags(source, diags))
    }

    /// Whether this path is excluded, and what to ask with about paths in it. `parent` is what that was for the
    /// directory it is in, unless that is the root.
    pub(crate) fn excludes(&self, path: &[u8], parent: Option<&Matched>) -> (bool, Matched) {
        let name = Name::new(path);
        let mut excluded = false;
        let mut matched = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.0[index]);
            // A pattern that would change nothing is not asked, and then not known to match what is below either.
            // Docker's code does so: with `a`, `!a/b`, `a` the file `a/b` is in the context.
            if !inherited && pattern.exception != excluded {
                continue;
            }
            matched[index] = inherited || pattern.matches(&name);
            if matched[index] {
                excluded = !pattern.exception;
            }
        }
        (excluded, Matched(matched))
    }

    /// The texts of the `!` patterns.
    #[cfg(test)]
    pub(crate) fn exceptions(&self) -> Vec<Vec<u8>> {
        self.patterns.iter().filter(|pattern| pattern.exception).map(|pattern| pattern.text.clone()).collect()
    }

    /// Whether something below this directory, itself excluded, may be in the context all the same.
    pub(crate) fn may_except_below(&self, directory: &[u8]) -> bool {
        let mut exceptions = self.patterns.iter().filter(|pattern| pattern.exception).peekable();
        exceptions.peek().is_some()
            && (!self.plain_exceptions || exceptions.any(|pattern| pattern.is_at_or_below(directory)))
    }
}

fn line_span(text: &str, number: usize) -> Span {
    let start = text.split_inclusive('\n').take(number).map(str::len).sum::<usize>();
    let line = text[start..].lines().next().unwrap_or_default();
    Span::from(start..start + line.len())
}

#[cfg(test)]
mod tests;
