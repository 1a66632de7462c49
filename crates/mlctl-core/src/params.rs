//! Params: what a run is given for what the spec declares.

use std::collections::BTreeMap;
use std::fmt;

use indexmap::IndexMap;

use crate::condition::compare;
use crate::spec::words::{list, quote, suggest};
use crate::value::{Type, Value};
use crate::workflow::{Comparison, ParamDecl, Workflow};

/// A value given for a param.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The param's name.
    pub name: String,
    /// The value.
    pub value: GivenValue,
    /// Where it was given, as people know it: `-p`, a file's name.
    pub from: String,
}

/// A given value: text from a command line, typed from a file.
#[derive(Debug, Clone, PartialEq)]
pub enum GivenValue {
    /// Read as the param's type.
    Text(String),
    /// Has a type already.
    Typed(Value),
}

/// Why a param has no valid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamError {
    /// The param's name.
    pub param: String,
    /// Where the value was given; `None`: nowhere.
    pub from: Option<String>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "{from}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ParamError {}

/// The value of every declared param: the one given last, or the default. All problems at once.
pub fn bind(workflow: &Workflow, given: &[Given]) -> Result<BTreeMap<String, Value>, Vec<ParamError>> {
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    let mut errors = Vec::new();
    for given in given {
        match value_of(&workflow.params, given) {
            Ok(value) => {
                values.insert(given.name.clone(), value);
            }
            Err(error) => errors.push(error),
        }
    }
    for (name, decl) in &workflow.params {
        if values.contains_key(name) {
            continue;
        }
        match &decl.default {
            Some(default) => {
                values.insert(name.clone(), default.clone());
            }
            None if errors.iter().any(|error| error.param == *name) => {}
            None => errors.push(ParamError {
                param: name.clone(),
                from: None,
                message: format!("param {} needs a value of type {}", quote(name), decl.ty),
                help: Some(format!("give it with `-p {name}=...`")),
            }),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

fn value_of(params: &IndexMap<String, ParamDecl>, given: &Given) -> Result<Value, ParamError> {
    let error = |message: String, help: Option<String>| ParamError {
        param: given.name.clone(),
        from: Some(given.from.clone()),
        message,
        help,
    };
    let Some(decl) = params.get(&given.name) else {
        let names = params.keys().map(String::as_str);
        let help = suggest(&given.name, names.clone()).or_else(|| {
            Some(if params.is_empty() {
                "the workflow has no params".to_owned()
            } else {
                format!("its params are {}", list(names))
            })
        });
        return Err(error(format!("there is no param {}", quote(&given.name)), help));
    };
    let named = |problem: String| error(format!("param {} {problem}", quote(&given.name)), None);
    let value = match &given.value {
        GivenValue::Text(text) => read(text, decl.ty),
        GivenValue::Typed(value) => convert(value.clone(), decl.ty),
    }
    .map_err(named)?;
    check(decl, &value).map_err(|problem| {
        let texts = decl.choices.iter().filter_map(|choice| match choice {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        });
        ParamError { help: suggest(&value.to_string(), texts), ..named(problem) }
    })?;
    Ok(value)
}

/// Reads a text as a value of this type.
pub fn read(text: &str, ty: Type) -> Result<Value, String> {
    let problem = |example: &str| format!("cannot be {}: the type is {ty}, {example}", quote(text));
    match ty {
        Type::String => Ok(Value::String(text.to_owned())),
        Type::Int => text.parse().map(Value::Int).map_err(|_| problem("as 3 or -1")),
        Type::Float => {
            // Rust also reads `inf` and `nan`.
            let number = text.parse().ok().filter(|number: &f64| number.is_finite());
            number.map(Value::Float).ok_or_else(|| problem("as 0.1 or 1e-5"))
        }
        Type::Bool => text.parse().map(Value::Bool).map_err(|_| problem("`true` or `false`")),
        Type::List => match serde_json::from_str(text) {
            Ok(list @ serde_json::Value::Array(_)) => Ok(Value::Json(list)),
            _ => Err(problem(r#"as ["a", "b"]"#)),
        },
        Type::Json => serde_json::from_str(text).map(Value::Json).map_err(|error| problem(&error.to_string())),
    }
}

/// The value as one of this type: an int is a float where one is wanted.
pub(crate) fn convert(value: Value, ty: Type) -> Result<Value, String> {
    match (value, ty) {
        (Value::Int(number), Type::Float) => Ok(Value::Float(number as f64)),
        (value, ty) if value.type_of() == ty => Ok(value),
        (value, ty) => Err(format!("must be of type {ty}, not {}", value.type_of())),
    }
}

/// Whether the param's limits allow the value.
pub(crate) fn check(decl: &ParamDecl, value: &Value) -> Result<(), String> {
    let breaks = |limit: &Option<Value>, comparison| {
        limit.as_ref().is_some_and(|limit| compare(comparison, value, limit) == Ok(true))
    };
    let shown = quote(&value.to_string());
    match decl {
        ParamDecl { min: Some(min), .. } if breaks(&decl.min, Comparison::Lt) => {
            Err(format!("cannot be {shown}: the smallest value is {min}"))
        }
        ParamDecl { max: Some(max), .. } if breaks(&decl.max, Comparison::Gt) => {
            Err(format!("cannot be {shown}: the largest value is {max}"))
        }
        _ if !decl.choices.is_empty() && !decl.choices.contains(value) => {
            let choices: Vec<_> = decl.choices.iter().map(ToString::to_string).collect();
            Err(format!("cannot be {shown}: the choices are {}", list(choices.iter().map(String::as_str))))
        }
        _ => Ok(()),
    }
}
