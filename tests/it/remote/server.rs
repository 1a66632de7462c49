//! An S3 server of a test's own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{Start, skip};

/// The bucket that every server has.
const BUCKET: &str = "mlctl-test";

/// A running server. It ends with this.
pub(super) struct Server {
    dir: TempDir,
    /// Where it answers.
    pub(super) url: String,
    child: Option<Child>,
}

impl Server {
    /// Starts one. `None`: it is not built here.
    pub(super) fn start() -> Option<Self> {
        if !is_built() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data").join(BUCKET)).unwrap();
        let mut server = Self { dir, url: String::new(), child: None };
        assert!(server.launch(&[]), "the server does not start");
        Some(server)
    }

    /// Where the objects are on disk.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data").join(BUCKET)
    }

    /// The URL of a store in its bucket.
    pub(super) fn bucket(&self) -> String {
        format!("s3://{BUCKET}/team/mlctl")
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.url.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Ends it at once.
    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The script kills the server when it dies.
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again at the same port, with the same objects.
    pub(super) fn restart(&mut self) {
        self.stop();
        let port = self.port().to_string();
        // Another program may have the port for a moment: of the connections that were open.
        for _ in 0..100 {
            if self.launch(&["--port", &port]) {
                return;
            }
        }
        panic!("the server does not start again");
    }

    fn launch(&mut self, options: &[&str]) -> bool {
        let mut command = Command::new(script());
        command.args(options).arg(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        if url.is_empty() {
            child.wait().unwrap();
            return false;
        }
        self.url = url.trim().to_owned();
        self.child = Some(child);
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/s3")
}

fn is_built() -> bool {
    let wanted = std::env::var_os("MLCTL_TEST_S3").is_some_and(|value| value == "1");
    let built = Command::new(script()).arg(if wanted { "--build" } else { "--is-built" }).ended();
    assert!(built.code == 0 || !wanted, "{built:?}");
    if built.code != 0 {
        skip("the S3 server is not built: tests/testbed/s3 --build");
    }
    built.code == 0
}
