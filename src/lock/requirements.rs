//! What an environment asks for: the requirements files with everything they include, as logical lines.
//!
//! Resolvers are given these lines rather than the files, since pip and uv do not read every file alike. What a line
//! *means* is left to them; this reading finds what a lock cannot hold, and makes the digest that tells a stale lock.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use mlctl_core::diag::{Diag, Source, Span};
use mlctl_core::digest::Digest;

use crate::error::{CommandError, Kind};

/// A described environment, as the spec has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described<'a> {
    /// The environment's name.
    pub(crate) name: &'a str,
    /// Where the name stands in the spec.
    pub(crate) span: Span,
    /// `python`
    pub(crate) python: Option<&'a str>,
    /// `requirements`, relative to the project, and where it stands in the spec.
    pub(crate) requirements: Option<(&'a str, Span)>,
    /// `packages`
    pub(crate) packages: &'a [String],
}

impl Described<'_> {
    /// Whether there is a Python in it at all.
    pub(crate) fn has_python(&self) -> bool {
        self.python.is_some() || self.asks_for_distributions()
    }

    /// Whether there is anything to resolve.
    pub(crate) fn asks_for_distributions(&self) -> bool {
        self.requirements.is_some() || !self.packages.is_empty()
    }
}

/// What a lock is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// Of the Python declared and every logical line, in order: comments and layout do not matter.
    pub(crate) digest: Digest,
    /// What must be there.
    pub(crate) requirements: Vec<String>,
    /// What limits the choice.
    pub(crate) constraints: Vec<String>,
    /// Options of the files: where distributions come from, and in which form. Paths in them are relative to the
    /// project.
    pub(crate) options: Vec<String>,
    /// The files that were read, relative to the project.
    pub(crate) files: BTreeSet<PathBuf>,
}

/// Reads what `environment` asks for. `spec` is where errors about the environment itself point.
pub(crate) fn read(project: &Path, spec: &Source, environment: &Described<'_>) -> Result<Inputs, CommandError> {
    let mut reading = Reading { project, lines: Lines::default(), seen: BTreeSet::new() };
    if let Some((file, span)) = environment.requirements {
        let text = fs::read_to_string(project.join(file)).map_err(|error| {
            let diag = Diag::error("requirements-unreadable", span, format!("cannot read `{file}`"))
                .label(error.to_string())
                .help("the path is relative to the directory of mlctl.toml");
            CommandError::missing("").about(spec, vec![diag])
        })?;
        reading.file(Path::new(file), text, Role::Requirement)?;
    }
    for package in environment.packages {
        let line = Line { text: package.trim().to_owned(), span: environment.span };
        let diag = match unsupported(&line.text) {
            _ if package.contains(['\n', '\r']) => Some("one requirement each".to_owned()),
            _ if line.text.starts_with('-') => Some("options go into a requirements file".to_owned()),
            reason => reason.map(str::to_owned),
        };
        if let Some(reason) = diag {
            let message = format!("`packages` of `{}`: `{}`", environment.name, package.escape_debug());
            let diag = Diag::error("requirement-unsupported", line.span, message).label(reason);
            return Err(CommandError::diags(spec.clone(), vec![diag]));
        }
        reading.lines.requirements.push(line.text);
    }
    let files = reading.seen.into_iter().map(|(path, _)| path).collect();
    Ok(reading.lines.into_inputs(environment.python, files))
}

/// Whether a line asks for something or only limits what may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Requirement,
    Constraint,
}

struct Reading<'a> {
    project: &'a Path,
    lines: Lines,
    seen: BTreeSet<(PathBuf, Role)>,
}

/// A logical line: continued lines joined, comments removed.
struct Line {
    text: String,
    span: Span,
}

impl Reading<'_> {
    /// Takes in one file, whose path is relative to the project.
    fn file(&mut self, path: &Path, text: String, role: Role) -> Result<(), CommandError> {
        if !self.seen.insert((path.to_owned(), role)) {
            return Ok(());
        }
        let source = Source { name: path.display().to_string(), text };
        let mut diags = Vec::new();
        for line in logical_lines(&source.text) {
            if let Some(reason) = unsupported(&line.text) {
                diags.push(
                    Diag::error("requirement-unsupported", line.span, "not supported in a locked environment")
                        .label(reason)
                        .help("name a released version from an index; your own code belongs to the step's sources"),
                );
            } else if let Some((included, role)) = included(&line.text, role) {
                match self.include(path, included) {
                    Ok((path, text)) => self.file(&path, text, role)?,
                    Err(error) => diags.push(
                        Diag::error("requirements-unreadable", line.span, format!("cannot read `{included}`"))
                            .label(error.to_string()),
                    ),
                }
            } else if line.text.starts_with('-') {
                let option = self.option(path, &line.text);
                self.lines.options.push(option);
            } else {
                self.lines.of(role).push(line.text);
            }
        }
        if diags.is_empty() {
            return Ok(());
        }
        let missing = diags.iter().all(|diag| diag.code == "requirements-unreadable");
        let kind = if missing { Kind::Missing } else { Kind::Usage };
        Err(CommandError::new(kind, "").about(&source, diags))
    }

    /// The path, relative to the project, and the text of a file that `from` includes.
    fn include(&self, from: &Path, included: &str) -> io::Result<(PathBuf, String)> {
        let path = normal(&from.parent().unwrap_or(Path::new("")).join(included));
        let text = fs::read_to_string(self.project.join(&path))?;
        Ok((path, text))
    }

    /// An option as it holds in the project's directory: `--find-links` takes paths relative to its file.
    fn option(&self, file: &Path, text: &str) -> String {
        let (name, value) = split_option(text);
        if !matches!(name, "-f" | "--find-links") || value.contains("://") {
            return text.to_owned();
        }
        let beside = normal(&file.parent().unwrap_or(Path::new("")).join(value));
        let shown = if self.project.join(&beside).exists() { beside.display().to_string() } else { value.to_owned() };
        format!("--find-links {shown}")
    }
}

/// The lines of all files together.
#[derive(Default)]
struct Lines {
    requirements: Vec<String>,
    constraints: Vec<String>,
    options: Vec<String>,
}

impl Lines {
    fn of(&mut self, role: Role) -> &mut Vec<String> {
        match role {
            Role::Requirement => &mut self.requirements,
            Role::Constraint => &mut self.constraints,
        }
    }

    fn into_inputs(self, python: Option<&str>, files: BTreeSet<PathBuf>) -> Inputs {
        let mut hasher = blake3::Hasher::new_derive_key("mlctl 1 lock inputs");
        let mut field = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        field(python.unwrap_or(""));
        for lines in [&self.requirements, &self.constraints, &self.options] {
            field(&lines.len().to_string());
            lines.iter().for_each(|line| field(line));
        }
        let Self { requirements, constraints, options } = self;
        Inputs { digest: hasher.finalize().into(), requirements, constraints, options, files }
    }
}

/// The logical lines of a requirements file, without empty ones.
fn logical_lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut joined: Option<Line> = None;
    let mut start = 0;
    for physical in text.split_inclusive('\n') {
        let span = Span::from(start..start + physical.trim_end().len());
        start += physical.len();
        let content = physical.trim_end_matches(['\n', '\r']);
        let is_comment = content.trim_start().starts_with('#');
        let continued = !is_comment && content.ends_with('\\');
        let line = joined.get_or_insert(Line { text: String::new(), span });
        line.text.push_str(if is_comment { "" } else { content.strip_suffix('\\').unwrap_or(content) });
        line.span.end = span.end;
        if !continued {
            lines.extend(joined.take());
        }
    }
    lines.extend(joined);
    for line in &mut lines {
        // Windows' editors begin a file with a mark of its encoding.
        line.text = without_comment(line.text.trim_start_matches('\u{feff}')).trim().to_owned();
    }
    lines.retain(|line| !line.text.is_empty());
    lines
}

/// A comment starts at a `#` at the start or after white space.
fn without_comment(text: &str) -> &str {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &text[..at];
        }
        before = c;
    }
    text
}

/// The name and value of `--option value`, `--option=value` or `-ovalue`, without quotes.
fn split_option(text: &str) -> (&str, &str) {
    let end = match text.strip_prefix("--") {
        Some(_) => text.find(['=', ' ', '\t']).unwrap_or(text.len()),
        None => text.char_indices().nth(2).map_or(text.len(), |(at, _)| at),
    };
    let (name, value) = text.split_at(end);
    let value = value.trim_start_matches(['=', ' ', '\t']).trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    (name, unquoted.unwrap_or(value))
}

/// The file that a line includes, and as what.
fn included(text: &str, role: Role) -> Option<(&str, Role)> {
    if !text.starts_with('-') {
        return None;
    }
    let (name, value) = split_option(text);
    match name {
        "-r" | "--requirement" => Some((value, role)),
        "-c" | "--constraint" => Some((value, Role::Constraint)),
        _ => None,
    }
}

/// An option whose paths are relative to the project, as it holds anywhere: as a URL, since pip and uv do not agree on
/// how a path with spaces is written.
pub(crate) fn absolute(option: &str, project: &Path) -> String {
    match option.strip_prefix("--find-links ") {
        Some(place) if !place.contains("://") => format!("--find-links {}", file_url(&project.join(place))),
        _ => option.to_owned(),
    }
}

fn file_url(path: &Path) -> String {
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(*byte)),
            _ => url += &format!("%{byte:02X}"),
        }
    }
    url
}

/// Why a line cannot be locked, if it cannot.
fn unsupported(text: &str) -> Option<&'static str> {
    if text.starts_with('-') {
        return match split_option(text) {
            ("-e" | "--editable", _) => Some("an editable install changes with its directory"),
            ("-r" | "--requirement" | "-c" | "--constraint", file) if file.contains("://") => {
                Some("a file of the network")
            }
            _ => None,
        };
    }
    // What stands before a marker or an option of the requirement.
    let requirement = text.split(';').next().unwrap_or(text).split(" --").next().unwrap_or(text).trim();
    let after_name = requirement.split_once('@').map_or("", |(_, target)| target.trim());
    let checkout = |target: &str| ["git+", "hg+", "svn+", "bzr+"].iter().any(|scheme| target.starts_with(scheme));
    if checkout(requirement) || checkout(after_name) {
        return Some("a version-control checkout has no hash");
    }
    if requirement.contains("://") {
        return Some("a distribution from a URL");
    }
    let archive = [".whl", ".tar.gz", ".zip", ".tar.bz2"].iter().any(|end| requirement.ends_with(end));
    if archive || requirement.contains('/') || requirement.starts_with('.') {
        return Some("a distribution from a local path");
    }
    None
}

/// `a/./b/../c` as `a/c`, without looking at the disk.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if parts.components().next_back().is_some_and(|p| matches!(p, Component::Normal(_))) =>
            {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests;
