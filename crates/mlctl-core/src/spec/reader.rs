//! Reads values out of the parsed TOML and says what is wrong with them, at their place.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::convert::{describe, scalar, value};
use super::keys::{ELSEWHERE, Shape, Table};
use super::words::{MAX_NAME, list, quote, suggest};
use crate::diag::{Diag, Severity, Span};
use crate::value::Value;

/// Errors beyond this many are not looked for: one broken habit in 10,000 steps is one message too often already.
const MAX_DIAGS: usize = 100;

/// A value with the key it stands under (for an element of an array, the array's).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'t> {
    pub(crate) name: &'t str,
    pub(crate) name_span: Span,
    pub(crate) value: &'t DeValue<'t>,
    pub(crate) span: Span,
    /// An element of an array, not the array.
    pub(crate) is_element: bool,
}

impl<'t> Field<'t> {
    /// The same key, another value: an element of its array.
    fn element(self, value: &'t Spanned<DeValue<'t>>) -> Self {
        Self { value: value.get_ref(), span: value.span().into(), is_element: true, ..self }
    }

    /// What people call it.
    fn shown(self) -> String {
        if self.is_element { format!("an element of {}", quote(self.name)) } else { quote(self.name) }
    }

    pub(crate) fn text(self) -> Option<Text<'t>> {
        self.value.as_str().map(|text| Text { text, span: self.span })
    }
}

/// A string of the spec and where its literal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'t> {
    pub(crate) text: &'t str,
    pub(crate) span: Span,
}

/// Collects what is wrong while a spec is read.
pub(crate) struct Reader<'t> {
    source: &'t str,
    errors: Vec<Diag>,
    warnings: Vec<Diag>,
    /// How many errors were found, also those that were too many to keep.
    found: usize,
}

impl<'t> Reader<'t> {
    pub(crate) const fn new(source: &'t str) -> Self {
        Self { source, errors: Vec::new(), warnings: Vec::new(), found: 0 }
    }

    /// All that was found, in the order of the text, each once: the errors, or else the warnings.
    pub(crate) fn finish(self) -> Result<Vec<Diag>, Vec<Diag>> {
        let sorted = |mut diags: Vec<Diag>| {
            diags.sort_by_key(|diag| (diag.span, diag.code));
            diags.dedup();
            diags
        };
        if self.errors.is_empty() { Ok(sorted(self.warnings)) } else { Err(sorted(self.errors)) }
    }

    pub(crate) fn push(&mut self, diag: Diag) {
        let kept = match diag.severity {
            Severity::Error => {
                self.found += 1;
                &mut self.errors
            }
            Severity::Warning => &mut self.warnings,
        };
        if kept.len() < MAX_DIAGS {
            kept.push(diag);
        }
    }

    /// Whether more errors would only be dropped.
    pub(crate) const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_DIAGS
    }

    /// How many errors were found: a reader compares it to know whether what it read is whole.
    pub(crate) const fn found(&self) -> usize {
        self.found
    }

    pub(crate) fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.push(Diag::error(code, span, message));
    }

    /// An error about a name that is not known, with the nearest one that is, or all.
    pub(crate) fn unknown<'n>(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        name: &str,
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        // A long list is no help.
        let all = || {
            (1..=12).contains(&known.clone().take(13).count()).then(|| format!("known names: {}", list(known.clone())))
        };
        let help = if self.is_full() { None } else { suggest(name, known.clone()).or_else(all) };
        self.push(Diag { help, ..Diag::error(code, span, message) });
    }

    /// The entries of a table that may stand there, in the order of the text; the others are refused.
    pub(crate) fn entries(&mut self, field: Field<'t>, table: &'static Table) -> Option<Vec<Field<'t>>> {
        let mut fields = self.names(field, table.what, table.example)?;
        fields.retain(|field| self.is_known(*field, table));
        Some(fields)
    }

    /// The entries of a table with names that the user chooses, or an error that shows an example of one.
    pub(crate) fn names(&mut self, field: Field<'t>, what: &str, example: &str) -> Option<Vec<Field<'t>>> {
        let Some(table) = field.value.as_table() else {
            let help = (!example.is_empty()).then(|| example.to_owned());
            self.wrong_type(field, what, "a table", help);
            return None;
        };
        let entry = |(name, value): (&'t Spanned<std::borrow::Cow<'t, str>>, &'t Spanned<DeValue<'t>>)| Field {
            name: name.get_ref(),
            name_span: name.span().into(),
            value: value.get_ref(),
            span: value.span().into(),
            is_element: false,
        };
        Some(table.iter().map(entry).collect())
    }

    fn is_known(&mut self, field: Field<'t>, table: &'static Table) -> bool {
        match table.key(field.name) {
            Some(key) if matches!(key.shape, Shape::NotYet) => {
                let message = format!("{} is not yet supported", quote(field.name));
                self.push(Diag::error("not-yet", field.name_span, message).label("reserved for a later version"));
                false
            }
            Some(_) => true,
            None => {
                let known = table.keys.iter().filter(|key| !matches!(key.shape, Shape::NotYet)).map(|key| key.name);
                let message = format!("{} has no key {}", table.what, quote(field.name));
                let help = suggest(field.name, known.clone())
                    .or_else(|| known_elsewhere(field.name, table))
                    .unwrap_or_else(|| format!("its keys are {}", list(known)));
                self.push(Diag::error("unknown-key", field.name_span, message).help(help));
                false
            }
        }
    }

    fn wrong_type(&mut self, field: Field<'t>, what: &str, expected: &str, help: Option<String>) {
        let message = format!("{what} must be {expected}, not {}", describe(field.value));
        let diag = Diag::error("wrong-type", field.span, message).label(format!("expected {expected}"));
        self.push(Diag { help, ..diag });
    }

    pub(crate) fn text(&mut self, field: Field<'t>) -> Option<Text<'t>> {
        let help = || scalar(field.value).ok().map(|value| format!("put it in quotes: \"{value}\""));
        self.text_or(field, help)
    }

    /// A string, or an error with this help.
    pub(crate) fn text_or(&mut self, field: Field<'t>, help: impl FnOnce() -> Option<String>) -> Option<Text<'t>> {
        let text = field.text();
        if text.is_none() {
            let help = help();
            self.wrong_type(field, &field.shown(), "a string", help);
        }
        text
    }

    /// A string that is not empty.
    pub(crate) fn filled(&mut self, field: Field<'t>) -> Option<Text<'t>> {
        let text = self.text(field)?;
        if text.text.trim().is_empty() {
            self.error("empty", text.span, format!("{} is empty", quote(field.name)));
            return None;
        }
        Some(text)
    }

    pub(crate) fn bool(&mut self, field: Field<'t>) -> Option<bool> {
        let value = field.value.as_bool();
        if value.is_none() {
            self.wrong_type(field, &quote(field.name), "`true` or `false`", None);
        }
        value
    }

    /// A whole number of at least `min`.
    pub(crate) fn whole_number(&mut self, field: Field<'t>, min: u32) -> Option<u32> {
        let number = match scalar(field.value) {
            Ok(Value::Int(number)) => number,
            _ => {
                self.wrong_type(field, &quote(field.name), "a whole number", None);
                return None;
            }
        };
        match u32::try_from(number) {
            Ok(number) if number >= min => Some(number),
            _ => {
                let problem =
                    if number < i64::from(min) { format!("at least {min}") } else { format!("at most {}", u32::MAX) };
                let message = format!("{} must be {problem}", quote(field.name));
                self.error("out-of-range", field.span, message);
                None
            }
        }
    }

    /// The elements of an array.
    pub(crate) fn elements(&mut self, field: Field<'t>) -> Option<Vec<Field<'t>>> {
        let Some(array) = field.value.as_array() else {
            let text = field.value.as_str().filter(|text| text.len() <= MAX_NAME);
            let help = text.map(|text| format!("put it in brackets: [{text:?}]"));
            self.wrong_type(field, &field.shown(), "an array", help);
            return None;
        };
        Some(array.iter().map(|value| field.element(value)).collect())
    }

    /// The strings of an array.
    pub(crate) fn texts(&mut self, field: Field<'t>) -> Option<Vec<Text<'t>>> {
        let elements = self.elements(field)?;
        Some(elements.into_iter().filter_map(|element| self.text(element)).collect())
    }

    /// The strings of an array, none of them empty, each once.
    pub(crate) fn distinct(&mut self, field: Field<'t>) -> Option<Vec<Text<'t>>> {
        let elements = self.elements(field)?;
        let texts: Vec<_> = elements.into_iter().filter_map(|element| self.filled(element)).collect();
        let mut seen = std::collections::HashMap::with_capacity(texts.len());
        for text in &texts {
            if let Some(first) = seen.insert(text.text, text.span) {
                let message = format!("{} is listed twice in {}", quote(text.text), quote(field.name));
                self.push(Diag::error("duplicate", text.span, message).related(first, "first here"));
            }
        }
        Some(texts)
    }

    /// One of these texts: its index.
    pub(crate) fn choice(&mut self, field: Field<'t>, choices: &[&str]) -> Option<usize> {
        let text = self.text(field)?;
        let found = choices.iter().position(|choice| *choice == text.text);
        if found.is_none() {
            let message = format!("{} cannot be {}", quote(field.name), quote(text.text));
            let help = suggest(text.text, choices.iter().copied())
                .unwrap_or_else(|| format!("one of {}", list(choices.iter().copied())));
            self.push(Diag::error("unknown-choice", text.span, message).help(help));
        }
        found
    }

    /// A table of strings.
    pub(crate) fn text_map(&mut self, field: Field<'t>) -> Option<Vec<(Field<'t>, Text<'t>)>> {
        let fields = self.names(field, &quote(field.name), &format!("write {}.NAME = \"value\"", field.name))?;
        Some(fields.into_iter().filter_map(|field| self.text(field).map(|text| (field, text))).collect())
    }

    /// A number, string or boolean.
    pub(crate) fn scalar(&mut self, field: Field<'t>) -> Option<Value> {
        match scalar(field.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.error("bad-value", field.span, format!("{}: {problem}", quote(field.name)));
                None
            }
        }
    }

    /// Any value as JSON has it.
    pub(crate) fn value(&mut self, field: Field<'t>) -> Option<Value> {
        match value(field.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.error("bad-value", field.span, format!("{}: {problem}", quote(field.name)));
                None
            }
        }
    }

    /// Where a part of a string's text stands in the file.
    pub(crate) fn place(&self, text: Text<'_>, part: Range<usize>) -> Span {
        // Nobody will see it, and finding it reads the whole literal.
        if self.is_full() {
            return text.span;
        }
        super::literal::place(self.source, text, part)
    }
}

/// What other tools call the same thing.
fn known_elsewhere(name: &str, table: &Table) -> Option<String> {
    let (_, ours) = ELSEWHERE.iter().find(|(theirs, ours)| *theirs == name && table.key(ours).is_some())?;
    Some(format!("that is {} here", quote(ours)))
}
