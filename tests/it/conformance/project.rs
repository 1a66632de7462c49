//! A case's own project, store and home, and mlctl in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::case::Run;
use crate::cluster::{Bed, Place};
use crate::support::{Ended, Start, passed};

/// A project to run mlctl in.
pub(super) struct Project {
    /// Its engine.
    pub(super) engine: String,
    /// Its directory.
    pub(super) dir: PathBuf,
    /// Holds project, store, home and configuration.
    base: TempDir,
    /// Its part of the store that a cluster uses.
    place: Option<Place>,
}

/// What came of one `mlctl run`.
pub(super) struct Outcome {
    /// mlctl's exit code.
    pub(super) exit: i32,
    /// What it said.
    pub(super) stderr: String,
    /// What the report has of each instance.
    pub(super) instances: BTreeMap<String, Value>,
}

impl Project {
    /// Copies a case to where it may be changed.
    pub(super) fn new(case: &Path, engine: &str, bed: Option<&Bed>) -> Result<Self, String> {
        let base = confined_place().and_then(tempfile::tempdir_in).map_err(|error| error.to_string())?;
        let dir = base.path().join("project");
        copy(case, &dir).map_err(|error| format!("cannot copy the case: {error}"))?;
        fs::create_dir(base.path().join("home")).map_err(|error| error.to_string())?;
        fs::remove_file(dir.join("expect.toml")).map_err(|error| error.to_string())?;
        // What a user has on this machine, and what for clusters.
        for (name, holds) in [("config", bed.is_none()), ("config-cluster", bed.is_some())] {
            let from = dir.join(name);
            if from.is_dir() && holds {
                fs::rename(&from, base.path().join("config")).map_err(|error| error.to_string())?;
            } else if from.is_dir() {
                fs::remove_dir_all(&from).map_err(|error| error.to_string())?;
            }
        }
        let project = Self { engine: engine.to_owned(), dir, base, place: bed.map(Bed::place) };
        project.fill_in(&project.dir.join("mlctl.toml"))?;
        let user = project.base.path().join("config/mlctl/config.toml");
        if user.is_file() {
            project.fill_in(&user)?;
        }
        if let Some(place) = &project.place {
            place.configure(&user);
        }
        Ok(project)
    }

    /// The name of the context: of the built-in one with its engine, or of one on a cluster.
    fn context(&self) -> &str {
        if self.engine == "process" { "local" } else { &self.engine }
    }

    fn fill_in(&self, path: &Path) -> Result<(), String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        fs::write(path, self.filled(&text)?).map_err(|error| error.to_string())
    }

    /// `text` with `{python}`, a version that this machine has, and `{context}`.
    fn filled(&self, text: &str) -> Result<String, String> {
        let text = text.replace("{context}", self.context());
        if !text.contains("{python}") {
            return Ok(text);
        }
        let version = "import sys; print('%d.%d' % sys.version_info[:2])";
        let python =
            Command::new("python3").args(["-c", version]).output().map_err(|error| format!("python3: {error}"))?;
        Ok(text.replace("{python}", String::from_utf8_lossy(&python.stdout).trim()))
    }

    /// The edits before a run.
    pub(super) fn edit(&self, run: &Run) -> Result<(), String> {
        for path in &run.remove {
            let path = self.dir.join(path);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
        for (path, text) in &run.write {
            let path = self.dir.join(path);
            let (parent, text) = (path.parent().unwrap_or(&self.dir), self.filled(text)?);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, &text))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// `mlctl run`, with its report.
    pub(super) fn run(&self, run: &Run) -> Result<Outcome, String> {
        let ended = self.mlctl().envs(&run.env).args(["run", "--output", "json"]).args(&run.args).ended();
        let instances = instances(&ended)?;
        Ok(Outcome { exit: ended.code, stderr: ended.stderr, instances })
    }

    /// Copies the latest run's artifact out and returns where it is.
    pub(super) fn artifact(&self, name: &str) -> Result<PathBuf, String> {
        let holder = tempfile::tempdir_in(self.base.path()).map_err(|error| error.to_string())?.keep();
        let copy = holder.join("artifact");
        let ended = self.mlctl().args(["artifacts", "get", name, "--dest"]).arg(&copy).ended();
        if ended.code == 0 { Ok(copy) } else { Err(format!("`mlctl artifacts get {name}`: {}", ended.stderr)) }
    }

    /// The log of an instance in the latest run.
    pub(super) fn log(&self, instance: &str) -> String {
        self.mlctl().args(["logs", instance]).ended().stdout
    }

    /// mlctl in this project, with nothing of whoever runs the tests but what [`passed`] gives.
    fn mlctl(&self) -> Command {
        let base = self.base.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mlctl"));
        command.current_dir(&self.dir).env_clear().envs(passed());
        command
            .env("HOME", base.join("home"))
            .env("XDG_CONFIG_HOME", base.join("config"))
            .env("XDG_DATA_HOME", base.join("data"))
            .env("MLCTL_CONTEXT", self.context());
        command.env("LEAKED", "leaked");
        if let Some(place) = &self.place {
            command.envs(place.environment());
        }
        command
    }
}

impl Outcome {
    /// How an instance ended.
    pub(super) fn status(&self, instance: &str) -> Option<&str> {
        self.instances.get(instance)?.get("status")?.as_str()
    }

    /// A result of an instance: `artifacts` or `values`, by `instance.output`.
    pub(super) fn result(&self, what: &str, name: &str) -> Option<&Value> {
        let (instance, output) = name.rsplit_once('.')?;
        self.instances.get(instance)?.get(what)?.get(output)
    }

    /// What helps to understand a failure.
    pub(super) fn transcript(&self) -> String {
        let ended = self.instances.iter().map(|(instance, report)| {
            let failure = report.get("failure").filter(|failure| !failure.is_null());
            let failure = failure.map(|failure| format!(" {failure}")).unwrap_or_default();
            format!("    {instance}: {}{failure}\n", report["status"])
        });
        format!("  exit code {}\n{}  stderr: {}", self.exit, ended.collect::<String>(), self.stderr)
    }
}

/// The report's instances, by id. There is none when nothing could be started.
fn instances(ended: &Ended) -> Result<BTreeMap<String, Value>, String> {
    if ended.stdout.is_empty() {
        return Ok(BTreeMap::new());
    }
    let report: Value = serde_json::from_str(&ended.stdout)
        .map_err(|error| format!("stdout is no report: {error}: {}", ended.stdout))?;
    let listed = report["instances"].as_array().ok_or("the report has no `instances`")?;
    let named = listed.iter().map(|step| (step["instance"].as_str().unwrap_or_default().to_owned(), step.clone()));
    let instances: BTreeMap<String, Value> = named.collect();
    if instances.len() == listed.len() { Ok(instances) } else { Err("an instance is reported twice".to_owned()) }
}

/// A directory that steps may not write to: the machine's temporary ones are open to them, and a clone may be there.
fn confined_place() -> std::io::Result<PathBuf> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/mlctl-tests"));
    let open = ["/tmp", "/var/tmp"].iter().any(|open| target.starts_with(open));
    let place = home.filter(|_| open).unwrap_or(target);
    fs::create_dir_all(&place)?;
    Ok(place)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
        let target = to.join(entry.file_name());
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
