//! The Pythons of this machine.
//!
//! A name on `PATH` proves nothing: pyenv and others leave shims for versions that are not there. So a candidate is
//! asked what it is, and where its real interpreter lies, since a virtual environment must outlive the shim.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a candidate prints about itself: version, then the interpreter that is not inside a virtual environment.
const PROBE: &str = "import sys\n\
                     print('%d.%d.%d' % sys.version_info[:3])\n\
                     print(getattr(sys, '_base_executable', None) or sys.executable)";

/// The version of a Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// 3
    pub(crate) major: u32,
    /// 11
    pub(crate) minor: u32,
    /// 7
    pub(crate) patch: u32,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(str::parse);
        let version = Self { major: parts.next()?.ok()?, minor: parts.next()?.ok()?, patch: parts.next()?.ok()? };
        parts.next().is_none().then_some(version)
    }

    /// Whether this is what `declared` ("3", "3.11" or "3.11.7") asks for.
    pub(crate) fn satisfies(self, declared: &str) -> bool {
        let own = [self.major, self.minor, self.patch];
        let mut asked = declared.split('.').map(str::parse::<u32>).zip(own);
        declared.split('.').count() <= own.len() && asked.all(|(asked, own)| asked == Ok(own))
    }

    /// "3.11": what a spec declares.
    pub(crate) fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A Python that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Python {
    /// Its interpreter: never a shim, never inside a virtual environment.
    pub(crate) path: PathBuf,
    /// What it says it is.
    pub(crate) version: Version,
}

/// No Python of the version declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotFound {
    /// What was tried, and what came of it.
    pub(crate) tried: Vec<String>,
}

/// The first Python that is `declared`: on `PATH` by its exact name, then as `python3` and `python`, then what pyenv
/// and uv have installed.
pub(crate) fn find(declared: &str) -> Result<Python, NotFound> {
    let mut tried = Vec::new();
    for candidate in candidates(declared) {
        match probe(&candidate) {
            Ok(python) if python.version.satisfies(declared) => return Ok(python),
            Ok(python) => tried.push(format!("{} is Python {}", candidate.display(), python.version)),
            Err(reason) => tried.push(format!("{} {reason}", candidate.display())),
        }
    }
    Err(NotFound { tried })
}

/// The Python 3 that people mean by "my Python", as a spec declares it ("3.11"): the first on `PATH`, though a newer one
/// may lie elsewhere.
pub(crate) fn usual() -> Option<String> {
    find("3").ok().map(|python| python.version.short())
}

/// Where a Python that is `declared` may lie, likeliest first, without repetition.
fn candidates(declared: &str) -> Vec<PathBuf> {
    let short: Vec<&str> = declared.split('.').take(2).collect();
    let exact = format!("python{}", short.join("."));
    let mut found: Vec<PathBuf> = Vec::new();
    for name in [exact.as_str(), "python3", "python"] {
        found.extend(on_path(name));
    }
    let mut installed = installed(&pyenv_versions(), "");
    installed.extend(self::installed(&uv_versions(), "cpython-"));
    installed.retain(|(version, _)| version.satisfies(declared));
    installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.extend(installed.into_iter().map(|(_, path)| path));
    // A directory may be on PATH under several names.
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    found
}

/// Every program called `name` on `PATH`.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).filter(|p| p.is_file()).collect()
}

/// `DIR/PREFIX3.11.7.../bin/python`, with the version that the directory's name claims.
fn installed(dir: &Path, prefix: &str) -> Vec<(Version, PathBuf)> {
    let entries = dir.read_dir().into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.split('-').next().and_then(Version::parse)?;
            let path = entry.path().join("bin").join(format!("python{}.{}", version.major, version.minor));
            path.is_file().then_some((version, path))
        })
        .collect()
}

fn pyenv_versions() -> PathBuf {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".pyenv")));
    root.unwrap_or_default().join("versions")
}

fn uv_versions() -> PathBuf {
    if let Some(dir) = env::var_os("UV_PYTHON_INSTALL_DIR") {
        return dir.into();
    }
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    data.or_else(|| Some(env::home_dir()?.join(".local/share"))).unwrap_or_default().join("uv/python")
}

/// Asks a candidate what it is.
fn probe(candidate: &Path) -> Result<Python, String> {
    let output = Command::new(candidate)
        // Isolated: neither PYTHONPATH nor a file in the working directory has a say.
        .args(["-I", "-c", PROBE])
        .env_remove("PYTHONHOME")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let version = lines.next().and_then(Version::parse);
    match (output.status.success(), version, lines.next()) {
        (true, Some(version), Some(path)) => Ok(Python { path: PathBuf::from(path), version }),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(match said.lines().find(|line| !line.trim().is_empty()) {
                Some(line) => format!("does not run: {}", line.trim()),
                None => "does not run".to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_matches_whole_parts() {
        let version = Version { major: 3, minor: 11, patch: 7 };
        for (declared, expected) in [
            ("3", true),
            ("3.11", true),
            ("3.11.7", true),
            ("3.1", false),
            ("3.11.70", false),
            ("3.11.7.1", false),
            ("", false),
        ] {
            assert_eq!(version.satisfies(declared), expected, "{declared}");
        }
    }

    #[test]
    fn what_is_found_runs_and_is_what_was_asked_for() {
        let usual = usual().expect("tests need a Python 3");
        let python = find(&usual).expect("it was found before");
        assert!(python.version.satisfies(&usual));
        assert_eq!(probe(&python.path), Ok(python));
    }

    #[test]
    fn what_was_tried_is_told() {
        let NotFound { tried } = find("3.99").expect_err("no such Python");
        assert!(tried.iter().any(|line| line.contains(" is Python 3.")), "{tried:?}");
    }
}
