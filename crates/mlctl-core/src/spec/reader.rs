//! Reads values out of the parsed TOML and says what is wrong with them, at their place.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::keys::{Shape, Table};
use crate::diag::{Diag, Severity, Span};
use crate::value::Value;

/// Errors beyond this many are not looked for: one broken habit in 10,000 steps is one message too often already.
const MAX_DIAGS: usize = 100;
/// Names longer than this get no suggestion: edit distance is quadratic.
const MAX_NAME: usize = 64;

/// A value with the key it stands under (for an element of an array, the array's).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'t> {
    pub(crate) name: &'t str,
    pub(crate) name_span: Span,
    pub(crate) value: &'t DeValue<'t>,
    pub(crate) span: Span,
}

impl<'t> Field<'t> {
    /// The same key, another value: an element of its array.
    fn element(self, value: &'t Spanned<DeValue<'t>>) -> Self {
        Self { value: value.get_ref(), span: value.span().into(), ..self }
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

    /// An error about a name that is not known, with the nearest one that is.
    pub(crate) fn unknown<'n>(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        let mut diag = Diag::error(code, span, message);
        diag.help = if self.is_full() { None } else { suggest(name, known) };
        self.push(diag);
    }

    /// The entries of a table that may stand there, in the order of the text; the others are refused.
    pub(crate) fn entries(&mut self, field: Field<'t>, table: &'static Table) -> Option<Vec<Field<'t>>> {
        let mut fields = self.names(field, table.what)?;
        fields.retain(|field| self.is_known(*field, table));
        Some(fields)
    }

    /// The entries of a table with names that the user chooses.
    pub(crate) fn names(&mut self, field: Field<'t>, what: &str) -> Option<Vec<Field<'t>>> {
        let Some(table) = field.value.as_table() else {
            self.wrong_type(field, what, "a table");
            return None;
        };
        let entry = |(name, value): (&'t Spanned<std::borrow::Cow<'t, str>>, &'t Spanned<DeValue<'t>>)| Field {
            name: name.get_ref(),
            name_span: name.span().into(),
            value: value.get_ref(),
            span: value.span().into(),
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
                let help =
                    suggest(field.name, known.clone()).unwrap_or_else(|| format!("its keys are {}", list(known)));
                self.push(Diag::error("unknown-key", field.name_span, message).help(help));
                false
            }
        }
    }

    fn wrong_type(&mut self, field: Field<'t>, what: &str, expected: &str) {
        let found = describe(field.value);
        self.push(
            Diag::error("wrong-type", field.span, format!("{what} must be {expected}, not {found}"))
                .label(format!("expected {expected}")),
        );
    }

    pub(crate) fn text(&mut self, field: Field<'t>) -> Option<Text<'t>> {
        let text = field.text();
        if text.is_none() {
            let expected = "a string";
            let diag = Diag::error(
                "wrong-type",
                field.span,
                format!("{} must be {expected}, not {}", quote(field.name), describe(field.value)),
            )
            .label("expected a string");
            let diag = match scalar(field.value) {
                Ok(value) => diag.help(format!("put it in quotes: \"{value}\"")),
                Err(_) => diag,
            };
            self.push(diag);
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
            self.wrong_type(field, &quote(field.name), "`true` or `false`");
        }
        value
    }

    /// A whole number of at least `min`.
    pub(crate) fn whole_number(&mut self, field: Field<'t>, min: u32) -> Option<u32> {
        let number = match scalar(field.value) {
            Ok(Value::Int(number)) => number,
            _ => {
                self.wrong_type(field, &quote(field.name), "a whole number");
                return None;
            }
        };
        match u32::try_from(number) {
            Ok(number) if number >= min => Some(number),
            _ => {
                let message = format!("{} must be from {min} to {}", quote(field.name), u32::MAX);
                self.error("out-of-range", field.span, message);
                None
            }
        }
    }

    /// The elements of an array.
    pub(crate) fn elements(&mut self, field: Field<'t>) -> Option<Vec<Field<'t>>> {
        let Some(array) = field.value.as_array() else {
            let expected = "an array";
            let diag = Diag::error(
                "wrong-type",
                field.span,
                format!("{} must be {expected}, not {}", quote(field.name), describe(field.value)),
            )
            .label("expected an array");
            let diag = match field.value.as_str() {
                Some(text) if text.len() <= MAX_NAME => diag.help(format!("put it in brackets: [{text:?}]")),
                _ => diag,
            };
            self.push(diag);
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
                let message = format!("{} stands twice in {}", quote(text.text), quote(field.name));
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
            let message = format!("{} is no {}", quote(text.text), field.name);
            let help = suggest(text.text, choices.iter().copied())
                .unwrap_or_else(|| format!("one of {}", list(choices.iter().copied())));
            self.push(Diag::error("unknown-choice", text.span, message).help(help));
        }
        found
    }

    /// A table of strings.
    pub(crate) fn text_map(&mut self, field: Field<'t>) -> Option<Vec<(Field<'t>, Text<'t>)>> {
        let fields = self.names(field, &quote(field.name))?;
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
        super::literal::place(self.source, text, part)
    }
}

/// The nearest name, as a sentence.
pub(crate) fn suggest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    nearest(name, known).map(|nearest| format!("did you mean {}?", quote(nearest)))
}

/// The nearest name, if one is near.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    let allowed = 1 + name.chars().count() / 4;
    let distance = |known: &str| {
        let folded = |text: &str| text.to_lowercase().replace('_', "-");
        strsim::osa_distance(&folded(name), &folded(known))
    };
    known
        .into_iter()
        .filter(|known| known.len() <= MAX_NAME)
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The names in backticks, with commas.
pub(crate) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names.by_ref().take(30).map(quote).collect();
    if names.next().is_some() {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

/// A user's text in backticks, short and on one line.
pub(crate) fn quote(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(60)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(60).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A string, number or boolean as a value.
pub(crate) fn scalar(value: &DeValue<'_>) -> Result<Value, &'static str> {
    match value {
        DeValue::String(text) => Ok(Value::String(text.clone().into_owned())),
        DeValue::Boolean(value) => Ok(Value::Bool(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Int)
            .map_err(|_| "an integer must fit in 64 bits"),
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err("a float must be a finite number"),
        },
        DeValue::Datetime(_) => Err("dates are not supported: put it in quotes"),
        DeValue::Array(_) => Err("a list cannot stand here"),
        DeValue::Table(_) => Err("a table cannot stand here"),
    }
}

/// Any value; nesting is bounded by the TOML parser.
pub(crate) fn value(from: &DeValue<'_>) -> Result<Value, &'static str> {
    match from {
        DeValue::Array(_) | DeValue::Table(_) => json(from).map(Value::Json),
        other => scalar(other),
    }
}

/// Any value as JSON.
pub(crate) fn json(from: &DeValue<'_>) -> Result<serde_json::Value, &'static str> {
    Ok(match from {
        DeValue::Array(array) => {
            serde_json::Value::Array(array.iter().map(|element| json(element.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => serde_json::Value::Object(
            table
                .iter()
                .map(|(name, value)| Ok((name.get_ref().clone().into_owned(), json(value.get_ref())?)))
                .collect::<Result<_, &'static str>>()?,
        ),
        other => match scalar(other)? {
            Value::Bool(value) => value.into(),
            Value::Int(value) => value.into(),
            Value::Float(value) => value.into(),
            Value::String(value) => value.into(),
            Value::Json(value) => value,
        },
    })
}
