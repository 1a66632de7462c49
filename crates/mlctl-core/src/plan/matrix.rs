//! From a matrix to rows of values.

use std::collections::{BTreeMap, HashSet};

use crate::diag::{Diag, Span};
use crate::graph::{TextIx, ValueIx, Values, id};
use crate::value::Value;
use crate::workflow::{Axis, AxisValues, Matrix, OutputRef, StepIx, Workflow};

/// The most instances that one step may have.
pub const MAX_INSTANCES: usize = 1_000_000;

/// The rows of a matrix: the coordinates of its instances, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Values a row.
    pub width: usize,
    /// How many rows: those of a step without axes are empty.
    pub len: u32,
    /// All values, row by row.
    pub coords: Vec<ValueIx>,
}

impl Rows {
    /// One instance, no axes.
    pub const ONE: Self = Self { width: 0, len: 1, coords: Vec::new() };

    /// A row.
    pub fn row(&self, row: u32) -> &[ValueIx] {
        &self.coords[row as usize * self.width..][..self.width]
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[ValueIx]> {
        (0..self.len).map(|row| self.row(row))
    }

    /// Those rows that `keep` keeps.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&[ValueIx]) -> bool) -> Self {
        let mut kept = Self { width: self.width, ..Self::default() };
        for row in self.iter().filter(|row| keep(row)) {
            kept.coords.extend_from_slice(row);
            kept.len += 1;
        }
        kept
    }
}

/// Why a matrix has no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixError {
    /// The axis at fault.
    pub axis: String,
    /// Where it stands.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

impl From<MatrixError> for Diag {
    fn from(error: MatrixError) -> Self {
        Self::error("matrix-values", error.span, error.message)
    }
}

/// The tables of a step's matrix, be they another step's; `None`: it has one instance.
pub fn tables(workflow: &Workflow, step: StepIx) -> Option<&[Vec<Axis>]> {
    match &workflow.steps[step.0 as usize].matrix {
        Matrix::None => None,
        Matrix::Same(other) => tables(workflow, *other),
        Matrix::Tables(tables) => Some(tables),
    }
}

/// The names of a step's axes, in order.
pub fn axes(workflow: &Workflow, step: StepIx) -> Vec<String> {
    let first = tables(workflow, step).and_then(<[_]>::first);
    first.map(|table| table.iter().map(|axis| axis.name.clone()).collect()).unwrap_or_default()
}

/// The sources of a step's dynamic axes: with any, its instances are known only when those are done.
pub fn sources(workflow: &Workflow, step: StepIx) -> impl Iterator<Item = &OutputRef> {
    tables(workflow, step).into_iter().flatten().flatten().filter_map(|axis| match &axis.values {
        AxisValues::Dynamic(from) => Some(from),
        AxisValues::Literal(_) | AxisValues::Param(_) => None,
    })
}

/// All rows of a matrix written as tables: the union of their products, the last axis fastest.
pub fn rows(
    tables: &[Vec<Axis>],
    params: &BTreeMap<String, Value>,
    values: &mut Values,
    source: &mut dyn FnMut(&OutputRef) -> Result<Vec<Value>, String>,
) -> Result<Rows, MatrixError> {
    let order: Vec<&str> = tables.first().into_iter().flatten().map(|axis| axis.name.as_str()).collect();
    let mut all = Rows { width: order.len(), ..Rows::default() };
    let mut seen: HashSet<Box<[TextIx]>> = HashSet::new();
    for table in tables {
        // Tables may name their axes in another order: the first table's holds.
        let axes: Vec<&Axis> = order.iter().filter_map(|name| table.iter().find(|axis| axis.name == *name)).collect();
        let first = all.len;
        product(&axes, params, values, source, &mut all)?;
        if tables.len() == 1 {
            break;
        }
        for row in first..all.len {
            let texts = all.row(row).iter().map(|&value| values.text_ix(value)).collect();
            if let (false, Some(axis)) = (seen.insert(texts), table.first()) {
                let row: Vec<String> = order
                    .iter()
                    .zip(all.row(row))
                    .map(|(axis, &value)| format!("{axis} = {}", shown(values.value(value))))
                    .collect();
                let message = format!("the matrix has `{}` twice", row.join(", "));
                return Err(MatrixError { axis: axis.name.clone(), span: axis.span, message });
            }
        }
    }
    Ok(all)
}

fn product(
    axes: &[&Axis],
    params: &BTreeMap<String, Value>,
    values: &mut Values,
    source: &mut dyn FnMut(&OutputRef) -> Result<Vec<Value>, String>,
    all: &mut Rows,
) -> Result<(), MatrixError> {
    let mut rows: Vec<Vec<ValueIx>> = vec![Vec::with_capacity(axes.len())];
    for axis in axes {
        let held = axis_values(axis, params, values, source)?;
        if rows.len().saturating_mul(held.len()).saturating_add(all.len as usize) > MAX_INSTANCES {
            let message = format!("`{}` makes more than {MAX_INSTANCES} instances of the step", axis.name);
            return Err(MatrixError { axis: axis.name.clone(), span: axis.span, message });
        }
        let longer = |row: &Vec<ValueIx>| held.iter().map(|&value| [row.as_slice(), &[value]].concat()).collect();
        rows = rows.iter().flat_map::<Vec<_>, _>(longer).collect();
    }
    for row in rows {
        all.coords.extend(row);
        all.len += 1;
    }
    Ok(())
}

fn axis_values(
    axis: &Axis,
    params: &BTreeMap<String, Value>,
    values: &mut Values,
    source: &mut dyn FnMut(&OutputRef) -> Result<Vec<Value>, String>,
) -> Result<Vec<ValueIx>, MatrixError> {
    let error = |message: String| MatrixError { axis: axis.name.clone(), span: axis.span, message };
    let held = match &axis.values {
        AxisValues::Literal(literal) => literal.clone(),
        AxisValues::Param(name) => {
            let held = params.get(name).map_or_else(|| Err("it is not given".to_owned()), list);
            held.map_err(|problem| error(format!("axis `{}`, from param `{name}`: {problem}", axis.name)))?
        }
        AxisValues::Dynamic(from) => {
            source(from).map_err(|problem| error(format!("axis `{}`: {problem}", axis.name)))?
        }
    };
    let mut seen = HashSet::with_capacity(held.len());
    let mut interned = Vec::with_capacity(held.len());
    for value in held {
        let ix = values.intern(value);
        if !seen.insert(values.text_ix(ix)) {
            let value = shown(values.value(ix));
            return Err(error(format!("axis `{}` has the value `{value}` twice", axis.name)));
        }
        interned.push(ix);
    }
    Ok(interned)
}

/// The values in a JSON list of scalars.
pub fn list(value: &Value) -> Result<Vec<Value>, String> {
    let Value::Json(serde_json::Value::Array(items)) = value else {
        return Err(format!("`{}` is not a list", shown(value)));
    };
    let scalar = |item: &serde_json::Value| match item {
        serde_json::Value::Bool(truth) => Some(Value::Bool(*truth)),
        serde_json::Value::String(text) => Some(Value::String(text.clone())),
        serde_json::Value::Number(number) => {
            number.as_i64().map(Value::Int).or_else(|| number.as_f64().map(Value::Float))
        }
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
    };
    let value = |item| scalar(item).ok_or_else(|| format!("`{item}` is not a string, number or boolean"));
    items.iter().map(value).collect()
}

/// A value for a message: cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// An id that two rows of a step share: possible only where ids are cut.
pub fn clash(step: &str, axes: &[impl AsRef<str>], rows: &Rows, values: &Values) -> Option<String> {
    let text = |value: ValueIx| values.text(values.text_ix(value));
    let mut longest = vec![0; rows.width];
    for row in rows.iter() {
        row.iter().zip(&mut longest).for_each(|(&value, longest)| *longest = text(value).len().max(*longest));
    }
    let names: usize = axes.iter().map(|axis| axis.as_ref().len() + 2).sum();
    if step.len() + names + longest.iter().sum::<usize>() <= id::MAX_BYTES {
        return None;
    }
    let mut seen = HashSet::new();
    let mut ids = (0..rows.len)
        .map(|row| id::join(step, axes.iter().map(AsRef::as_ref).zip(rows.row(row).iter().map(|&value| text(value)))));
    ids.find(|id| !seen.insert(id.clone()))
}
