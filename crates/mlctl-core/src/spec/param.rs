//! A declared param.

use toml::de::DeValue;

use super::keys;
use super::reader::{Field, Reader};
use super::words::quote;
use crate::diag::{Diag, Span};
use crate::params;
use crate::value::{Type, Value};
use crate::workflow::ParamDecl;

const TYPES: [Type; 5] = [Type::String, Type::Int, Type::Float, Type::Bool, Type::List];

/// Reads `params.NAME`.
pub(crate) fn read<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> ParamDecl {
    let mut decl = ParamDecl {
        span: field.name_span,
        ty: Type::String,
        default: None,
        min: None,
        max: None,
        choices: Vec::new(),
        help: None,
    };
    if matches!(field.value, DeValue::Table(_)) {
        read_table(reader, field, &mut decl);
    } else if let Some(value) = reader.value(field) {
        decl.ty = value.type_of();
        decl.default = Some(value);
    }
    decl
}

fn read_table<'t>(reader: &mut Reader<'t>, table: Field<'t>, decl: &mut ParamDecl) {
    let fields = reader.entries(table, &keys::PARAM).unwrap_or_default();
    let find = |name: &str| fields.iter().copied().find(|field| field.name == name);
    let before = reader.found();
    match (find("type"), find("default")) {
        (Some(field), _) => {
            if field.value.as_str() == Some("json") {
                let help = "use `list`, or `string` with the JSON as text";
                reader.push(Diag::error("unknown-choice", field.span, "a param cannot be of type json").help(help));
            } else if let Some(index) = reader.choice(field, keys::PARAM_TYPES) {
                decl.ty = TYPES[index];
            }
        }
        (None, Some(default)) => match reader.value(default).map(|value| value.type_of()) {
            Some(Type::Json) => reader.error("bad-value", default.span, "a table cannot be the value of a param"),
            Some(ty) => decl.ty = ty,
            None => {}
        },
        (None, None) => {
            let message = format!("param {} has neither a type nor a default", quote(table.name));
            reader
                .push(Diag::error("untyped-param", table.name_span, message).help("add `type = \"float\"` or another"));
        }
    }
    if reader.found() != before {
        return;
    }
    for field in &fields {
        let field = *field;
        match field.name {
            "type" => {}
            // Judged last: the limits must be known.
            "default" => {}
            "min" => decl.min = limit(reader, field, decl.ty),
            "max" => decl.max = limit(reader, field, decl.ty),
            "choices" => decl.choices = choices(reader, field, decl.ty),
            "help" => decl.help = reader.text(field).map(|text| text.text.to_owned()),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    if reader.found() != before {
        return;
    }
    check_limits(reader, decl, table.name, find("min").map(|field| field.span));
    if let Some(field) = find("default") {
        decl.default = typed(reader, field, decl.ty);
        if let Some(Err(problem)) = decl.default.as_ref().map(|value| params::check(decl, value)) {
            let message = format!("the default of {} {problem}", quote(table.name));
            reader.error("bad-default", field.span, message);
        }
    }
}

fn typed<'t>(reader: &mut Reader<'t>, field: Field<'t>, ty: Type) -> Option<Value> {
    let value = match super::convert::value(field.value) {
        Ok(value) => value,
        Err(problem) => {
            reader.error("bad-value", field.span, format!("{}: {problem}", quote(field.name)));
            return None;
        }
    };
    match params::convert(value, ty) {
        Ok(value) => Some(value),
        Err(problem) => {
            reader.error("wrong-type", field.span, format!("{} {problem}", quote(field.name)));
            None
        }
    }
}

fn limit<'t>(reader: &mut Reader<'t>, field: Field<'t>, ty: Type) -> Option<Value> {
    if !matches!(ty, Type::Int | Type::Float) {
        let message = format!("{} is for numbers: the param is a {ty}", quote(field.name));
        reader.error("limit-without-number", field.name_span, message);
        return None;
    }
    typed(reader, field, ty)
}

fn choices<'t>(reader: &mut Reader<'t>, field: Field<'t>, ty: Type) -> Vec<Value> {
    let elements = reader.elements(field).unwrap_or_default();
    if elements.is_empty() {
        reader.push(Diag::error("empty", field.span, "`choices` allows nothing").help("name at least one value"));
    }
    elements.into_iter().filter_map(|element| typed(reader, element, ty)).collect()
}

fn check_limits(reader: &mut Reader<'_>, decl: &ParamDecl, name: &str, span: Option<Span>) {
    if let (Some(min), Some(max), Some(span)) = (&decl.min, &decl.max, span)
        && crate::condition::compare(crate::workflow::Comparison::Gt, min, max) == Ok(true)
    {
        let message = format!("param {} allows nothing: `min` {min} is more than `max` {max}", quote(name));
        reader.error("empty-range", span, message);
    }
}
