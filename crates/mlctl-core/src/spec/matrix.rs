//! A matrix, as written.

use std::collections::HashSet;

use toml::de::DeValue;

use super::draft::{AxisDraft, AxisValuesDraft, MatrixDraft};
use super::names::{self, Hyphens};
use super::reader::{Field, Reader};
use super::words::quote;
use crate::diag::Diag;

/// More are refused: ids would be cut, and matching is quadratic in them.
const MAX_AXES: usize = 64;

/// Reads `matrix`.
pub(crate) fn read<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> MatrixDraft<'t> {
    match field.value {
        DeValue::String(_) => reader.text(field).map_or(MatrixDraft::None, MatrixDraft::Same),
        DeValue::Table(_) => MatrixDraft::Tables(vec![read_table(reader, field, read_axis)], field.span),
        DeValue::Array(tables) if !tables.is_empty() => {
            let tables = reader.elements(field).unwrap_or_default();
            let tables: Vec<_> = tables.into_iter().map(|table| read_table(reader, table, read_listed_axis)).collect();
            check_same_axes(reader, &tables);
            MatrixDraft::Tables(tables, field.span)
        }
        _ => {
            let help = "for one axis write matrix.depth = [2, 4]";
            reader.push(
                Diag::error(
                    "bad-matrix",
                    field.span,
                    "`matrix` must be a table of axes, a list of tables, or the name of a step",
                )
                .help(help),
            );
            MatrixDraft::None
        }
    }
}

type ReadAxis<'t> = fn(&mut Reader<'t>, Field<'t>) -> AxisValuesDraft<'t>;

fn read_table<'t>(reader: &mut Reader<'t>, field: Field<'t>, read_axis: ReadAxis<'t>) -> Vec<AxisDraft<'t>> {
    let before = reader.found();
    let fields = reader.names(field, "a table of `matrix`", "write { depth = 2 }").unwrap_or_default();
    if fields.is_empty() && reader.found() == before {
        reader
            .push(Diag::error("bad-matrix", field.span, "the matrix has no axes").help("write matrix.depth = [2, 4]"));
    }
    if fields.len() > MAX_AXES {
        let message = format!("the matrix has {} axes: at most {MAX_AXES} are allowed", fields.len());
        reader.error("bad-matrix", field.span, message);
        return Vec::new();
    }
    let mut axes = Vec::with_capacity(fields.len());
    for field in fields {
        names::check(reader, "an axis", field.name, field.name_span, Hyphens::Refused);
        axes.push(AxisDraft { name: field.name, span: field.name_span, values: read_axis(reader, field) });
    }
    axes
}

/// `matrix.x = [...]` or a reference.
fn read_axis<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> AxisValuesDraft<'t> {
    match field.value {
        DeValue::String(_) => reader.text(field).map_or(AxisValuesDraft::Broken, AxisValuesDraft::Reference),
        DeValue::Array(_) => literals(reader, field),
        _ => {
            let message = format!("axis {} must be a list of values or a reference", quote(field.name));
            let help = "write [2, 4], \"params.NAME\" for a list param, or \"step.output\"";
            reader.push(Diag::error("bad-matrix", field.span, message).help(help));
            AxisValuesDraft::Broken
        }
    }
}

/// An axis in a list of tables: one value or several.
fn read_listed_axis<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> AxisValuesDraft<'t> {
    match field.value {
        DeValue::Array(_) => literals(reader, field),
        _ => reader.scalar(field).map_or(AxisValuesDraft::Broken, |value| AxisValuesDraft::Literal(vec![value])),
    }
}

fn literals<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> AxisValuesDraft<'t> {
    let before = reader.found();
    let elements = reader.elements(field).unwrap_or_default();
    let mut values = Vec::with_capacity(elements.len());
    let mut seen = HashSet::with_capacity(elements.len());
    for element in elements {
        let Some(value) = reader.scalar(element) else { continue };
        // Ids are made of the texts: 2 and "2" would be one instance.
        if !seen.insert(value.to_string()) {
            let message =
                format!("the value {} appears twice on axis {}", quote(&value.to_string()), quote(field.name));
            reader
                .push(Diag::error("duplicate", element.span, message).help("each value makes an instance: remove one"));
        }
        values.push(value);
    }
    if reader.found() == before { AxisValuesDraft::Literal(values) } else { AxisValuesDraft::Broken }
}

/// Each table of a list has the axes of the first, in any order.
fn check_same_axes(reader: &mut Reader<'_>, tables: &[Vec<AxisDraft<'_>>]) {
    let Some((first, others)) = tables.split_first() else { return };
    let expected: HashSet<_> = first.iter().map(|axis| axis.name).collect();
    for table in others {
        if let Some(extra) = table.iter().find(|axis| !expected.contains(axis.name)) {
            let message = format!("the first table has no axis {}", quote(extra.name));
            let related = first.first().map_or(extra.span, |axis| axis.span);
            reader.push(
                Diag::error("uneven-matrix", extra.span, message)
                    .related(related, "the first table")
                    .help("all tables of a matrix have the same keys"),
            );
        } else if table.len() < first.len() {
            let present: HashSet<_> = table.iter().map(|axis| axis.name).collect();
            let missing = first.iter().find(|axis| !present.contains(axis.name));
            if let (Some(missing), Some(axis)) = (missing, table.first()) {
                let message = format!("axis {} is missing in this table", quote(missing.name));
                reader.push(
                    Diag::error("uneven-matrix", axis.span, message)
                        .related(missing.span, "the first table has it")
                        .help("all tables of a matrix have the same keys"),
                );
            }
        }
    }
}
