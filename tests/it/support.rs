//! A project of its own for a test, with a store, a home and an environment of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

mod process;

pub(crate) use process::{LIMIT, Running, Start, wait};

/// The binary under test.
pub(crate) fn mlctl() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mlctl"))
}

/// A project in a temporary directory.
pub(crate) struct Project {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Project {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["project", "home", "store"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    /// One with this `mlctl.toml`.
    pub(crate) fn new(spec: &str) -> Self {
        let project = Self::empty();
        project.write("mlctl.toml", spec);
        project
    }

    /// A copy of a directory.
    pub(crate) fn copy_of(from: &Path) -> Self {
        let project = Self::empty();
        copy(from, &project.root());
        project
    }

    /// The project's directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The store.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A command in the project's directory, with nothing of this process's environment but what [`passed`] gives.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root()).env_clear().envs(passed());
        command.env("HOME", self.home()).env("MLCTL_STORE", self.store());
        command
    }

    /// Runs mlctl.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(mlctl()).args(arguments).ended()
    }

    /// Runs mlctl, which must succeed, and gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "mlctl {arguments:?}: {ended:?}");
        ended.stdout
    }

    /// Runs mlctl, which must succeed, and gives the JSON that it printed.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[arguments, &["-o", "json"]].concat())).unwrap()
    }
}

/// What mlctl gets of the environment of whoever runs the tests: where programs are, and which Docker engine to test with.
pub(crate) fn passed() -> impl Iterator<Item = (&'static str, OsString)> {
    ["PATH", "DOCKER_HOST"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Says why a test did nothing.
#[allow(clippy::print_stderr, reason = "there is no other way to tell from a test")]
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Copies a directory's files and directories.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
