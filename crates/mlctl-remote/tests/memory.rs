//! Large files in the little memory that a pod has for them. Where the S3 server is not built this says SKIPPED.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stderr, reason = "what was measured, and why not")]
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use mlctl_core::action::ActionResult;
use mlctl_core::digest::Digest;
use mlctl_exec::store::{Entry, Provenance, Store};
use mlctl_remote::{Location, Options, Remote};

/// More than what may be held by far.
const SIZE: u64 = (256 << 20) + 5;
/// What a pod's executor allows.
const MEMORY: u64 = 8 << 20;
/// All that the process may have.
const ALL: u64 = 30 << 20;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/testbed/s3");

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The script kills the server when it dies.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key() -> Digest {
    Digest::of(b"large")
}

#[test]
fn a_large_file_travels_in_a_pods_memory() {
    if !Command::new(SCRIPT).arg("--is-built").status().unwrap().success() {
        eprintln!("SKIPPED: the S3 server is not built: tests/testbed/s3 --build");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("server/data/bucket")).unwrap();
    let server = Command::new(SCRIPT).arg(dir.path().join("server")).stdout(Stdio::piped()).spawn().unwrap();
    let mut server = Server(server);
    let mut url = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut url).unwrap();

    let store = Store::open(&dir.path().join("push")).unwrap();
    File::create(dir.path().join("large")).unwrap().set_len(SIZE).unwrap();
    let artifact = store.put_copy(&dir.path().join("large")).unwrap();
    let result = ActionResult { artifacts: [("out".to_owned(), artifact)].into(), ..ActionResult::default() };
    let provenance = Provenance { run: "r".into(), instance: "step".into(), attempt: 1, finished: 1 };
    store.record(&key(), Entry { result: Arc::new(result), components: BTreeMap::new(), provenance }).unwrap();

    for direction in ["push", "pull"] {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "child", "--nocapture", "--test-threads", "1"]);
        process.env("MLCTL_TEST_STORE", dir.path().join(direction)).env("AWS_ENDPOINT_URL", url.trim());
        process.env("AWS_ACCESS_KEY_ID", "testbed").env("AWS_SECRET_ACCESS_KEY", "testbed-secret");
        assert!(process.env("AWS_REGION", "us-east-1").status().unwrap().success(), "{direction}");
    }
    Store::open(&dir.path().join("pull")).unwrap().verify(&artifact).unwrap();
}

/// The transfer, in a process of its own.
#[test]
fn child() {
    let Some(path) = std::env::var_os("MLCTL_TEST_STORE").map(std::path::PathBuf::from) else { return };
    let store = Arc::new(Store::open(&path).unwrap());
    let options = Options { memory: MEMORY, parallel: 8, ..Options::new(store.root().join("remotes")) };
    let remote = Remote::open(&Location::parse("s3://bucket/x").unwrap(), &options).unwrap();
    let before = peak();
    let watch: mlctl_remote::Watch = Arc::new(|_| {});
    if path.ends_with("push") {
        let plan = remote.plan_push(&store, &[key()]).unwrap();
        assert_eq!(remote.push(plan, &watch).unwrap().recorded, [key()]);
    } else {
        let plan = remote.plan_pull(&store, &[key()]).unwrap();
        assert_eq!(remote.pull(&store, plan, &watch).unwrap().received, [key()]);
    }
    let all = peak();
    eprintln!("{}: {} KiB at the most, {} KiB before", path.display(), all >> 10, before >> 10);
    assert!(all < ALL, "{all} bytes");
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
