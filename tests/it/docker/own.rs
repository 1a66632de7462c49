//! A daemon of a test's own: for what must not happen to one that others use.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::docker;
use crate::faults::{Tmpfs, is_root, until};
use crate::support::{Project, Start, mlctl, skip};

/// The daemon ends with this, and all that it runs.
pub(super) struct Own {
    script: Child,
    /// Its files are on this file system, if that is one of their own.
    disk: Option<Tmpfs>,
    dir: TempDir,
}

impl Own {
    /// One with `images` of the daemon that there is; with a disk of this size for what it has. `None`, and why on
    /// stderr, where that cannot be.
    pub(super) fn start(images: &[&str], size: Option<&str>) -> Option<Self> {
        if !docker() {
            return None;
        }
        if !is_root() {
            skip("only root can start a Docker daemon");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("mlctl-daemon-").tempdir().unwrap();
        let disk = match size {
            Some(size) => Some(Tmpfs::mount(&dir.path().join("data"), size)?),
            None => None,
        };
        Some(Self { script: begin(dir.path(), images), disk, dir })
    }

    /// How it is reached.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }

    /// mlctl, with this daemon.
    pub(super) fn mlctl(&self, project: &Project) -> Command {
        let mut command = project.command(mlctl());
        command.env("DOCKER_HOST", self.host());
        command
    }

    /// Runs the Docker CLI with it, which must succeed, and gives what it printed.
    pub(super) fn cli(&self, arguments: &[&str]) -> String {
        let ended = Command::new("docker").env("DOCKER_HOST", self.host()).args(arguments).ended();
        assert_eq!(ended.code, 0, "docker {arguments:?}: {ended:?}");
        ended.stdout.trim().to_owned()
    }

    /// Gives it another directory in the place of this one.
    pub(super) fn hide(&self, directory: &Path) {
        let process = self.process().unwrap().as_raw_nonzero().to_string();
        let mut mount = Command::new("nsenter");
        mount.args(["--mount", "--target", &process, "mount", "-t", "tmpfs", "none"]).arg(directory);
        let ended = mount.ended();
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Sends it a signal, and waits for its end. What it ran goes on, where it does not end that.
    pub(super) fn end(&self, signal: Signal) {
        let process = self.process().unwrap();
        kill_process(process, signal).unwrap();
        until("the end of the daemon", || self.process().is_none());
    }

    /// Ends all that is left of it, and starts it again with what it had.
    pub(super) fn restart(&mut self) {
        self.stop();
        self.script = begin(self.dir.path(), &[]);
    }

    /// The directory of all that it has.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn process(&self) -> Option<Pid> {
        let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut left = vec![i32::try_from(self.script.id()).unwrap()];
        while let Some(pid) = left.pop() {
            if name(pid) == "dockerd\n" {
                return Pid::from_raw(pid);
            }
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            left.extend(children.split_whitespace().map(|child| child.parse::<i32>().unwrap()));
        }
        None
    }

    /// The kernel ends what is in the namespace of a process that is gone.
    fn stop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
        // Somebody may hold files of it for a moment.
        until("the daemon's processes to be gone", || {
            Command::new("docker").env("DOCKER_HOST", self.host()).arg("version").ended().code != 0
        });
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop();
        drop(self.disk.take());
    }
}

fn begin(dir: &Path, images: &[&str]) -> Child {
    let said = dir.join("said");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/daemon");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(script).arg(dir).args(images).stdin(Stdio::null());
    let mut child = command.stdout(File::create(&said).unwrap()).spawn().unwrap();
    until("a daemon of the test's own", || {
        assert!(child.try_wait().unwrap().is_none(), "the daemon did not start");
        fs::read_to_string(&said).unwrap().contains("unix://")
    });
    child
}
