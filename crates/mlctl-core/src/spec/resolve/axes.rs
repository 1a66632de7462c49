//! Matrices: whose axes a step has, which values they have, and how many instances that makes.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::references::{Part, Use};
use super::{Resolver, step_ix};
use crate::diag::{Diag, Span};
use crate::spec::draft::{AxisDraft, AxisValuesDraft, MatrixDraft};
use crate::spec::reader::Text;
use crate::spec::words::{list, quote};
use crate::value::{Type, Value};
use crate::workflow::{Axis, AxisValues, Matrix};

/// More instances than this are a slip of the pen, or need a program of their own.
const MAX_INSTANCES: u64 = crate::plan::matrix::MAX_INSTANCES as u64;

/// For each step, the step whose table says its axes: itself, or at the end of a chain of `matrix = "step"`.
#[derive(Debug, Default)]
pub(super) struct Roots(Vec<Option<usize>>);

impl Roots {
    /// `None`: unknown, and reported.
    pub(super) fn of(&self, ix: usize) -> Option<usize> {
        self.0.get(ix).copied().flatten()
    }
}

/// The values that can be picked on an axis.
#[derive(Debug)]
pub(super) enum Domain {
    /// By their text.
    Known(HashMap<String, Value>),
    /// Only a run knows them.
    Open,
}

impl Domain {
    /// The value of this text, or the texts there are.
    pub(super) fn pick(&self, text: &str) -> Result<Value, Vec<String>> {
        match self {
            Self::Open => Ok(Value::String(text.to_owned())),
            Self::Known(values) => values.get(text).cloned().ok_or_else(|| {
                let mut known: Vec<_> = values.keys().cloned().collect();
                known.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
                known
            }),
        }
    }
}

impl<'r, 't> Resolver<'r, 't> {
    /// The axes of a step; `None`: unknown, because something is wrong there.
    pub(super) fn axes(&self, ix: usize) -> Option<&'r [AxisDraft<'t>]> {
        let root = &self.drafts[self.roots.of(ix)?];
        match &root.matrix {
            _ if root.broken || self.drafts[ix].broken => None,
            MatrixDraft::None => Some(&[]),
            MatrixDraft::Tables(tables, _) => tables.first().map(Vec::as_slice),
            MatrixDraft::Same(_) => None,
        }
    }

    /// All values of an axis that are written in the spec.
    pub(super) fn domain(&mut self, root: usize, axis: &'t str) -> &Domain {
        let drafts = self.drafts;
        self.domains.entry((root, axis)).or_insert_with(|| {
            let MatrixDraft::Tables(tables, _) = &drafts[root].matrix else { return Domain::Open };
            let mut values = HashMap::new();
            for axis in tables.iter().flatten().filter(|candidate| candidate.name == axis) {
                let AxisValuesDraft::Literal(literal) = &axis.values else { return Domain::Open };
                values.extend(literal.iter().map(|value| (value.to_string(), value.clone())));
            }
            Domain::Known(values)
        })
    }

    /// The matrix of every step. Fills [`Resolver::roots`] first: references need them.
    pub(super) fn matrices(&mut self) -> Vec<Option<Matrix>> {
        self.roots = self.find_roots();
        let mut dynamic: HashMap<usize, Vec<(usize, Span)>> = HashMap::new();
        let mut matrices = Vec::with_capacity(self.drafts.len());
        for (ix, draft) in self.drafts.iter().enumerate() {
            matrices.push(match &draft.matrix {
                MatrixDraft::None => Some(Matrix::None),
                MatrixDraft::Same(name) => self.same(ix, *name),
                MatrixDraft::Tables(tables, span) => {
                    self.check_size(tables, *span);
                    let before = self.dependencies[ix].len();
                    let matrix = self.tables(ix, tables);
                    dynamic.insert(ix, self.dependencies[ix][before..].to_vec());
                    matrix
                }
            });
        }
        // Whoever has the instances of another step waits for what makes them.
        for (ix, draft) in self.drafts.iter().enumerate() {
            if let (MatrixDraft::Same(_), Some(root)) = (&draft.matrix, self.roots.of(ix)) {
                self.dependencies[ix].extend(dynamic.get(&root).into_iter().flatten());
            }
        }
        matrices
    }

    fn find_roots(&mut self) -> Roots {
        let mut roots: Vec<Option<Option<usize>>> = vec![None; self.drafts.len()];
        // The walk that came by a step last: coming by twice in one walk is a cycle.
        let mut walks = vec![usize::MAX; self.drafts.len()];
        for start in 0..self.drafts.len() {
            let mut path = Vec::new();
            let mut at = start;
            let found = loop {
                if let Some(known) = roots[at] {
                    break known;
                }
                if std::mem::replace(&mut walks[at], start) == start {
                    self.cyclic_matrix(at);
                    break None;
                }
                path.push(at);
                match &self.drafts[at].matrix {
                    MatrixDraft::Same(name) => match self.find_step(name.text, name.span) {
                        Some(next) => at = next,
                        None => break None,
                    },
                    _ => break Some(at),
                }
            };
            for ix in path {
                roots[ix] = Some(found);
            }
        }
        Roots(roots.into_iter().map(Option::flatten).collect())
    }

    fn cyclic_matrix(&mut self, ix: usize) {
        if let MatrixDraft::Same(name) = &self.drafts[ix].matrix {
            let message =
                format!("the matrix of {} is its own, by way of {}", quote(self.drafts[ix].name), quote(name.text));
            self.reader.push(Diag::error("matrix-cycle", name.span, message).help("one of them needs axes of its own"));
        }
    }

    fn same(&mut self, ix: usize, name: Text<'t>) -> Option<Matrix> {
        let root = self.roots.of(ix)?;
        if matches!(self.drafts[root].matrix, MatrixDraft::None) && !self.drafts[root].broken {
            let message = format!("{} has no matrix", quote(name.text));
            self.reader.push(
                Diag::error("same-without-matrix", name.span, message)
                    .related(self.drafts[root].span, "one instance")
                    .help("`matrix = \"step\"` takes over the instances of a step that has a matrix"),
            );
            return None;
        }
        Some(Matrix::Same(step_ix(root)))
    }

    fn tables(&mut self, ix: usize, tables: &'r [Vec<AxisDraft<'t>>]) -> Option<Matrix> {
        let mut resolved = Vec::with_capacity(tables.len());
        for table in tables {
            let axes = table.iter().map(|axis| {
                let values = match &axis.values {
                    AxisValuesDraft::Literal(values) => AxisValues::Literal(values.clone()),
                    AxisValuesDraft::Reference(text) => self.axis_source(ix, axis, *text)?,
                    AxisValuesDraft::Broken => return None,
                };
                Some(Axis { name: axis.name.to_owned(), span: axis.span, values })
            });
            // All of them, so that each one's errors are seen.
            let axes: Vec<_> = axes.collect();
            resolved.push(axes.into_iter().collect::<Option<Vec<_>>>());
        }
        if tables.len() > 1 {
            self.check_distinct(tables);
        }
        Some(Matrix::Tables(resolved.into_iter().collect::<Option<_>>()?))
    }

    /// `"params.regions"` or `"step.output"`.
    fn axis_source(&mut self, ix: usize, axis: &AxisDraft<'t>, text: Text<'t>) -> Option<AxisValues> {
        if let Some(name) = text.text.strip_prefix("params.") {
            let span = text.span;
            let mut used = BTreeSet::new();
            self.check_param(name, Part::whole(text), &mut used);
            let decl = self.params.get(name)?;
            if decl.ty != Type::List {
                if self.broken_params.contains(name) {
                    return None;
                }
                let message = format!("param {} is of type {}: an axis needs a list", quote(name), decl.ty);
                self.reader.push(Diag::error("axis-type", span, message).related(decl.span, "declared here"));
                return None;
            }
            self.check_default(axis, name);
            return Some(AxisValues::Param(name.to_owned()));
        }
        let mut no_params = BTreeSet::new();
        let reference = self.reference(ix, Part::whole(text), Use::Axis, &mut no_params)?;
        let output = &self.drafts[reference.step.0 as usize].outputs[reference.output];
        let broken = self.drafts[reference.step.0 as usize].broken;
        if let Some(ty) = output.ty.filter(|ty| *ty != Type::Json && !broken) {
            let message =
                format!("{} is a value of type {ty}: an axis needs a JSON list or a directory", quote(text.text));
            self.reader.push(Diag::error("axis-type", text.span, message).related(output.span, "declared here"));
            return None;
        }
        Some(AxisValues::Dynamic(reference))
    }

    /// The default of a list that an axis has: scalars, each once. What is given instead is checked when it is known.
    fn check_default(&mut self, axis: &AxisDraft<'t>, name: &str) {
        let Some(decl) = self.params.get(name) else { return };
        let Some(Value::Json(serde_json::Value::Array(elements))) = &decl.default else { return };
        let mut seen = HashSet::new();
        let problem = elements.iter().find_map(|element| match element {
            serde_json::Value::Array(_) | serde_json::Value::Object(_) | serde_json::Value::Null => {
                Some(format!("{element} cannot be a value of axis {}", quote(axis.name)))
            }
            other if !seen.insert(other.to_string()) => {
                Some(format!("the value {} appears twice on axis {}", quote(&other.to_string()), quote(axis.name)))
            }
            _ => None,
        });
        if let Some(problem) = problem {
            let message = format!("param {}: {problem}", quote(name));
            self.reader.push(Diag::error("duplicate", decl.span, message).related(axis.span, "the axis"));
        }
    }

    fn check_size(&mut self, tables: &[Vec<AxisDraft<'t>>], span: Span) {
        let length = |axis: &AxisDraft<'_>| match &axis.values {
            AxisValuesDraft::Literal(values) => values.len() as u64,
            _ => 1,
        };
        let product = |table: &Vec<AxisDraft<'_>>| table.iter().map(length).fold(1_u64, u64::saturating_mul);
        let instances = tables.iter().map(product).fold(0_u64, u64::saturating_add);
        if instances > MAX_INSTANCES {
            let message = match instances {
                u64::MAX => "the matrix makes more instances than can be counted".to_owned(),
                instances => format!("the matrix makes {instances} instances"),
            };
            self.reader.push(
                Diag::error("too-many-instances", span, message)
                    .help(format!("at most {MAX_INSTANCES} are allowed: let an instance do more than one")),
            );
        }
    }

    /// No two tables of a list make the same instance.
    fn check_distinct(&mut self, tables: &[Vec<AxisDraft<'t>>]) {
        let Some(first) = tables.first() else { return };
        let names: Vec<_> = first.iter().map(|axis| axis.name).collect();
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, table) in tables.iter().enumerate() {
            let mut ids = vec![String::new()];
            for name in &names {
                let Some(AxisDraft { values: AxisValuesDraft::Literal(values), .. }) =
                    table.iter().find(|axis| axis.name == *name)
                else {
                    return;
                };
                if (ids.len() as u64).saturating_mul(values.len() as u64) > MAX_INSTANCES {
                    return;
                }
                let longer =
                    |id: &String| values.iter().map(|value| format!("{id},{name}={value}")).collect::<Vec<_>>();
                ids = ids.iter().flat_map(longer).collect();
            }
            for id in ids {
                let Some(other) = seen.get(&id) else {
                    seen.insert(id, index);
                    continue;
                };
                let span = |index: usize| tables[index].first().map(|axis| axis.span).unwrap_or_default();
                let message = format!("two tables make the instance {}", quote(id.trim_start_matches(',')));
                self.reader
                    .push(Diag::error("duplicate", span(index), message).related(span(*other), "the other table"));
                return;
            }
        }
    }

    /// A shared axis is matched by the text of its values, as ids are: each of the consumer's must be one of the producer's.
    pub(super) fn compare_axis(&mut self, ix: usize, producer: usize, axis: &'t str, span: Span) {
        let (Some(own), Some(theirs)) = (self.roots.of(ix), self.roots.of(producer)) else { return };
        if own == theirs || !self.compared.insert((own, theirs, axis)) {
            return;
        }
        self.domain(own, axis);
        self.domain(theirs, axis);
        let (Some(Domain::Known(own)), Some(Domain::Known(theirs))) =
            (self.domains.get(&(own, axis)), self.domains.get(&(theirs, axis)))
        else {
            return;
        };
        let mut missing: Vec<_> = own.keys().filter(|text| !theirs.contains_key(*text)).map(String::as_str).collect();
        missing.sort_unstable();
        let Some(first) = missing.first() else { return };
        let mut known: Vec<_> = theirs.keys().map(String::as_str).collect();
        known.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        let name = quote(self.drafts[producer].name);
        let message = format!("{name} has no instance with {} for this step to use", quote(&format!("{axis}={first}")));
        let help = format!("axis {} of {name} has the values {}", quote(axis), list(known));
        self.reader.push(Diag::error("unmatched-value", span, message).help(help));
    }
}
