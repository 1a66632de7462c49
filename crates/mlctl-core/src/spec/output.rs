//! Outputs, as written.

use super::draft::OutputDraft;
use super::names::{self, Hyphens};
use super::reader::{Field, Reader};
use super::words::quote;
use super::{keys, paths};
use crate::diag::{Diag, Span};
use crate::value::Type;
use crate::workflow::ArtifactRole;

/// Reads `outputs.NAME`.
pub(crate) fn read<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> OutputDraft<'t> {
    names::check(reader, "an output", field.name, field.name_span, Hyphens::Refused);
    let mut output = OutputDraft {
        name: field.name,
        span: field.name_span,
        role: ArtifactRole::Plain,
        ty: None,
        from: None,
        at: None,
        export: None,
    };
    if let Some(path) = field.text() {
        let message = format!("output {} must be a table, not a string", quote(field.name));
        let help = format!("write {{ at = {:?} }}", path.text);
        reader.push(Diag::error("wrong-type", field.span, message).help(help));
        return output;
    }
    let mut kind = None;
    for field in reader.entries(field, &keys::OUTPUT).unwrap_or_default() {
        match field.name {
            "at" => {
                let at = reader.text(field);
                output.at = at.and_then(|text| Some((paths::relative(reader, "at", text)?, text.span)));
            }
            "export" => {
                let export = reader.text(field);
                output.export = export.and_then(|text| Some((paths::of_project(reader, "export", text)?, text.span)));
            }
            "kind" if field.value.as_str() == Some("reference") => reader.push(
                Diag::error("not-yet", field.span, "`kind = \"reference\"` is not yet supported")
                    .label("reserved for a later version"),
            ),
            "kind" => {
                kind = Some(field.name_span);
                output.role = reader.choice(field, keys::OUTPUT_KINDS).map_or(ArtifactRole::Plain, role);
            }
            "type" => output.ty = reader.choice(field, keys::OUTPUT_TYPES).map(value_type),
            "from" => output.from = reader.filled(field),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    check(reader, &output, kind);
    output
}

fn check(reader: &mut Reader<'_>, output: &OutputDraft<'_>, kind: Option<Span>) {
    if let (Some(kind), Some(ty)) = (kind, output.ty) {
        let message = format!("output {} is a value of type {ty}: a kind is for files", quote(output.name));
        reader.push(Diag::error("value-with-kind", kind, message).help("remove `kind`, or remove `type`"));
    }
    if let (Some((_, export)), Some(ty)) = (&output.export, output.ty) {
        let message = format!("output {} is a value of type {ty}: what is exported is files", quote(output.name));
        reader.push(
            Diag::error("value-with-export", *export, message)
                .help("export the JSON file that it stands in, and read it from there with `from`; or remove `type`"),
        );
    }
    if let (Some(from), None) = (output.from, output.ty) {
        let message = format!("output {} has no type", quote(output.name));
        reader.push(
            Diag::error("from-without-type", from.span, message)
                .help("`from` reads a value: add `type = \"float\"` or another"),
        );
    }
    if let (Some(from), Some((_, at))) = (output.from, &output.at) {
        let message = format!("output {} is read from another output and also has a path", quote(output.name));
        reader.push(
            Diag::error("from-with-at", *at, message).related(from.span, "read from here").help("keep one of them"),
        );
    }
}

const fn role(index: usize) -> ArtifactRole {
    match index {
        0 => ArtifactRole::Metrics,
        1 => ArtifactRole::Plots,
        _ => ArtifactRole::Model,
    }
}

const fn value_type(index: usize) -> Type {
    match index {
        0 => Type::String,
        1 => Type::Int,
        2 => Type::Float,
        3 => Type::Bool,
        _ => Type::Json,
    }
}
