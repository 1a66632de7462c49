//! The part of Go's regular expressions that patterns become: alternatives, each a sequence. In time proportional to name
//! and pattern, whatever they are.

use std::fmt;

/// A regular expression: its alternatives one after the other, each ends with [`Item::Found`].
#[derive(Debug)]
pub(super) struct Regexp(Vec<Item>);

/// Why a pattern is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// A set that is not closed, has a range whose end comes before its start, or an unknown `[:class:]`.
    Set,
    /// A `\` before a letter or digit that means nothing.
    Escape,
    /// `\p`: the classes of Unicode.
    Unicode,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "a set is not closed, has a range that ends before it starts, or an unknown class",
            Self::Escape => "a `\\` stands before a letter or digit",
            Self::Unicode => "`\\p` and `\\P` are not supported",
        })
    }
}

#[derive(Debug)]
enum Item {
    /// One character of a set.
    One(Set),
    /// Any number of them.
    Any(Set),
    /// Nothing, or what the next item takes.
    Maybe,
    /// Characters up to some `/`, but no new line.
    Directories,
    Assert(Assertion),
    Found,
}

#[derive(Debug, Clone, Copy)]
enum Assertion {
    Start,
    End,
    /// At the edge of a word, or not.
    Edge(bool),
}

/// Characters: ranges, both ends included.
#[derive(Debug, Default, Clone)]
struct Set {
    negated: bool,
    ranges: Vec<(u32, u32)>,
}

impl Set {
    fn one(char: char) -> Self {
        Self { negated: false, ranges: vec![(char as u32, char as u32)] }
    }

    fn but(char: char) -> Self {
        Self { negated: true, ..Self::one(char) }
    }

    fn has(&self, char: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&(char as u32))) != self.negated
    }

    fn add(&mut self, ranges: &[(char, char)], negated: bool) {
        if !negated {
            self.ranges.extend(ranges.iter().map(|(low, high)| (*low as u32, *high as u32)));
            return;
        }
        let mut next = 0;
        for (low, high) in ranges {
            self.ranges.extend((*low as u32).checked_sub(1).filter(|end| *end >= next).map(|end| (next, end)));
            next = *high as u32 + 1;
        }
        self.ranges.push((next, char::MAX as u32));
    }
}

impl Regexp {
    /// Reads an expression as Go does.
    pub(super) fn parse(expression: &str) -> Result<Self, Unusable> {
        let mut items = Vec::new();
        let mut rest = expression;
        while let Some(char) = rest.chars().next() {
            let after = &rest[char.len_utf8()..];
            rest = match char {
                '^' => one(&mut items, Item::Assert(Assertion::Start), after),
                '$' => one(&mut items, Item::Assert(Assertion::End), after),
                '|' => one(&mut items, Item::Found, after),
                // Patterns make no other groups, and no other dots, than these.
                '(' => {
                    items.push(Item::Maybe);
                    one(&mut items, Item::Directories, after.strip_prefix(".*/)?").unwrap_or(after))
                }
                '.' => one(&mut items, Item::Any(Set::but('\n')), &after[1..]),
                '[' => {
                    let (set, after) = set(after)?;
                    match after.strip_prefix('*') {
                        Some(after) => one(&mut items, Item::Any(set), after),
                        None => one(&mut items, Item::One(set), after),
                    }
                }
                '\\' => escaped(&mut items, after)?,
                _ => one(&mut items, Item::One(Set::one(char)), after),
            };
        }
        items.push(Item::Found);
        Ok(Self(items))
    }

    /// Whether some part of the name matches; most expressions ask for its start and end themselves.
    pub(super) fn matches(&self, name: &[char]) -> bool {
        let mut states = vec![false; self.0.len()];
        let mut next = states.clone();
        for at in 0..=name.len() {
            for start in self.starts() {
                self.enter(&mut states, start, name, at);
            }
            if states.iter().zip(&self.0).any(|(on, item)| *on && matches!(item, Item::Found)) {
                return true;
            }
            let Some(char) = name.get(at) else { break };
            next.fill(false);
            for (state, item) in self.0.iter().enumerate().filter(|(state, _)| states[*state]) {
                let target = match item {
                    Item::One(set) if set.has(*char) => state + 1,
                    Item::Any(set) if set.has(*char) => state,
                    Item::Directories if *char == '/' => {
                        self.enter(&mut next, state + 1, name, at + 1);
                        state
                    }
                    Item::Directories if *char != '\n' => state,
                    _ => continue,
                };
                self.enter(&mut next, target, name, at + 1);
            }
            std::mem::swap(&mut states, &mut next);
        }
        false
    }

    /// Where the alternatives begin.
    fn starts(&self) -> impl Iterator<Item = usize> {
        let ends = self.0.iter().enumerate().filter(|(_, item)| matches!(item, Item::Found));
        std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).filter(|start| *start < self.0.len())
    }

    /// Adds a state and those reached from it without a character.
    fn enter(&self, states: &mut [bool], state: usize, name: &[char], at: usize) {
        if std::mem::replace(&mut states[state], true) {
            return;
        }
        match &self.0[state] {
            Item::Maybe => {
                self.enter(states, state + 1, name, at);
                self.enter(states, state + 2, name, at);
            }
            Item::Any(_) => self.enter(states, state + 1, name, at),
            Item::Assert(assertion) if assertion.holds(name, at) => self.enter(states, state + 1, name, at),
            _ => {}
        }
    }
}

impl Assertion {
    fn holds(self, name: &[char], at: usize) -> bool {
        let word = |at: Option<usize>| {
            at.and_then(|at| name.get(at)).is_some_and(|char| char.is_ascii_alphanumeric() || *char == '_')
        };
        match self {
            Self::Start => at == 0,
            Self::End => at == name.len(),
            Self::Edge(wanted) => (word(at.checked_sub(1)) != word(Some(at))) == wanted,
        }
    }
}

fn one<'a>(items: &mut Vec<Item>, item: Item, rest: &'a str) -> &'a str {
    items.push(item);
    rest
}

/// What a `\` outside of a set begins; gives what is left.
fn escaped<'a>(items: &mut Vec<Item>, after: &'a str) -> Result<&'a str, Unusable> {
    let letter = after.chars().next().ok_or(Unusable::Escape)?;
    let rest = &after[letter.len_utf8()..];
    Ok(match letter {
        'A' => one(items, Item::Assert(Assertion::Start), rest),
        'z' => one(items, Item::Assert(Assertion::End), rest),
        'b' | 'B' => one(items, Item::Assert(Assertion::Edge(letter == 'b')), rest),
        'Q' => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            items.extend(quoted.chars().map(|char| Item::One(Set::one(char))));
            rest
        }
        'p' | 'P' => return Err(Unusable::Unicode),
        _ => {
            let mut set = Set::default();
            if let Some((ranges, negated)) = perl(letter) {
                set.add(ranges, negated);
                return Ok(one(items, Item::One(set), rest));
            }
            let (char, rest) = literal(after)?;
            one(items, Item::One(Set::one(char)), rest)
        }
    })
}

/// The set that begins after this `[`, and what is left.
fn set(text: &str) -> Result<(Set, &str), Unusable> {
    let (negated, mut rest) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
    let mut set = Set { negated, ranges: Vec::new() };
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if let Some(((ranges, negated), after)) = posix(rest)? {
            set.add(ranges, negated);
            rest = after;
            continue;
        }
        let letter = rest.strip_prefix('\\').and_then(|rest| rest.chars().next());
        if matches!(letter, Some('p' | 'P')) {
            return Err(Unusable::Unicode);
        }
        if let Some((ranges, negated)) = letter.and_then(perl) {
            set.add(ranges, negated);
            rest = &rest[2..];
            continue;
        }
        let (low, after) = member(rest)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(end) if !end.starts_with(']') => member(end)?,
            _ => (low, after),
        };
        if high < low {
            return Err(Unusable::Set);
        }
        set.ranges.push((low as u32, high as u32));
        rest = after;
    }
    Ok((set, &rest[1..]))
}

/// One character of a set, and what is left.
fn member(text: &str) -> Result<(char, &str), Unusable> {
    match text.strip_prefix('\\') {
        Some(after) => literal(after),
        None => text.chars().next().map(|char| (char, &text[char.len_utf8()..])).ok_or(Unusable::Set),
    }
}

/// The character that a `\` and this mean, and what is left.
fn literal(after: &str) -> Result<(char, &str), Unusable> {
    let char = after.chars().next().ok_or(Unusable::Escape)?;
    let rest = &after[char.len_utf8()..];
    let digits = |radix, most| {
        let text = after.as_bytes();
        let start = usize::from(radix == 16);
        let count = text[start..].iter().take(most).take_while(|byte| (**byte as char).is_digit(radix)).count();
        (u32::from_str_radix(&after[start..start + count], radix).ok().and_then(char::from_u32), count, start + count)
    };
    let found = match char {
        'a' => Some(('\x07', rest)),
        'f' => Some(('\x0C', rest)),
        'n' => Some(('\n', rest)),
        'r' => Some(('\r', rest)),
        't' => Some(('\t', rest)),
        'v' => Some(('\x0B', rest)),
        'x' => match digits(16, 2) {
            (Some(char), 2, end) => Some((char, &after[end..])),
            _ => None,
        },
        '0'..='7' => match digits(8, 3) {
            // One digit other than 0 would be a reference to a group.
            (Some(value), count, end) if char == '0' || count > 1 => Some((value, &after[end..])),
            _ => None,
        },
        _ if char.is_ascii() && !char.is_ascii_alphanumeric() => Some((char, rest)),
        _ => None,
    };
    found.ok_or(Unusable::Escape)
}

/// What a class has, and whether it is all but that.
type Class = (&'static [(char, char)], bool);

const DIGITS: &[(char, char)] = &[('0', '9')];
const SPACES: &[(char, char)] = &[('\t', '\n'), ('\x0C', '\r'), (' ', ' ')];
const WORDS: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// `\d` and its like.
const fn perl(letter: char) -> Option<Class> {
    let ranges = match letter.to_ascii_lowercase() {
        'd' => DIGITS,
        's' => SPACES,
        'w' => WORDS,
        _ => return None,
    };
    Some((ranges, letter.is_ascii_uppercase()))
}

/// `[:alpha:]` and its like, if the text begins with one, and what is left.
fn posix(text: &str) -> Result<Option<(Class, &str)>, Unusable> {
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|text| text.split_once(":]")) else { return Ok(None) };
    let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let ranges: &[(char, char)] = match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7F')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1F'), ('\x7F', '\x7F')],
        "digit" => DIGITS,
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => WORDS,
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return Err(Unusable::Set),
    };
    Ok(Some(((ranges, negated), rest)))
}
