//! Conditions: names resolved, types checked.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Resolver;
use super::references::{Part, Use};
use crate::condition::parse::{self, Node, NodeKind};
use crate::diag::Diag;
use crate::spec::draft::{AxisValuesDraft, MatrixDraft};
use crate::spec::reader::Text;
use crate::spec::words::{list, quote, suggest};
use crate::value::{Type, Value};
use crate::workflow::{Comparison, Condition, Expr, OutputRef};

/// What `run.status` can be.
const STATUSES: [&str; 3] = ["succeeded", "failed", "cancelled"];

/// The type of an expression as far as comparing goes. Ints and floats are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    String,
    /// Known only with the values: an axis from a list param or from a step.
    Open,
}

impl Kind {
    const fn of(ty: Type) -> Option<Self> {
        match ty {
            Type::Bool => Some(Self::Bool),
            Type::Int | Type::Float => Some(Self::Number),
            Type::String => Some(Self::String),
            Type::List | Type::Json => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Open => "a value",
        }
    }
}

impl<'t> Resolver<'_, 't> {
    /// Resolves the `when` of step `ix`.
    pub(super) fn when(&mut self, ix: usize, text: Text<'t>) -> Option<Condition> {
        let part = Part::whole(text);
        let node = match parse::parse(text.text) {
            Ok(node) => node,
            Err(error) => {
                let span = self.place(part, error.range);
                let mut diag = Diag::error("bad-condition", span, error.problem);
                diag.help = error.help.map(str::to_owned);
                self.reader.push(diag);
                return None;
            }
        };
        let mut refs = Vec::new();
        let expr = self.truth(ix, part, &node, &mut refs)?;
        Some(Condition { span: text.span, expr, refs })
    }

    /// An expression that must be true or false.
    fn truth(&mut self, ix: usize, part: Part<'t>, node: &Node, refs: &mut Vec<OutputRef>) -> Option<Expr> {
        let (expr, kind) = self.expression(ix, part, node, refs)?;
        if matches!(kind, Kind::Bool | Kind::Open) {
            return Some(expr);
        }
        let message = format!("{} is {}, neither true nor false", quote(&part.text[node.range.clone()]), kind.name());
        let help = match kind {
            Kind::String => "compare it with `==` or `!=`",
            _ => "compare it with `==`, `!=`, `<`, `<=`, `>` or `>=`",
        };
        let span = self.place(part, node.range.clone());
        self.reader.push(Diag::error("condition-type", span, message).help(help));
        None
    }

    fn expression(
        &mut self,
        ix: usize,
        part: Part<'t>,
        node: &Node,
        refs: &mut Vec<OutputRef>,
    ) -> Option<(Expr, Kind)> {
        Some(match &node.kind {
            NodeKind::Literal(value) => (Expr::Literal(value.clone()), Kind::of(value.type_of())?),
            NodeKind::Name => self.name(ix, part, node.range.clone(), refs)?,
            NodeKind::Not(inner) => (Expr::Not(Box::new(self.truth(ix, part, inner, refs)?)), Kind::Bool),
            NodeKind::And(left, right) | NodeKind::Or(left, right) => {
                // Both, so that the errors of each are seen.
                let (left, right) = (self.truth(ix, part, left, refs), self.truth(ix, part, right, refs));
                let (left, right) = (Box::new(left?), Box::new(right?));
                let is_and = matches!(node.kind, NodeKind::And(..));
                (if is_and { Expr::And(left, right) } else { Expr::Or(left, right) }, Kind::Bool)
            }
            NodeKind::Compare(comparison, left, right) => {
                let sides = (self.expression(ix, part, left, refs), self.expression(ix, part, right, refs));
                let (left_side, right_side) = (sides.0?, sides.1?);
                self.check_comparison(part, node, *comparison, left_side.1, right_side.1)?;
                self.check_literal(part, (&left_side.0, left), (&right_side.0, right));
                self.check_literal(part, (&right_side.0, right), (&left_side.0, left));
                (Expr::Compare(*comparison, Box::new(left_side.0), Box::new(right_side.0)), Kind::Bool)
            }
        })
    }

    fn check_comparison(
        &mut self,
        part: Part<'t>,
        node: &Node,
        comparison: Comparison,
        left: Kind,
        right: Kind,
    ) -> Option<()> {
        let equality = matches!(comparison, Comparison::Eq | Comparison::Ne);
        let (message, help) = match (left, right) {
            (Kind::Open, Kind::Open) => return Some(()),
            (Kind::Bool | Kind::String, _) | (_, Kind::Bool | Kind::String) if !equality => {
                let what = if left == Kind::Open || left == Kind::Number { right } else { left };
                let message = format!("{} compares only with `==` and `!=`, not with `{comparison}`", what.name());
                (message, "numbers can be ordered; strings and booleans cannot")
            }
            (Kind::Open, _) | (_, Kind::Open) => return Some(()),
            (left, right) if left == right => return Some(()),
            (left, right) => {
                let message = format!("{} is never compared with {}", left.name(), right.name());
                (message, "both sides need the same type; strings are in quotes, numbers are not")
            }
        };
        let span = self.place(part, node.range.clone());
        self.reader.push(Diag::error("condition-type", span, message).help(help));
        None
    }

    /// A literal that the other side can never be is a slip of the pen.
    fn check_literal(&mut self, part: Part<'t>, name: (&Expr, &Node), literal: (&Expr, &Node)) {
        let Expr::Literal(value) = literal.0 else { return };
        let known: Vec<String> = match name.0 {
            Expr::RunStatus => STATUSES.iter().map(|status| (*status).to_owned()).collect(),
            Expr::Param(param) => {
                let choices = self.params.get(param).map_or(&[][..], |decl| &decl.choices);
                if choices.is_empty() || !matches!(value, Value::String(_)) {
                    return;
                }
                choices.iter().map(ToString::to_string).collect()
            }
            _ => return,
        };
        let text = value.to_string();
        if known.contains(&text) {
            return;
        }
        let names = || known.iter().map(String::as_str);
        let message = format!("{} is never {}", quote(&part.text[name.1.range.clone()]), quote(&text));
        let help = suggest(&text, names()).unwrap_or_else(|| format!("it is one of {}", list(names())));
        let span = self.place(part, literal.1.range.clone());
        self.reader.push(Diag::error("never-equal", span, message).help(help));
    }

    fn name(
        &mut self,
        ix: usize,
        part: Part<'t>,
        range: Range<usize>,
        refs: &mut Vec<OutputRef>,
    ) -> Option<(Expr, Kind)> {
        let name = &part.text[range.clone()];
        let span = self.place(part, range.clone());
        match name.split_once('.') {
            Some(("params", param)) => {
                let before = self.reader.found();
                self.check_param(param, part.slice(range.clone()), &mut BTreeSet::new());
                if self.reader.found() != before {
                    return None;
                }
                let ty = self.params.get(param)?.ty;
                let kind = if self.broken_params.contains(param) { Some(Kind::Open) } else { Kind::of(ty) };
                let Some(kind) = kind else {
                    self.untyped(part.slice(range), ty);
                    return None;
                };
                Some((Expr::Param(param.to_owned()), kind))
            }
            Some(("matrix", axis)) => {
                self.check_axis(ix, axis, part.slice(range));
                Some((Expr::Matrix(axis.to_owned()), self.axis_kind(ix, axis)?))
            }
            Some(("run", "status")) => {
                if !self.drafts[ix].common.finally {
                    let message = "`run.status` is known only to a `finally` step";
                    self.reader
                        .push(Diag::error("run-status", span, message).help("add `finally = true`, or remove it"));
                    return None;
                }
                Some((Expr::RunStatus, Kind::String))
            }
            None => {
                let message = format!("{} means nothing here", quote(name));
                let help = match self.meant_value(name) {
                    Some(meant) => format!("did you mean {}?", quote(&meant)),
                    None => format!("a value is `step.{name}`, a param `params.{name}`, a string '{name}' in quotes"),
                };
                self.reader.push(Diag::error("bad-condition", span, message).help(help));
                None
            }
            Some(_) => self.value(ix, part.slice(range), refs),
        }
    }

    /// A value of another step.
    fn value(&mut self, ix: usize, part: Part<'t>, refs: &mut Vec<OutputRef>) -> Option<(Expr, Kind)> {
        let reference = self.reference(ix, part, Use::When, &mut BTreeSet::new())?;
        let ty = self.drafts[reference.step.0 as usize].outputs[reference.output].ty?;
        let Some(kind) = Kind::of(ty) else {
            self.untyped(part, ty);
            return None;
        };
        let same = |known: &OutputRef| {
            (known.step, known.output, &known.picks) == (reference.step, reference.output, &reference.picks)
        };
        let index = refs.iter().position(same).unwrap_or(refs.len());
        if index == refs.len() {
            refs.push(reference);
        }
        Some((Expr::Output(index), kind))
    }

    /// Says that a list or other JSON stands where a value to compare must.
    fn untyped(&mut self, part: Part<'t>, ty: Type) {
        let message = format!("{} is of type {ty}: that cannot be compared", quote(part.text));
        let help = "conditions know strings, numbers and booleans";
        let span = self.place(part, 0..part.text.len());
        self.reader.push(Diag::error("condition-type", span, message).help(help));
    }

    /// What all values of an axis are. `None`: they are not of one kind, or the axis is unknown.
    fn axis_kind(&self, ix: usize, name: &str) -> Option<Kind> {
        let MatrixDraft::Tables(tables, _) = &self.drafts[self.roots.of(ix)?].matrix else { return None };
        let mut kind = None;
        for axis in tables.iter().flatten().filter(|axis| axis.name == name) {
            let AxisValuesDraft::Literal(values) = &axis.values else { return Some(Kind::Open) };
            for value in values {
                let this = Kind::of(value.type_of())?;
                match kind {
                    Some(other) if other != this => return Some(Kind::Open),
                    _ => kind = Some(this),
                }
            }
        }
        kind.or(Some(Kind::Open))
    }
}
