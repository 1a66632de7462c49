//! Conditions: the small typed grammar of `when`.

pub(crate) mod parse;

use std::cmp::Ordering;
use std::fmt;

use crate::value::{Type, Value};
use crate::workflow::{Comparison, Expr};

/// Why a condition has no truth value. Types are checked when the spec is read; what only comes with the values (an
/// axis from a list param, a missing value) ends here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvalError {
    /// A value is not known.
    Unknown(String),
    /// These two cannot be compared this way.
    Incomparable(Comparison, Type, Type),
    /// A value stands where a truth value must.
    NotBool(Type),
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "the value of `{name}` is not known"),
            Self::Incomparable(comparison, left, right) => write!(f, "cannot compare {left} {comparison} {right}"),
            Self::NotBool(ty) => write!(f, "a value of type {ty} is neither true nor false"),
        }
    }
}

impl std::error::Error for EvalError {}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        })
    }
}

/// Gives the value of a leaf ([`Expr::Param`], [`Expr::Matrix`], [`Expr::Output`], [`Expr::RunStatus`]), if it is known.
pub type Lookup<'a> = &'a dyn Fn(&Expr) -> Option<Value>;

/// Whether the condition holds, all values being known.
pub fn eval(expr: &Expr, lookup: Lookup<'_>) -> Result<bool, EvalError> {
    match fold(expr, lookup)? {
        Expr::Literal(Value::Bool(holds)) => Ok(holds),
        Expr::Literal(other) => Err(EvalError::NotBool(other.type_of())),
        open => Err(EvalError::Unknown(first_leaf(&open))),
    }
}

/// The condition with every known value put in and everything decided that they decide: `false and x` is `false`
/// whatever `x` will be.
pub fn fold(expr: &Expr, lookup: Lookup<'_>) -> Result<Expr, EvalError> {
    let both = |left: &Expr, right: &Expr| Ok((fold(left, lookup)?, fold(right, lookup)?));
    Ok(match expr {
        Expr::Literal(_) => expr.clone(),
        Expr::Param(_) | Expr::Matrix(_) | Expr::Output(_) | Expr::RunStatus => {
            lookup(expr).map_or_else(|| expr.clone(), Expr::Literal)
        }
        Expr::Not(inner) => match fold(inner, lookup)? {
            Expr::Literal(value) => Expr::Literal(Value::Bool(!truth(&value)?)),
            open => Expr::Not(Box::new(open)),
        },
        Expr::And(left, right) => connect(both(left, right)?, false, Expr::And)?,
        Expr::Or(left, right) => connect(both(left, right)?, true, Expr::Or)?,
        Expr::Compare(comparison, left, right) => match both(left, right)? {
            (Expr::Literal(left), Expr::Literal(right)) => {
                Expr::Literal(Value::Bool(compare(*comparison, &left, &right)?))
            }
            (left, right) => Expr::Compare(*comparison, Box::new(left), Box::new(right)),
        },
    })
}

/// `and` is decided by one `false`, `or` by one `true`; the other constant leaves the other side.
fn connect(sides: (Expr, Expr), decisive: bool, open: fn(Box<Expr>, Box<Expr>) -> Expr) -> Result<Expr, EvalError> {
    Ok(match sides {
        (Expr::Literal(value), other) | (other, Expr::Literal(value)) => {
            if truth(&value)? == decisive {
                Expr::Literal(value)
            } else {
                other
            }
        }
        (left, right) => open(Box::new(left), Box::new(right)),
    })
}

fn truth(value: &Value) -> Result<bool, EvalError> {
    match value {
        Value::Bool(holds) => Ok(*holds),
        other => Err(EvalError::NotBool(other.type_of())),
    }
}

/// Numbers compare with numbers, strings and booleans with their like and only for equality.
pub fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<bool, EvalError> {
    let incomparable = || EvalError::Incomparable(comparison, left.type_of(), right.type_of());
    let ordering = match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Float(right)) => compare_mixed(*left, *right),
        (Value::Float(left), Value::Int(right)) => compare_mixed(*right, *left).map(Ordering::reverse),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => {
            return match comparison {
                Comparison::Eq => Ok(left == right),
                Comparison::Ne => Ok(left != right),
                _ => Err(incomparable()),
            };
        }
        _ => None,
    };
    let ordering = ordering.ok_or_else(incomparable)?;
    Ok(match comparison {
        Comparison::Eq => ordering.is_eq(),
        Comparison::Ne => ordering.is_ne(),
        Comparison::Lt => ordering.is_lt(),
        Comparison::Le => ordering.is_le(),
        Comparison::Gt => ordering.is_gt(),
        Comparison::Ge => ordering.is_ge(),
    })
}

/// Exactly, also where a double cannot hold the integer.
fn compare_mixed(left: i64, right: f64) -> Option<Ordering> {
    if right.is_nan() {
        return None;
    }
    // From here on the cast saturates only where the comparison is clear anyway.
    if right >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if right < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let whole = right.floor();
    Some(left.cmp(&(whole as i64)).then(if right > whole { Ordering::Less } else { Ordering::Equal }))
}

/// The name of the first leaf, as written.
fn first_leaf(expr: &Expr) -> String {
    match expr {
        Expr::Literal(value) => value.to_string(),
        Expr::Param(name) => format!("params.{name}"),
        Expr::Matrix(name) => format!("matrix.{name}"),
        Expr::Output(index) => format!("output {index}"),
        Expr::RunStatus => "run.status".to_owned(),
        Expr::Not(inner) => first_leaf(inner),
        Expr::And(left, right) | Expr::Or(left, right) | Expr::Compare(_, left, right) => match left.as_ref() {
            Expr::Literal(_) => first_leaf(right),
            open => first_leaf(open),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i64) -> Box<Expr> {
        Box::new(Expr::Literal(Value::Int(value)))
    }

    fn unknown(name: &str) -> Box<Expr> {
        Box::new(Expr::Param(name.to_owned()))
    }

    fn literal(value: bool) -> Box<Expr> {
        Box::new(Expr::Literal(Value::Bool(value)))
    }

    #[test]
    fn folding_decides_what_is_decided() {
        let nothing: Lookup<'_> = &|_| None;
        let fold = |expr| fold(&expr, nothing);
        assert_eq!(fold(Expr::And(unknown("x"), literal(false))), Ok(*literal(false)));
        assert_eq!(fold(Expr::Or(literal(true), unknown("x"))), Ok(*literal(true)));
        assert_eq!(fold(Expr::And(literal(true), unknown("x"))), Ok(*unknown("x")));
        assert_eq!(fold(Expr::Not(unknown("x"))), Ok(Expr::Not(unknown("x"))));
        assert_eq!(eval(&Expr::Not(unknown("x")), nothing), Err(EvalError::Unknown("params.x".to_owned())));
        let less = Expr::Compare(Comparison::Lt, int(1), unknown("x"));
        assert_eq!(fold(less.clone()), Ok(less.clone()));
        assert_eq!(eval(&less, &|_| Some(Value::Float(1.5))), Ok(true));
    }

    #[test]
    fn numbers_compare_exactly() {
        let big = 9_007_199_254_740_993; // 2^53 + 1: no double
        let check = |op, left, right| compare(op, &left, &right);
        assert_eq!(check(Comparison::Eq, Value::Int(big), Value::Float(9_007_199_254_740_992.0)), Ok(false));
        assert_eq!(check(Comparison::Gt, Value::Int(big), Value::Float(9_007_199_254_740_992.0)), Ok(true));
        assert_eq!(check(Comparison::Lt, Value::Int(i64::MAX), Value::Float(1e300)), Ok(true));
        assert_eq!(check(Comparison::Gt, Value::Int(i64::MIN), Value::Float(-1e300)), Ok(true));
        assert_eq!(check(Comparison::Lt, Value::Float(-0.5), Value::Int(0)), Ok(true));
        assert_eq!(check(Comparison::Ge, Value::Float(2.0), Value::Int(2)), Ok(true));
    }

    #[test]
    fn strings_and_booleans_are_equal_or_not() {
        let text = |text: &str| Value::String(text.to_owned());
        assert_eq!(compare(Comparison::Ne, &text("a"), &text("b")), Ok(true));
        assert!(compare(Comparison::Lt, &text("a"), &text("b")).is_err());
        assert!(compare(Comparison::Gt, &Value::Bool(true), &Value::Bool(false)).is_err());
        assert!(compare(Comparison::Eq, &text("1"), &Value::Int(1)).is_err());
    }
}
