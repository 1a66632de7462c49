//! The tools that resolve and install: uv where it is installed, else pip in an environment of its own.

use std::cell::OnceCell;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tool::{self, Ended};
use super::{Phase, Progress, Update};
use crate::error::CommandError;
use crate::platform::python::{self, NotFound, Python};

/// The oldest uv that writes standard locks.
const OLDEST_UV: (u32, u32) = (0, 7);

/// What makes one environment.
pub(crate) struct Maker<'a> {
    /// The environment's name.
    pub(crate) environment: &'a str,
    /// The project: tools run in it, and options name paths in it.
    pub(crate) project: &'a Path,
    /// The store's root.
    pub(crate) store: &'a Path,
    uv: OnceCell<Option<PathBuf>>,
    progress: &'a Progress<'a>,
}

impl<'a> Maker<'a> {
    /// For `environment`, with what is on `PATH`.
    pub(crate) fn new(environment: &'a str, project: &'a Path, store: &'a Path, progress: &'a Progress<'a>) -> Self {
        Self { environment, project, store, uv: OnceCell::new(), progress }
    }

    /// uv, where it is installed and new enough; asked only when there is something to make.
    pub(crate) fn uv_program(&self) -> Option<&Path> {
        self.uv.get_or_init(uv).as_deref()
    }

    /// Tells what is being done.
    pub(crate) fn tell(&self, phase: Phase, line: &str) {
        (self.progress)(Update::Working { phase, subject: self.environment, line });
    }

    /// Runs a tool to its end.
    pub(crate) fn run(&self, command: &mut Command, log: Option<&Path>, phase: Phase) -> Result<Ended, CommandError> {
        tool::run(command, log, &|line| self.tell(phase, line)).map_err(|error| {
            let program = Path::new(command.get_program()).display().to_string();
            CommandError::missing(format!("cannot run {program}")).because(&error)
        })
    }

    /// Where something with this name is made once for all.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.store.join("environments").join(name)
    }

    /// A directory for one use. Where a killed maker leaves it, gc finds it.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir, CommandError> {
        tempfile::tempdir_in(self.store.join("tmp"))
            .map_err(|error| CommandError::missing("cannot make a temporary directory in the store").because(&error))
    }

    /// The Python that is declared; uv may fetch one that is not here.
    pub(crate) fn python(&self, declared: &str) -> Result<Python, CommandError> {
        let NotFound { tried } = match python::find(declared) {
            Ok(python) => return Ok(python),
            Err(not_found) => not_found,
        };
        let message = format!("environment `{}` needs Python {declared}, which was not found", self.environment);
        let mut error = CommandError::missing(message).cause(match tried.as_slice() {
            [] => "there is no Python on PATH, nor one that pyenv or uv installed".to_owned(),
            tried => format!("tried:\n{}", tried.join("\n")),
        });
        if let Some(uv) = self.uv_program() {
            let mut install = self.uv(uv);
            install.args(["python", "install", declared]);
            let ended = self.run(&mut install, None, Phase::Installing)?;
            match python::find(declared) {
                Ok(python) if ended.status.success() => return Ok(python),
                _ => error = error.cause(format!("uv cannot fetch it:\n{}", ended.output.trim_end())),
            }
        }
        error = error.hint(format!("install Python {declared}: with uv, pyenv or the system's package manager"));
        Err(match python::usual() {
            Some(usual) => {
                error.hint(format!("or declare `python = \"{usual}\"`, which is here, and run `mlctl lock`"))
            }
            None => error,
        })
    }

    /// `uv`, with the user's configuration. Where only pip is configured (by variables), uv is told the same.
    pub(crate) fn uv(&self, program: &Path) -> Command {
        let mut command = clean(program);
        command.args(["--color", "never", "--no-progress"]);
        for (pip, uv) in [
            ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
            ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
            ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
            ("PIP_NO_INDEX", "UV_NO_INDEX"),
            ("PIP_CERT", "SSL_CERT_FILE"),
        ] {
            if let (Some(value), None) = (env::var_os(pip), env::var_os(uv)) {
                command.env(uv, value);
            }
        }
        command
    }
}

/// A tool with the user's own configuration (proxies, indexes, certificates), without what would change what it does.
pub(super) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"] {
        command.env_remove(name);
    }
    command.env("PYTHONNOUSERSITE", "1").env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0");
    command
}

/// uv on `PATH`, if it runs and is new enough.
/// uv, where it is installed and new enough.
pub(crate) fn uv() -> Option<PathBuf> {
    python::on_path("uv").into_iter().find(|program| {
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
        output.is_ok_and(|output| is_new_enough(&String::from_utf8_lossy(&output.stdout)))
    })
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split_whitespace().nth(1).unwrap_or_default().split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_UV)
}

/// Kept for errors that show the end of a log.
pub(super) fn last_lines(output: &str, count: usize) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_uv_is_as_good_as_none() {
        for (text, expected) in
            [("uv 0.13.9 (x86_64)", true), ("uv 0.7.0", true), ("uv 0.6.15", false), ("uv 1.0.0", true), ("", false)]
        {
            assert_eq!(is_new_enough(text), expected, "{text}");
        }
    }
}
