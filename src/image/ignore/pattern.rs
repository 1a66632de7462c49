//! One pattern of an ignore file.
//!
//! Docker turns a pattern into an exact text, a prefix, a suffix or a regular expression, and which one it becomes shows:
//! `**foo` is a suffix, so it matches `xfoo`; `\` is an escape in a regular expression, so `\d` is any digit; `^` and `|`
//! are not escaped. Names that are not UTF-8 have the replacement character for each byte that is wrong, as in Go.

use std::cell::OnceCell;
use std::fmt;

use super::regexp::{Regexp, Unusable};

/// What is between the `/` of a path.
const SEPARATOR: char = '/';

/// A pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    /// As it is compared: cleaned, without `!`.
    pub(super) text: Vec<u8>,
    /// Whether it began with `!`: what it matches is not excluded.
    pub(super) exception: bool,
    matching: Matching,
}

#[derive(Debug)]
enum Matching {
    Exact,
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Regexp(Regexp),
}

/// Why a line is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// Nothing but `!`.
    Empty,
    /// A set that is not closed, a `\` with nothing after it.
    Syntax,
    /// It cannot become a regular expression.
    Regexp(Unusable),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("`!` without a pattern"),
            Self::Syntax => f.write_str("this pattern is malformed"),
            Self::Regexp(unusable) => write!(f, "this pattern cannot be used: {unusable}"),
        }
    }
}

/// A path that patterns are compared with.
pub(super) struct Name<'a> {
    bytes: &'a [u8],
    /// For regular expressions, made once.
    chars: OnceCell<Vec<char>>,
}

impl<'a> Name<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, chars: OnceCell::new() }
    }

    fn chars(&self) -> &[char] {
        self.chars.get_or_init(|| decode(self.bytes))
    }
}

/// The pattern of a line; none for a comment and an empty line.
pub(super) fn parse(line: &[u8]) -> Result<Option<Pattern>, Bad> {
    if line.starts_with(b"#") {
        return Ok(None);
    }
    let mut text = trim(line).to_vec();
    if text.is_empty() {
        return Ok(None);
    }
    let inverted = text[0] == b'!';
    if inverted {
        text = trim(&text[1..]).to_vec();
    }
    if !text.is_empty() {
        text = clean(&text);
        if text.len() > 1 && text[0] == b'/' {
            text.remove(0);
        }
    }
    if inverted {
        text.insert(0, b'!');
    }
    // Docker cleans twice, first when it reads the file, then when it uses the pattern, and only then is the `!` looked at.
    text = trim(&text).to_vec();
    if text.is_empty() {
        return Ok(None);
    }
    text = clean(&text);
    let exception = text[0] == b'!';
    if exception {
        text.remove(0);
        if text.is_empty() {
            return Err(Bad::Empty);
        }
    }
    if !is_well_formed(&text) {
        return Err(Bad::Syntax);
    }
    let matching = compile(&text).map_err(Bad::Regexp)?;
    Ok(Some(Pattern { text, exception, matching }))
}

impl Pattern {
    pub(super) fn matches(&self, name: &Name<'_>) -> bool {
        match &self.matching {
            Matching::Exact => name.bytes == self.text,
            Matching::Prefix(prefix) => name.bytes.starts_with(prefix),
            Matching::Suffix(suffix) => {
                name.bytes.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|whole| whole == name.bytes)
            }
            Matching::Regexp(regexp) => regexp.matches(name.chars()),
        }
    }

    /// Whether it names one path, or what is in one.
    pub(super) fn is_plain(&self) -> bool {
        !self.stem().iter().any(|byte| b"*[]?^".contains(byte))
    }

    /// Whether its text is that of `directory` or of something below.
    pub(super) fn is_at_or_below(&self, directory: &[u8]) -> bool {
        self.stem().strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    fn stem(&self) -> &[u8] {
        let text = self.text.strip_suffix(b"/**").unwrap_or(&self.text);
        text.strip_suffix(b"/*").unwrap_or(text)
    }
}

/// As Go's `filepath.Clean`: the shortest path that is the same by its text.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Without white space, that of Unicode included, at both ends.
fn trim(mut text: &[u8]) -> &[u8] {
    // No white space is longer than three bytes.
    let white = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|s| s.chars().all(char::is_whitespace));
    while let Some(n) = (1..=text.len().min(3)).find(|n| white(&text[..*n])) {
        text = &text[n..];
    }
    while let Some(n) = (1..=text.len().min(3)).find(|n| white(&text[text.len() - n..])) {
        text = &text[..text.len() - n];
    }
    text
}

fn decode(bytes: &[u8]) -> Vec<char> {
    let mut chars = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chars.extend(chunk.valid().chars());
        chars.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    chars
}

/// Whether Go's `filepath.Match` with the name `.` finds nothing wrong with it, which is how Docker checks. It does not
/// look at what comes after a part that does not match.
fn is_well_formed(mut pattern: &[u8]) -> bool {
    let mut name: &[u8] = b".";
    'parts: while !pattern.is_empty() {
        let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
        let (part, rest) = split_at_star(&pattern[stars..]);
        pattern = rest;
        // After a star the part may begin anywhere.
        for start in 0..=if stars > 0 { name.len() } else { 0 } {
            match part_matches(part, &name[start..]) {
                Err(Malformed) => return false,
                Ok(Some(left)) if left.is_empty() || !pattern.is_empty() => {
                    name = left;
                    continue 'parts;
                }
                Ok(_) => {}
            }
        }
        return true;
    }
    true
}

/// What comes before the next `*` that is one.
fn split_at_star(pattern: &[u8]) -> (&[u8], &[u8]) {
    let mut in_set = false;
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'[' => in_set = true,
            b']' => in_set = false,
            b'*' if !in_set => break,
            _ => {}
        }
        at += 1;
    }
    pattern.split_at(at.min(pattern.len()))
}

struct Malformed;

/// What is left of the name after a part without stars, if that matches.
fn part_matches<'a>(mut part: &[u8], name: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let mut left = Some(name);
    while let Some((first, rest)) = part.split_first() {
        let next = left.and_then(<[u8]>::split_first);
        let matches;
        (matches, part) = match first {
            b'[' => in_set(rest, next.map(|(byte, _)| *byte))?,
            b'?' => (next.is_some(), rest),
            b'\\' => {
                let (escaped, rest) = rest.split_first().ok_or(Malformed)?;
                (next.is_some_and(|(byte, _)| byte == escaped), rest)
            }
            _ => (next.is_some_and(|(byte, _)| byte == first), rest),
        };
        left = next.filter(|_| matches).map(|(_, left)| left);
    }
    Ok(left)
}

/// Whether the set that begins here has this byte, and what is left after it.
fn in_set(set: &[u8], byte: Option<u8>) -> Result<(bool, &[u8]), Malformed> {
    let (negated, mut rest) = set.strip_prefix(b"^").map_or((false, set), |rest| (true, rest));
    let mut has = false;
    let mut first = true;
    loop {
        if !first && let Some(after) = rest.strip_prefix(b"]") {
            return Ok((byte.is_some() && has != negated, after));
        }
        first = false;
        let low;
        (low, rest) = member(rest)?;
        let mut high = low;
        if let Some(end) = rest.strip_prefix(b"-") {
            (high, rest) = member(end)?;
        }
        has |= byte.is_some_and(|byte| (low..=high).contains(&char::from(byte)));
    }
}

/// One character of a set and what is left: never nothing, for the set must be closed.
fn member(rest: &[u8]) -> Result<(char, &[u8]), Malformed> {
    if matches!(rest.first(), None | Some(b'-' | b']')) {
        return Err(Malformed);
    }
    let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
    let decoded = (1..=rest.len().min(4)).find_map(|n| std::str::from_utf8(&rest[..n]).ok());
    let char = decoded.and_then(|text| text.chars().next()).ok_or(Malformed)?;
    let rest = &rest[char.len_utf8()..];
    if rest.is_empty() { Err(Malformed) } else { Ok((char, rest)) }
}

/// What kind of matching it becomes, in Docker's way.
fn compile(text: &[u8]) -> Result<Matching, Unusable> {
    #[derive(PartialEq)]
    enum Kind {
        Exact,
        Prefix,
        Suffix,
        Regexp,
    }
    let chars = decode(text);
    // Go's scanner passes over a byte order mark.
    let mut rest = chars.iter().copied().skip(usize::from(chars.first() == Some(&'\u{FEFF}'))).peekable();
    let mut kind = Kind::Exact;
    let mut expression = String::from("^");
    let mut first = true;
    while let Some(char) = rest.next() {
        match char {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&SEPARATOR);
                if rest.peek().is_some() {
                    expression.push_str("(.*/)?");
                    kind = Kind::Regexp;
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    expression.push_str(".*");
                    kind = Kind::Regexp;
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                expression.push_str("[^/]*");
                kind = Kind::Regexp;
            }
            '?' => {
                expression.push_str("[^/]");
                kind = Kind::Regexp;
            }
            '.' | '+' | '(' | ')' | '{' | '}' | '$' => expression.extend(['\\', char]),
            '\\' => {
                expression.push('\\');
                if let Some(escaped) = rest.next() {
                    expression.push(escaped);
                    kind = Kind::Regexp;
                }
            }
            '[' | ']' => {
                expression.push(char);
                kind = Kind::Regexp;
            }
            _ => expression.push(char),
        }
        first = false;
    }
    expression.push('$');
    Ok(match kind {
        Kind::Exact => Matching::Exact,
        Kind::Prefix => Matching::Prefix(text[..text.len() - 2].to_vec()),
        Kind::Suffix => Matching::Suffix(text[2..].to_vec()),
        Kind::Regexp => Matching::Regexp(Regexp::parse(&expression)?),
    })
}
