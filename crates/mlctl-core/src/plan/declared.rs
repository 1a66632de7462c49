//! What no step has among its sources, because it is or may be an input.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, matrix};
use crate::graph::Values;
use crate::template::{Piece, Template};
use crate::workflow::{AxisValues, InputFrom, StepIx};

/// Paths in the project that inputs name.
///
/// They decide what every step's sources are and so every key. So they follow from the spec as far as can be, not from
/// the targets or from the params of one run: of a reference to what a run decides, whatever may stand there is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// As they are.
    pub paths: BTreeSet<String>,
    /// With `*` for what params, and axes that are not written in the spec, decide.
    pub globs: BTreeSet<String>,
}

impl Plan {
    /// What inputs of any step, needed or not, name in the project.
    pub fn declared_paths(&self) -> Declared {
        let mut declared = Declared::default();
        for (number, step) in (0..).zip(&self.workflow.steps) {
            for input in &step.inputs {
                if let InputFrom::Project { path } = &input.from {
                    self.declare(StepIx(number), path, &mut declared);
                }
            }
        }
        declared
    }

    fn declare(&self, step: StepIx, path: &Template, declared: &mut Declared) {
        let tables = matrix::tables(&self.workflow, step).unwrap_or_default();
        let axis_is_open = |name: &str| {
            let mut axes = tables.iter().flatten().filter(|axis| axis.name == name);
            axes.any(|axis| !matches!(axis.values, AxisValues::Literal(_)))
        };
        let is_open = |piece: &Piece| match piece {
            Piece::Param(_) => true,
            Piece::Matrix(name) => axis_is_open(name),
            _ => false,
        };
        if path.0.iter().any(is_open) {
            declared.globs.extend(glob(path));
        }
        if !path.0.iter().any(|piece| matches!(piece, Piece::Matrix(_))) {
            declared.paths.insert(self.render(step, path, &[]));
            return;
        }
        let names = matrix::axes(&self.workflow, step);
        let mut values = Values::default();
        let unknown = &mut |_: &_| Err(String::new());
        let Ok(rows) = matrix::rows(tables, &self.params, &mut values, unknown) else { return };
        for row in rows.iter() {
            let texts = row.iter().map(|&value| values.value(value).to_string());
            let texts: BTreeMap<&str, String> = names.iter().map(String::as_str).zip(texts).collect();
            let text = |piece: &Piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Param(name) => self.params.get(name).map(ToString::to_string).unwrap_or_default(),
                Piece::Matrix(name) => texts.get(name.as_str()).cloned().unwrap_or_default(),
                _ => String::new(),
            };
            declared.paths.insert(path.0.iter().map(text).collect());
        }
    }
}

/// The glob for all that a path may be; none for one that would match nearly everything.
fn glob(path: &Template) -> Option<String> {
    let mut glob = String::new();
    let mut says_something = false;
    for piece in &path.0 {
        match piece {
            Piece::Text(text) => {
                says_something |= text.contains(char::is_alphanumeric);
                glob.push_str(&globset::escape(text));
            }
            // `**` would match in directories below.
            _ if glob.ends_with('*') => {}
            _ => glob.push('*'),
        }
    }
    says_something.then_some(glob)
}
