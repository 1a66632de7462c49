//! Reads the text of a condition: a Pratt parser over a handful of operators.

use std::ops::Range;

use crate::spec::reference::bracket_end;
use crate::value::Value;
use crate::workflow::Comparison;

/// Longer conditions are refused: they are nobody's handwriting, and trees stay shallow.
pub(crate) const MAX_LENGTH: usize = 4096;
/// Deeper parentheses are refused: the parser calls itself.
const MAX_DEPTH: usize = 64;

/// A condition as written; ranges are byte offsets into its text.
#[derive(Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) range: Range<usize>,
}

/// What a [`Node`] is.
#[derive(Debug, PartialEq)]
pub(crate) enum NodeKind {
    Literal(Value),
    /// A dotted name: its text is what `range` covers.
    Name,
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
}

/// Why a text is no condition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) range: Range<usize>,
    pub(crate) problem: String,
    pub(crate) help: Option<&'static str>,
}

/// Reads a whole condition.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if text.len() > MAX_LENGTH {
        return Err(SyntaxError {
            range: 0..text.len(),
            problem: format!("the condition is longer than {MAX_LENGTH} bytes"),
            help: Some("decide it in a step, and use the step's value"),
        });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, end: text.len(), at: 0, depth: 0 };
    let node = parser.expression(0)?;
    match parser.peek() {
        None => Ok(node),
        Some((Token::Close, range)) => Err(error(range.clone(), "this parenthesis was not opened")),
        Some((_, range)) => Err(SyntaxError {
            range: range.clone(),
            problem: "an operator is missing before this".to_owned(),
            help: Some("for example `==`, `<`, `and`, `or`"),
        }),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(Value),
    Name,
    Compare(Comparison),
    And,
    Or,
    Not,
    Open,
    Close,
}

type Placed = (Token, Range<usize>);

fn error(range: Range<usize>, problem: impl Into<String>) -> SyntaxError {
    SyntaxError { range, problem: problem.into(), help: None }
}

fn tokens(text: &str) -> Result<Vec<Placed>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (token, length) = match c {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '\'' | '"' => string(text, at, c)?,
            '=' | '!' | '<' | '>' | '&' | '|' => operator(text, at)?,
            '-' | '0'..='9' => number(text, at)?,
            c if c.is_alphabetic() || c == '_' => word(text, at)?,
            '{' if text[at..].starts_with("{{") => {
                let help = Some("names are written without braces here: `params.x`");
                return Err(SyntaxError { range: at..at + 2, problem: "this is not a template".to_owned(), help });
            }
            c => return Err(error(at..at + c.len_utf8(), format!("`{}` means nothing here", c.escape_debug()))),
        };
        tokens.push((token, at..at + length));
        at += length;
    }
    Ok(tokens)
}

fn string(text: &str, at: usize, quote: char) -> Result<(Token, usize), SyntaxError> {
    match text[at + 1..].find(quote) {
        Some(length) => Ok((Token::Literal(Value::String(text[at + 1..at + 1 + length].to_owned())), length + 2)),
        None => Err(error(at..text.len(), "the string is not closed")),
    }
}

fn operator(text: &str, at: usize) -> Result<(Token, usize), SyntaxError> {
    let rest = &text[at..];
    let two: String = rest.chars().take(2).collect();
    let found = match two.as_str() {
        "==" => (Comparison::Eq, 2),
        "!=" => (Comparison::Ne, 2),
        "<=" => (Comparison::Le, 2),
        ">=" => (Comparison::Ge, 2),
        _ if rest.starts_with('<') => (Comparison::Lt, 1),
        _ if rest.starts_with('>') => (Comparison::Gt, 1),
        other => {
            let (length, help) = match other {
                "&&" => (2, "write `and`"),
                "||" => (2, "write `or`"),
                _ if rest.starts_with('=') => (1, "write `==`"),
                _ if rest.starts_with('!') => (1, "write `not`"),
                _ => (1, "write `and` or `or`"),
            };
            let problem = format!("`{}` is not an operator", &rest[..length]);
            return Err(SyntaxError { range: at..at + length, problem, help: Some(help) });
        }
    };
    Ok((Token::Compare(found.0), found.1))
}

fn number(text: &str, at: usize) -> Result<(Token, usize), SyntaxError> {
    let rest = &text[at..];
    let sign_allowed = |index: usize| index == 0 || matches!(rest.as_bytes()[index - 1], b'e' | b'E');
    let length = rest
        .char_indices()
        .find(|(index, c)| {
            !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || (matches!(c, '+' | '-') && sign_allowed(*index)))
        })
        .map_or(rest.len(), |(index, _)| index);
    let written = &rest[..length];
    let whole = written.strip_prefix('-').unwrap_or(written).bytes().all(|byte| byte.is_ascii_digit());
    let value = if whole {
        written.parse().ok().map(Value::Int)
    } else {
        // Rust also reads `inf`, `nan` and a point without digits beside it.
        let strict = written.bytes().last().is_some_and(|byte| byte.is_ascii_digit()) && !written.contains("-.");
        written.parse::<f64>().ok().filter(|number| strict && number.is_finite()).map(Value::Float)
    };
    match value {
        Some(value) => Ok((Token::Literal(value), length)),
        None => Err(error(at..at + length.max(1), format!("`{written}` is not a number"))),
    }
}

fn word(text: &str, at: usize) -> Result<(Token, usize), SyntaxError> {
    let mut end = at;
    while let Some(c) = text[end..].chars().next() {
        if c == '[' {
            end = bracket_end(text, end).ok_or_else(|| error(end..text.len(), "the bracket is not closed"))? + 1;
        } else if c.is_alphanumeric() || c == '_' || c == '.' {
            end += c.len_utf8();
        } else {
            break;
        }
    }
    let token = match &text[at..end] {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        "true" => Token::Literal(Value::Bool(true)),
        "false" => Token::Literal(Value::Bool(false)),
        "in" => {
            let help = Some("compare with each: `params.x == 'a' or params.x == 'b'`");
            return Err(SyntaxError { range: at..end, problem: "`in` is not an operator".to_owned(), help });
        }
        _ => Token::Name,
    };
    Ok((token, end - at))
}

struct Parser<'a> {
    tokens: &'a [Placed],
    end: usize,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Placed> {
        self.tokens.get(self.at)
    }

    /// Reads as long as operators bind tighter than `min`: `or` 1, `and` 2, `not` 3, comparisons 4.
    fn expression(&mut self, min: u8) -> Result<Node, SyntaxError> {
        let mut left = self.operand()?;
        let mut compared = false;
        while let Some((token, range)) = self.peek() {
            let power = match token {
                Token::Or => 1,
                Token::And => 2,
                Token::Compare(_) => 4,
                _ => break,
            };
            if power <= min {
                break;
            }
            let compares = matches!(token, Token::Compare(_));
            if compares && compared {
                let help = Some("write `a < b and b < c`");
                return Err(SyntaxError {
                    range: range.clone(),
                    problem: "comparisons cannot be chained".to_owned(),
                    help,
                });
            }
            compared = compares;
            self.at += 1;
            let right = self.expression(power)?;
            let range = left.range.start..right.range.end;
            let (left_side, right) = (Box::new(left), Box::new(right));
            let kind = match token {
                Token::Or => NodeKind::Or(left_side, right),
                Token::And => NodeKind::And(left_side, right),
                Token::Compare(comparison) => NodeKind::Compare(*comparison, left_side, right),
                _ => unreachable!("only operators have a power"),
            };
            left = Node { kind, range };
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Node, SyntaxError> {
        let Some((token, range)) = self.peek() else {
            let last = self.tokens.last().map_or(0..self.end, |(_, range)| range.clone());
            return Err(error(last, "something is missing after this"));
        };
        self.at += 1;
        match token {
            Token::Literal(value) => Ok(Node { kind: NodeKind::Literal(value.clone()), range: range.clone() }),
            Token::Name => Ok(Node { kind: NodeKind::Name, range: range.clone() }),
            Token::Not => {
                let inner = self.nested(range, |parser| parser.expression(3))?;
                let whole = range.start..inner.range.end;
                Ok(Node { kind: NodeKind::Not(Box::new(inner)), range: whole })
            }
            Token::Open => {
                let inner = self.nested(range, |parser| parser.expression(0))?;
                match self.peek() {
                    Some((Token::Close, close)) => {
                        self.at += 1;
                        Ok(Node { kind: inner.kind, range: range.start..close.end })
                    }
                    _ => Err(error(range.clone(), "this parenthesis is not closed")),
                }
            }
            Token::Compare(_) | Token::And | Token::Or => Err(error(range.clone(), "something is missing before this")),
            Token::Close => Err(error(range.clone(), "something is missing before this parenthesis")),
        }
    }

    fn nested(
        &mut self,
        range: &Range<usize>,
        read: impl FnOnce(&mut Self) -> Result<Node, SyntaxError>,
    ) -> Result<Node, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error(range.clone(), format!("more than {MAX_DEPTH} levels of nesting")));
        }
        let node = read(self)?;
        self.depth -= 1;
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree with all parentheses.
    fn shape(text: &str) -> String {
        fn show(node: &Node, text: &str) -> String {
            match &node.kind {
                NodeKind::Literal(value) => value.to_string(),
                NodeKind::Name => text[node.range.clone()].to_owned(),
                NodeKind::Not(inner) => format!("!{}", show(inner, text)),
                NodeKind::And(a, b) => format!("({} & {})", show(a, text), show(b, text)),
                NodeKind::Or(a, b) => format!("({} | {})", show(a, text), show(b, text)),
                NodeKind::Compare(op, a, b) => format!("({} {op:?} {})", show(a, text), show(b, text)),
            }
        }
        show(&parse(text).unwrap(), text)
    }

    #[test]
    fn precedence() {
        assert_eq!(shape("a.x or b.x and not c.x == 1"), "(a.x | (b.x & !(c.x Eq 1)))");
        assert_eq!(shape("(a.x or b.x) and c.x"), "((a.x | b.x) & c.x)");
        assert_eq!(shape("a.x or b.x or c.x"), "((a.x | b.x) | c.x)");
        assert_eq!(shape("s[k='a]'].v >= -1.5e-3"), "(s[k='a]'].v Ge -0.0015)");
        assert_eq!(shape("not not true"), "!!true");
        assert_eq!(shape("(a.x == 1) == (b.x == 2)"), "((a.x Eq 1) Eq (b.x Eq 2))");
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "a.x ==",
            "== 1",
            "a.x = 1",
            "a.x && b.x",
            "!a.x",
            "a.x in b.x",
            "1 < 2 < 3",
            "(a.x",
            "a.x)",
            "a.x b.x",
            "'open",
            "1.",
            ".5",
            "1e999",
            "99999999999999999999",
            "s[k.x",
            "a.x + 1",
            "1_000",
            "-",
            "- 1",
            "--1",
            "-inf",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"(".repeat(4000)).is_err());
        assert!(parse(&"not ".repeat(1000)).is_err());
        assert!(parse(&"true or ".repeat(1000)).is_err());
    }
}
