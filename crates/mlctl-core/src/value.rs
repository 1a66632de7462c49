//! Typed values: params, matrix values, and the small outputs that conditions and commands may use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest value an output may have, in bytes of its text.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// The type of a param or of a value output. `List` is for params only, `Json` for outputs only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// UTF-8 text.
    String,
    /// A signed 64-bit integer.
    Int,
    /// A finite IEEE double.
    Float,
    /// `true` or `false`.
    Bool,
    /// A JSON array.
    List,
    /// Any JSON.
    Json,
}

impl Type {
    /// The name in a spec.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::List => "list",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value. As JSON it is the plain JSON value; an integer without a point is an `Int`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A signed 64-bit integer.
    Int(i64),
    /// A finite double.
    Float(f64),
    /// UTF-8 text.
    String(String),
    /// A list or any other JSON.
    Json(serde_json::Value),
}

impl Value {
    /// The type this value has on its own: an array is a `List`, any other JSON is `Json`.
    pub const fn type_of(&self) -> Type {
        match self {
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Float(_) => Type::Float,
            Self::String(_) => Type::String,
            Self::Json(serde_json::Value::Array(_)) => Type::List,
            Self::Json(_) => Type::Json,
        }
    }
}

/// The one text form of a value, the same in commands, environment variables and ids: strings as they are, floats
/// shortest with a point or an exponent, lists and other JSON compact.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            // Debug of a double is the shortest text that reads back the same, and always has a point or an exponent.
            Self::Float(x) => write!(f, "{x:?}"),
            Self::String(s) => f.write_str(s),
            Self::Json(json) => write!(f, "{json}"),
        }
    }
}
