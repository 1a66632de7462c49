//! The project's git state, for provenance: which commit, and whether the tree differs from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

/// The commit that `project` is at: 40 (or 64) hexadecimal digits; `None` outside a git checkout or before the first
/// commit. Reads git's own files, since starting git costs more than a run that has nothing to do.
pub(crate) fn head(project: &Path) -> Option<String> {
    let git_dir = git_dir(project)?;
    let head = fs::read_to_string(git_dir.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
    // A linked worktree has its own HEAD; its branches are those of the main checkout.
    let common = fs::read_to_string(git_dir.join("commondir")).map_or(git_dir.clone(), |dir| git_dir.join(dir.trim()));
    if let Ok(commit) = fs::read_to_string(common.join(reference)) {
        return Some(commit.trim().to_owned());
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    packed
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(_, name)| *name == reference).map(|(c, _)| c.to_owned()))
}

/// Asks git, beside the run, whether the tree differs from the commit (untracked files count); joined by
/// [`Dirty::join`].
pub(crate) struct Dirty(Option<JoinHandle<Option<bool>>>);

impl Dirty {
    /// Starts asking.
    pub(crate) fn ask(project: &Path) -> Self {
        let project = project.to_owned();
        let ask = move || {
            let output = Command::new("git")
                .args(["--no-optional-locks", "status", "--porcelain"])
                .current_dir(project)
                .stdin(Stdio::null())
                .output()
                .ok()?;
            output.status.success().then_some(!output.stdout.is_empty())
        };
        Self(std::thread::Builder::new().name("git".into()).spawn(ask).ok())
    }

    /// The answer; `None` where there is no git or no checkout.
    pub(crate) fn join(self) -> Option<bool> {
        self.0?.join().ok().flatten()
    }
}

fn git_dir(project: &Path) -> Option<PathBuf> {
    project.ancestors().find_map(|folder| {
        let dot_git = folder.join(".git");
        if dot_git.is_dir() {
            return Some(dot_git);
        }
        let file = fs::read_to_string(&dot_git).ok()?;
        Some(folder.join(file.strip_prefix("gitdir: ")?.trim()))
    })
}
