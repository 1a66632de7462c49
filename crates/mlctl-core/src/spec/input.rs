//! Inputs, as written.

use super::draft::{FromDraft, InputDraft};
use super::names::{self, Hyphens};
use super::reader::{Field, Reader, Text};
use super::words::quote;
use super::{keys, paths};
use crate::diag::{Diag, Span};
use toml::de::DeValue;

/// Reads `inputs.NAME`.
pub(crate) fn read<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> InputDraft<'t> {
    names::check(reader, "an input", field.name, field.name_span, Hyphens::Refused);
    let mut input = InputDraft { name: field.name, span: field.name_span, from: None, at: None, optional: false };
    match field.value {
        DeValue::Table(_) => read_table(reader, field, &mut input),
        _ => input.from = read_from(reader, field),
    }
    input
}

/// A reference, or several, that are gathered.
fn read_from<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<FromDraft<'t>> {
    match field.value {
        DeValue::String(_) => reader.text(field).map(FromDraft::One),
        DeValue::Array(_) => several(reader, field).map(FromDraft::Gather),
        _ => {
            let message = format!("{} must be a reference, an array of references, or a table", quote(field.name));
            let help = "write \"step.output\", or { path = \"data/file.csv\" } for a file of the project";
            reader.push(Diag::error("wrong-type", field.span, message).help(help));
            None
        }
    }
}

fn several<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<Vec<Text<'t>>> {
    let before = reader.found();
    let texts = reader.distinct(field)?;
    if texts.is_empty() && reader.found() == before {
        reader.error("empty", field.span, format!("{} names no output", quote(field.name)));
        return None;
    }
    (reader.found() == before).then_some(texts)
}

fn read_table<'t>(reader: &mut Reader<'t>, field: Field<'t>, input: &mut InputDraft<'t>) {
    let before = reader.found();
    let mut sources: Vec<Span> = Vec::new();
    let mut sha256 = None;
    for field in reader.entries(field, &keys::INPUT_TABLE).unwrap_or_default() {
        match field.name {
            "at" => {
                let at = reader.text(field);
                input.at = at.and_then(|text| Some((paths::relative(reader, "at", text)?, text.span)));
            }
            "optional" => input.optional = reader.bool(field).unwrap_or_default(),
            "sha256" => sha256 = reader.text(field).map(|text| (text, field.name_span)),
            source => {
                sources.push(field.name_span);
                input.from = match source {
                    "from" => read_from(reader, field),
                    "first" => several(reader, field).map(FromDraft::First),
                    "path" => reader.filled(field).map(FromDraft::Path),
                    "url" => url(reader, field),
                    other => unreachable!("the key `{other}` is listed but not read"),
                };
            }
        }
    }
    if reader.found() == before {
        check_sources(reader, field, &sources);
        apply_sha256(reader, input, sha256);
    }
}

fn check_sources<'t>(reader: &mut Reader<'t>, field: Field<'t>, sources: &[Span]) {
    match sources {
        [] => reader.push(
            Diag::error("no-source", field.name_span, format!("input {} has no source", quote(field.name)))
                .help("add one of `from`, `path`, `url`, `first`"),
        ),
        [_] => {}
        [first, second, ..] => reader.push(
            Diag::error("two-sources", *second, format!("input {} has two sources", quote(field.name)))
                .related(*first, "the other one")
                .help("keep one of them"),
        ),
    }
}

fn apply_sha256<'t>(reader: &mut Reader<'t>, input: &mut InputDraft<'t>, given: Option<(Text<'t>, Span)>) {
    let Some((text, key)) = given else { return };
    let Some(FromDraft::Url { sha256, .. }) = &mut input.from else {
        reader.error("sha256-without-url", key, "`sha256` is for a `url`");
        return;
    };
    if text.text.len() == 64 && text.text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        *sha256 = Some(text.text.to_ascii_lowercase());
    } else {
        reader.push(
            Diag::error("bad-sha256", text.span, "not a SHA-256")
                .help("it has 64 hexadecimal digits; `sha256sum FILE` prints it"),
        );
    }
}

fn url<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<FromDraft<'t>> {
    let text = reader.filled(field)?;
    let rest = text.text.strip_prefix("https://").or_else(|| text.text.strip_prefix("http://"));
    let is_url =
        rest.is_some_and(|rest| !rest.starts_with('/') && !rest.is_empty() && !rest.contains(char::is_whitespace));
    if !is_url {
        let message = format!("{} is not a URL that can be downloaded", quote(text.text));
        reader.push(Diag::error("bad-url", text.span, message).help("it starts with `https://` or `http://`"));
        return None;
    }
    Some(FromDraft::Url { url: text.text.to_owned(), sha256: None })
}
