//! Bad input, and what can go wrong on a machine, as a user meets it: the exit code, what is said, and that nothing is
//! lost, half-written or left running.

mod damage;
mod endings;
mod input;
mod kills;
mod orphans;
mod places;
mod steps;
mod together;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Ended, LIMIT, Project, Running, Start, mlctl, skip};

/// A run that goes on beside the test.
fn start(project: &Project, arguments: &[&str]) -> Running {
    project.command(mlctl()).args(arguments).start()
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the log of an instance says something.
pub(crate) fn until_printed(project: &Project, instance: &str, text: &str) {
    let runs = project.root().join(".mlctl/runs");
    let name = format!("{instance}.1.log");
    let logs = || fs::read_dir(&runs).into_iter().flatten().flatten().map(|run| run.path().join("logs").join(&name));
    until(&format!("`{instance}` to print `{text}`"), || {
        logs().any(|log| fs::read_to_string(log).is_ok_and(|log| log.contains(text)))
    });
}

/// The processes of a project's steps, of whatever run: their environment names the store.
fn processes(project: &Project) -> Vec<String> {
    let mark = project.store().join("runs");
    let mark = mark.to_str().unwrap().as_bytes();
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let marked = names.filter(|path| {
        let environ = fs::read(path.join("environ")).unwrap_or_default();
        environ.windows(mark.len()).any(|part| part == mark)
    });
    marked.map(|path| fs::read_to_string(path.join("cmdline")).unwrap_or_default()).collect()
}

/// Waits until nothing of a project runs any more: a warden needs a moment.
fn until_quiet(project: &Project) {
    until("the last process to end", || processes(project).is_empty());
}

/// Of the latest run: how it ended, and each instance with its status.
pub(crate) fn statuses(project: &Project, run: &str) -> (String, Vec<(String, String)>) {
    let status = project.json(&["status", run]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let instances = status["instances"].as_array().unwrap().iter();
    (text(&status["status"]), instances.map(|each| (text(&each["instance"]), text(&each["status"]))).collect())
}

/// The content of an output of the latest run.
fn output(project: &Project, name: &str) -> String {
    project.ok(&["artifacts", "get", name, "--dest", "-"])
}

/// That it ended so, and that stderr says all of this.
#[track_caller]
pub(crate) fn says(ended: &Ended, code: i32, texts: &[&str]) {
    let missing: Vec<&&str> = texts.iter().filter(|text| !ended.stderr.contains(**text)).collect();
    let (stdout, stderr) = (head(&ended.stdout), head(&ended.stderr));
    assert!(
        ended.code == code && missing.is_empty(),
        "expected {code}, not {}; missing: {missing:?}\n{stdout}\n{stderr}",
        ended.code
    );
    assert!(!ended.stderr.contains("panicked"), "{stderr}");
}

fn head(text: &str) -> String {
    text.chars().take(4000).collect()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A small file system of its own, for as long as this lives.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where that is not allowed.
    pub(crate) fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={size},mode=700");
        let mut mount = std::process::Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &options, "mlctl-test"]).arg(path).stderr(Stdio::null());
        let mounted = is_root() && mount.status().is_ok_and(|status| status.success());
        if !mounted {
            skip("no tmpfs can be mounted here");
        }
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: what still looks at it must not keep it for ever.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
