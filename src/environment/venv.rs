//! The virtual environment of a locked environment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use mlctl_core::digest::Digest;
use mlctl_exec::Realised;

use super::maker::{Maker, clean, last_lines};
use super::{Phase, once, pip};
use crate::error::CommandError;
use crate::lock::{self, LockedEnvironment, requirements};
use crate::platform::python::Python;

/// The environment's programs, made if they are not there.
pub(super) fn realise(maker: &Maker<'_>, locked: &LockedEnvironment) -> Result<Realised, CommandError> {
    let place = maker.place(&identity(locked).to_hex());
    let directory = once::make(
        &place,
        // The interpreter is a link to the Python it was made with, which may be gone.
        |directory| directory.join("bin/python").exists(),
        || maker.tell(Phase::Waiting, ""),
        |directory| make(maker, locked, directory, &place.join("log")),
    )?;
    let env = BTreeMap::from([("VIRTUAL_ENV".to_owned(), directory.display().to_string())]);
    Ok(Realised { path: vec![directory.join("bin")], env, ..Realised::default() })
}

/// What decides that two virtual environments are the same: unlike a realisation, also the hashes.
fn identity(locked: &LockedEnvironment) -> Digest {
    let mut text = format!("{} {}\n", lock::platform(), locked.python);
    for distribution in &locked.distributions {
        let _ = writeln!(text, "{}=={} {}", distribution.name, distribution.version, distribution.sha256.join(","));
    }
    Digest::of(text.as_bytes())
}

fn make(maker: &Maker<'_>, locked: &LockedEnvironment, directory: &Path, log: &Path) -> Result<(), CommandError> {
    // The log is of the last making only.
    let _ = fs::remove_file(log);
    maker.tell(Phase::Installing, "");
    let python = maker.python(&locked.python)?;
    let mut create = match maker.uv_program() {
        Some(uv) => {
            let mut create = maker.uv(uv);
            create.arg("venv").arg("--python").arg(&python.path).arg(directory);
            create
        }
        None => {
            let mut create = clean(&python.path);
            create.args(["-m", "venv", "--without-pip"]).arg(directory);
            create
        }
    };
    let ended = maker.run(&mut create, Some(log), Phase::Installing)?;
    if !ended.status.success() {
        return Err(failed(maker, "making the virtual environment failed", &ended.output, log));
    }
    if locked.distributions.is_empty() { Ok(()) } else { install(maker, locked, &python, directory, log) }
}

fn install(
    maker: &Maker<'_>,
    locked: &LockedEnvironment,
    python: &Python,
    directory: &Path,
    log: &Path,
) -> Result<(), CommandError> {
    let scratch = maker.scratch()?;
    let file = scratch.path().join("locked.txt");
    let text = locked.requirements(|option| Some(requirements::absolute(option, maker.project)));
    fs::write(&file, text).map_err(|error| CommandError::missing("cannot write a temporary file").because(&error))?;
    let target = directory.join("bin/python");
    // Constraints of the user's are taken away: nothing is left to choose, and they have no hashes.
    let mut install = match maker.uv_program() {
        Some(uv) => {
            let mut install = maker.uv(uv);
            install.args(["pip", "install", "--compile-bytecode", "--python"]).arg(target);
            install.env_remove("UV_CONSTRAINT").env_remove("UV_OVERRIDE");
            install
        }
        None => {
            let mut install = pip::command(maker, python, Phase::Installing)?;
            install.arg("--python").arg(target).args(["install", "--compile", "--progress-bar", "off"]);
            install.env_remove("PIP_CONSTRAINT");
            install
        }
    };
    install.current_dir(maker.project).args(["--no-deps", "--require-hashes", "-r"]).arg(&file);
    let ended = maker.run(&mut install, Some(log), Phase::Installing)?;
    if ended.status.success() {
        return Ok(());
    }
    let changed = ["DO NOT MATCH THE HASHES", "Hash mismatch"].iter().any(|mark| ended.output.contains(mark));
    let what = if changed { "a distribution is not what was locked" } else { "its distributions cannot be installed" };
    Err(failed(maker, what, &ended.output, log))
}

fn failed(maker: &Maker<'_>, what: &str, output: &str, log: &Path) -> CommandError {
    CommandError::missing(format!("environment `{}`: {what}", maker.environment))
        .cause(last_lines(output, 20))
        .hint(format!("the whole log is {}", log.display()))
}
