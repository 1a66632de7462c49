//! pip, where there is no uv.
//!
//! Environments of steps hold what is locked and nothing else, so pip works on them from outside: as the Python it came
//! with, or, where that has none or an old one, from an environment of its own, made once for each interpreter.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use mlctl_core::digest::Digest;

use super::maker::{Maker, clean};
use super::{Phase, once};
use crate::error::CommandError;
use crate::platform::python::Python;

/// The oldest pip that is used: `--report` came with 22.2, `--python` with 22.3.
const OLDEST: u32 = 23;

/// `python -m pip`, for an interpreter.
pub(crate) fn command(maker: &Maker<'_>, python: &Python, phase: Phase) -> Result<Command, CommandError> {
    if has_pip(&python.path) {
        return Ok(pip(&python.path));
    }
    let identity = Digest::of(format!("{} {}", python.path.display(), python.version).as_bytes()).short();
    let place = maker.place(&format!("pip-{}-{identity}", python.version.short()));
    let made = once::make(
        &place,
        |directory| directory.join("bin/python").exists(),
        || maker.tell(Phase::Waiting, "pip"),
        |directory| make(maker, python, directory, &place.join("log"), phase),
    )?;
    Ok(pip(made.join("bin/python")))
}

fn pip(python: impl AsRef<OsStr>) -> Command {
    let mut command = clean(python);
    command.args(["-m", "pip", "--no-input", "--disable-pip-version-check"]);
    command
}

/// Whether this interpreter has a pip that is new enough.
fn has_pip(python: &Path) -> bool {
    let mut version = clean(python);
    version.args(["-c", "import pip; print(pip.__version__)"]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = version.output().map(|output| output.stdout).unwrap_or_default();
    let major = String::from_utf8_lossy(&output).split('.').next().and_then(|major| major.trim().parse::<u32>().ok());
    major.is_some_and(|major| major >= OLDEST)
}

fn make(maker: &Maker<'_>, python: &Python, directory: &Path, log: &Path, phase: Phase) -> Result<(), CommandError> {
    let mut venv = clean(&python.path);
    venv.args(["-m", "venv"]).arg(directory);
    let ended = maker.run(&mut venv, Some(log), phase)?;
    if !ended.status.success() {
        let message = format!("cannot make a virtual environment with {}", python.path.display());
        let error = CommandError::missing(message).cause(ended.output.trim_end());
        return Err(error.hint("install Python's `venv` module (Debian: python3-venv), or uv"));
    }
    let own = directory.join("bin/python");
    if has_pip(&own) {
        return Ok(());
    }
    let mut upgrade = pip(own);
    upgrade.args(["install", "--upgrade", &format!("pip>={OLDEST}")]);
    let ended = maker.run(&mut upgrade, Some(log), phase)?;
    if ended.status.success() {
        return Ok(());
    }
    Err(CommandError::missing(format!("Python {} has a pip older than {OLDEST}, and no newer one", python.version))
        .cause(ended.output.trim_end())
        .hint("declare a newer Python, or install uv"))
}
