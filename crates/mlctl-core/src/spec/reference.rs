//! References to outputs: `step.output`, `step[*].output`, `step[axis=value].output`, `step.output/entry`.

use std::ops::Range;

/// A reference as written; ranges are byte offsets into its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RefText<'a> {
    pub(crate) step: &'a str,
    pub(crate) picks: Vec<PickText<'a>>,
    /// `[*]`, and where the star stands.
    pub(crate) gather: Option<usize>,
    pub(crate) output: &'a str,
    pub(crate) output_range: Range<usize>,
    /// What follows the slash, and where it begins.
    pub(crate) entry: Option<(&'a str, usize)>,
}

/// `axis=value`
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PickText<'a> {
    pub(crate) axis: &'a str,
    pub(crate) value: &'a str,
    pub(crate) range: Range<usize>,
}

/// Why a text is no reference, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RefError {
    pub(crate) range: Range<usize>,
    pub(crate) problem: &'static str,
}

/// Reads a reference.
pub(crate) fn parse(text: &str) -> Result<RefText<'_>, RefError> {
    let error = |range: Range<usize>, problem| Err(RefError { range, problem });
    let step_end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    let step = &text[..step_end];
    if step.is_empty() {
        return error(0..text.len(), "it does not begin with the name of a step");
    }
    let mut at = step_end;
    let (mut picks, mut gather) = (Vec::new(), None);
    if text[at..].starts_with('[') {
        let Some(end) = bracket_end(text, at) else {
            return error(at..text.len(), "the bracket is not closed");
        };
        (picks, gather) = selection(text, at + 1..end)?;
        at = end + 1;
    }
    if !text[at..].starts_with('.') {
        return error(at.min(text.len().saturating_sub(1))..text.len(), "an output is missing: `step.output`");
    }
    at += 1;
    let output_end = text[at..].find(|c: char| !is_word(c)).map_or(text.len(), |length| at + length);
    let output = &text[at..output_end];
    if output.is_empty() {
        return error(at - 1..text.len(), "an output is missing: `step.output`");
    }
    let entry = match text[output_end..].strip_prefix('/') {
        Some("") => return error(output_end..text.len(), "the entry after the slash is missing"),
        Some(entry) => Some((entry, output_end + 1)),
        None if output_end == text.len() => None,
        None => return error(output_end..text.len(), "only `/entry` may follow the output"),
    };
    Ok(RefText { step, picks, gather, output, output_range: at..output_end, entry })
}

/// Where the bracket that opens at `open` closes: not inside quotes.
pub(crate) fn bracket_end(text: &str, open: usize) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text[open..].char_indices() {
        match (quote, c) {
            (None, ']') => return Some(open + at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(closing), c) if c == closing => quote = None,
            _ => {}
        }
    }
    None
}

type Selection<'a> = (Vec<PickText<'a>>, Option<usize>);

/// Reads what stands between the brackets: `*`, or picks, or picks and then `*`.
fn selection(text: &str, inside: Range<usize>) -> Result<Selection<'_>, RefError> {
    let (mut picks, mut gather) = (Vec::new(), None);
    for range in split(text, inside.clone()) {
        let part = &text[range.clone()];
        let start = range.start + (part.len() - part.trim_start().len());
        let part = part.trim();
        let range = start..start + part.len();
        if part == "*" && gather.is_none() {
            gather = Some(start);
            continue;
        }
        let Some((axis, value)) = part.split_once('=') else {
            let range = if part.is_empty() { inside.start - 1..inside.end + 1 } else { range };
            return Err(RefError { range, problem: "write [*], or [axis=value]" });
        };
        picks.push(PickText { axis: axis.trim(), value: unquoted(value.trim()), range });
    }
    Ok((picks, gather))
}

/// The parts between commas outside quotes.
fn split(text: &str, inside: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut quote) = (inside.start, None);
    for (at, c) in text[inside.clone()].char_indices().map(|(at, c)| (inside.start + at, c)) {
        match (quote, c) {
            (None, ',') => {
                parts.push(start..at);
                start = at + 1;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(closing), c) if c == closing => quote = None,
            _ => {}
        }
    }
    parts.push(start..inside.end);
    parts
}

fn unquoted(value: &str) -> &str {
    ['\'', '"'].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

/// Hyphens are no part of names, but what has one was meant as a name.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick<'a>(axis: &'a str, value: &'a str) -> (&'a str, &'a str) {
        (axis, value)
    }

    #[test]
    fn forms() {
        let plain = parse("prepare.dataset").unwrap();
        assert_eq!((plain.step, plain.output, plain.gather, plain.entry), ("prepare", "dataset", None, None));
        assert_eq!(parse("train[*].model").unwrap().gather, Some(6));
        let text = "train[ depth = 4 , name='a,]b', * ].model/x.txt";
        let picked = parse(text).unwrap();
        let picks: Vec<_> = picked.picks.iter().map(|p| (p.axis, p.value)).collect();
        assert_eq!(picks, [pick("depth", "4"), pick("name", "a,]b")]);
        assert!(picked.gather.is_some());
        assert_eq!(picked.entry, Some(("x.txt", text.len() - 5)));
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            ".x",
            "a",
            "a.",
            "a[*]",
            "a[.x",
            "a[].x",
            "a[b].x",
            "a.x/",
            "a.x y",
            "a[*,*].x",
            "data/raw.csv",
            "[*].x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
