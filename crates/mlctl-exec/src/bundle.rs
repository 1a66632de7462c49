//! The directory that an attempt runs in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The paths of a bundle. All of them are the attempt's own.
#[derive(Debug)]
pub struct Bundle {
    /// All of it.
    pub root: PathBuf,
    /// The working directory: the step's sources.
    pub work: PathBuf,
    /// One directory an input.
    pub inputs: PathBuf,
    /// Where outputs without `at` are written: one path an output, each made by the program.
    pub outputs: PathBuf,
    /// `HOME`, private and empty.
    pub home: PathBuf,
    /// `TMPDIR`, private and empty.
    pub temporary: PathBuf,
    /// The step's params as JSON, where it has any: beside the inputs, whose names have no dots.
    pub params: PathBuf,
}

impl Bundle {
    /// The bundle at `root`, whether or not it exists. Its names are short: sockets in `TMPDIR` may have paths of 107
    /// bytes only.
    pub fn at(root: PathBuf) -> Self {
        Self {
            work: root.join("work"),
            inputs: root.join("in"),
            outputs: root.join("out"),
            home: root.join("home"),
            temporary: root.join("tmp"),
            params: root.join("in/params.json"),
            root,
        }
    }

    /// Makes its directories; `root` must not exist.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir(&self.root)?;
        for directory in [&self.work, &self.inputs, &self.outputs, &self.home, &self.temporary] {
            fs::create_dir(directory)?;
        }
        Ok(())
    }

    /// Whether the directories that outputs are taken from are still the ones that were made: a step may have put
    /// links in their place.
    pub(crate) fn is_intact(&self) -> bool {
        [&self.work, &self.outputs].into_iter().all(|path| is_directory(path))
    }
}

/// Whether `path` is a directory and not a link to one.
pub(crate) fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}
