//! Templates: texts with `{{ references }}`, as they stand in `command`, `env` values and input paths.

use serde::{Deserialize, Serialize};

/// A text with references, in order. Plain substitution: no expressions, no escapes but `{{{{`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Template(pub Vec<Piece>);

/// One piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// `{{ params.NAME }}`
    Param(String),
    /// `{{ matrix.NAME }}`
    Matrix(String),
    /// `{{ inputs.NAME }}`: a path, or a value's text.
    Input(String),
    /// `{{ outputs.NAME }}`: the path that the program must write.
    Output(String),
    /// `{{ run.id }}`
    RunId,
    /// `{{ run.status }}`, in a `finally` step.
    RunStatus,
}
