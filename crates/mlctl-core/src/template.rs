//! Templates: texts with `{{ references }}`, as they stand in `command`, `env` values and input paths.

use std::fmt;
use std::ops::Range;

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

/// A piece with the place of what it stands for: of a reference, the dotted name without its braces.
pub type Located = (Piece, Range<usize>);

/// What is wrong in a template, and where: byte offsets into its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Where.
    pub range: Range<usize>,
    /// What.
    pub kind: TemplateErrorKind,
}

/// What is wrong in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// `{{` without `}}`.
    Unterminated,
    /// Not `GROUP.NAME`.
    Malformed,
    /// No such group of names.
    UnknownGroup,
}

impl Template {
    /// Reads a text with references.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateError>> {
        let located = locate(text)?;
        Ok(Self(located.into_iter().map(|(piece, _)| piece).collect()))
    }

    /// The text, where it holds no reference.
    pub fn as_text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// Reads a text with references and tells where each piece stands.
///
/// In a run of braces every four are a literal `{{`; of what is left, one is a literal `{`, two open a reference, three
/// are a literal `{` and open a reference.
pub fn locate(text: &str) -> Result<Vec<Located>, Vec<TemplateError>> {
    let mut pieces = Vec::new();
    let mut errors = Vec::new();
    let mut literal = String::new();
    let mut literal_start = 0;
    let mut rest = 0;
    while let Some(found) = text[rest..].find("{{") {
        let run_start = rest + found;
        let run = text[run_start..].bytes().take_while(|byte| *byte == b'{').count();
        literal.push_str(&text[rest..run_start]);
        literal.push_str(&"{{".repeat(run / 4));
        if run % 2 == 1 {
            literal.push('{');
        }
        rest = run_start + run;
        if run % 4 < 2 {
            continue;
        }
        let Some(length) = text[rest..].find("}}") else {
            let start = rest - 2;
            errors.push(TemplateError { range: start..text.len(), kind: TemplateErrorKind::Unterminated });
            return Err(errors);
        };
        match reference(text, rest..rest + length) {
            Ok(located) => {
                if !literal.is_empty() {
                    pieces.push((Piece::Text(std::mem::take(&mut literal)), literal_start..rest - 2));
                }
                pieces.push(located);
            }
            Err(error) => errors.push(error),
        }
        rest += length + 2;
        literal_start = rest;
    }
    literal.push_str(&text[rest..]);
    if !literal.is_empty() {
        pieces.push((Piece::Text(literal), literal_start..text.len()));
    }
    if errors.is_empty() { Ok(pieces) } else { Err(errors) }
}

/// Reads what stands between the braces.
fn reference(text: &str, inside: Range<usize>) -> Result<Located, TemplateError> {
    let whole = &text[inside.clone()];
    let dotted = whole.trim();
    let start = inside.start + (whole.len() - whole.trim_start().len());
    let range = start..start + dotted.len();
    let error = |kind| TemplateError { range: if dotted.is_empty() { inside } else { range.clone() }, kind };
    let Some((group, name)) = dotted.split_once('.') else { return Err(error(TemplateErrorKind::Malformed)) };
    let is_word = |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "{}.[]()".contains(c));
    if !is_word(group) || !is_word(name) {
        return Err(error(TemplateErrorKind::Malformed));
    }
    let piece = match (group, name) {
        ("params", name) => Piece::Param(name.to_owned()),
        ("matrix", name) => Piece::Matrix(name.to_owned()),
        ("inputs", name) => Piece::Input(name.to_owned()),
        ("outputs", name) => Piece::Output(name.to_owned()),
        ("run", "id") => Piece::RunId,
        ("run", "status") => Piece::RunStatus,
        _ => return Err(error(TemplateErrorKind::UnknownGroup)),
    };
    Ok((piece, range))
}

/// As it would be written: parsing it again gives the same template.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| piece.fmt(f))
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&text.replace("{{", "{{{{")),
            Self::Param(name) => write!(f, "{{{{ params.{name} }}}}"),
            Self::Matrix(name) => write!(f, "{{{{ matrix.{name} }}}}"),
            Self::Input(name) => write!(f, "{{{{ inputs.{name} }}}}"),
            Self::Output(name) => write!(f, "{{{{ outputs.{name} }}}}"),
            Self::RunId => f.write_str("{{ run.id }}"),
            Self::RunStatus => f.write_str("{{ run.status }}"),
        }
    }
}
