//! The project's git state, for provenance: which commit, and whether the tree differs from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

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

/// How long the end of a run waits for git: a hook or a file system that hangs must not hang the run.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks git, beside the run, whether the tree differs from the commit (untracked files count); joined by
/// [`Dirty::join`].
pub(crate) struct Dirty(Receiver<News>);

enum News {
    /// git runs.
    Asked(Pid),
    /// What it said.
    Answered(bool),
}

impl Dirty {
    /// Starts asking.
    pub(crate) fn ask(project: &Path) -> Self {
        let project = project.to_owned();
        let (news, receiver) = channel();
        let ask = move || {
            let mut git = Command::new("git");
            git.args(["--no-optional-locks", "status", "--porcelain"]).current_dir(project);
            let git = git.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
            news.send(News::Asked(Pid::from_child(&git))).ok()?;
            let output = git.wait_with_output().ok().filter(|output| output.status.success())?;
            news.send(News::Answered(!output.stdout.is_empty())).ok()
        };
        // Without a thread there is no answer.
        let _ = std::thread::Builder::new().name("git".into()).spawn(ask);
        Self(receiver)
    }

    /// The answer; `None` where there is no git, no checkout, or no end.
    pub(crate) fn join(self) -> Option<bool> {
        let mut asked = None;
        loop {
            match self.0.recv_timeout(PATIENCE) {
                Ok(News::Asked(pid)) => asked = Some(pid),
                Ok(News::Answered(dirty)) => return Some(dirty),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    // Nobody has waited for it yet, so the id is still its own.
                    asked.map(|pid| kill_process(pid, Signal::KILL));
                    return None;
                }
            }
        }
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
