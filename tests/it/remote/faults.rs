//! What goes wrong with a server, and on the way to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::Ordering;

use super::proxy::Proxy;
use super::{Machine, Server, files_below, spec};
use crate::support::{Start, skip};

pub(super) const LARGE: u64 = 60_000_000;

/// A machine that has run, and one that has not, behind a network of the test's own.
pub(super) fn behind(server: &Server, files: u32, bytes: u64) -> (Proxy, Machine, Machine) {
    let proxy = Proxy::before(server.port());
    let spec = spec(&server.bucket(), files, bytes);
    let (mut one, mut two) = (Machine::new(&spec, Some(server)), Machine::new(&spec, Some(server)));
    one.server = Some(proxy.url.clone());
    two.server = Some(proxy.url.clone());
    one.project.ok(&["run"]);
    (proxy, one, two)
}

#[test]
fn a_damaged_object_is_refused_and_can_be_sent_again() {
    let Some(server) = Server::start() else { return };
    let spec = spec(&server.bucket(), 10, 1000);
    let (one, two) = (Machine::new(&spec, Some(&server)), Machine::new(&spec, Some(&server)));
    one.project.ok(&["run"]);
    one.sync(&[]);
    let objects = files_below(&server.data().join("team/mlctl/objects"));
    fs::write(&objects[0], "y".repeat(1000)).unwrap();
    let ended = two.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("the result of `make` is damaged there, and was not taken"), "{ended:?}");
    assert_eq!(two.would_run(), "make\nuse\n");
    one.sync(&[]);
    two.sync(&[]);
    assert_eq!(two.would_run(), "");
}

#[test]
fn a_lost_object_is_a_miss() {
    let Some(server) = Server::start() else { return };
    let spec = spec(&server.bucket(), 10, 1000);
    let (one, two) = (Machine::new(&spec, Some(&server)), Machine::new(&spec, Some(&server)));
    one.project.ok(&["run"]);
    one.sync(&[]);
    for lost in files_below(&server.data().join("team/mlctl/packs")) {
        fs::remove_file(lost).unwrap();
    }
    let ended = two.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("the result of `make` is not whole there"), "{ended:?}");
    assert_eq!(two.would_run(), "make\nuse\n");
    one.sync(&[]);
    two.sync(&[]);
    assert_eq!(two.would_run(), "");
}

#[test]
fn a_server_that_ignores_ranges_will_do() {
    let Some(server) = Server::start() else { return };
    let spec = spec(&server.bucket(), 300, 2 * LARGE);
    let (one, mut two) = (Machine::new(&spec, Some(&server)), Machine::new(&spec, None));
    one.project.ok(&["run"]);
    one.sync(&["--push"]);
    let mut plain = std::process::Command::new("python3");
    plain.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(server.data().parent().unwrap());
    let mut plain = plain.arg("0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(plain.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let port = said.split(' ').skip_while(|word| *word != "port").nth(1).unwrap();
    two.server = Some(format!("http://127.0.0.1:{port}"));
    let mut pull = two.command(&["sync", "--context", "cloud", "--pull"]);
    let ended = pull.env("AWS_SKIP_SIGNATURE", "true").ended();
    plain.kill().unwrap();
    plain.wait().unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(two.would_run(), "");
}

#[test]
fn connections_that_break_are_made_again() {
    let Some(server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, 1000);
    proxy.rules.breaks.store(true, Ordering::Relaxed);
    one.sync(&["--push"]);
    two.sync(&["--pull"]);
    assert_eq!(two.would_run(), "");
}

#[test]
fn a_slow_server_is_asked_few_questions() {
    let Some(server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10_000, 1000);
    proxy.rules.delay.store(200, Ordering::Relaxed);
    one.sync(&["--push"]);
    let pushed = proxy.rules.requests.swap(0, Ordering::Relaxed);
    assert!(pushed < 40, "{pushed} requests for 10,000 files");
    two.sync(&["--pull"]);
    let pulled = proxy.rules.requests.load(Ordering::Relaxed);
    assert!(pulled < 20, "{pulled} requests for 10,000 files");
    assert_eq!(two.would_run(), "");
}

#[test]
fn a_server_without_put_if_absent_is_told_of_and_used() {
    let Some(server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, 1000);
    proxy.rules.no_conditions.store(true, Ordering::Relaxed);
    let ended = one.run(&["sync", "--context", "cloud", "--push"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("this server has no put-if-absent"), "{ended:?}");
    two.sync(&["--pull"]);
    assert_eq!(two.would_run(), "");
}

#[test]
fn credentials_that_are_missing_wrong_or_not_enough_are_said_and_never_shown() {
    let Some(server) = Server::start() else { return };
    let mut machine = Machine::new(&spec(&server.bucket(), 3, 3), Some(&server));
    machine.project.ok(&["run"]);
    let sync = |key: Option<&str>, secret: Option<&str>| {
        let mut command = machine.command(&["sync", "--context", "cloud"]);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
            .envs(key.map(|key| ("AWS_ACCESS_KEY_ID", key)))
            .envs(secret.map(|secret| ("AWS_SECRET_ACCESS_KEY", secret)));
        let ended = command.ended();
        assert_eq!(ended.code, 3, "{ended:?}");
        ended.stderr
    };
    let said = sync(None, None);
    assert!(said.contains("there are no credentials for s3://mlctl-test") && said.contains("AWS_PROFILE"), "{said}");
    let said = sync(Some("testbed"), Some("hunter2-hunter2"));
    assert!(said.contains("SignatureDoesNotMatch") && !said.contains("hunter2"), "{said}");
    let said = sync(Some("nobody"), Some("hunter2-hunter2"));
    assert!(said.contains("No user exists") && !said.contains("hunter2"), "{said}");
    let proxy = Proxy::before(server.port());
    proxy.rules.read_only.store(true, Ordering::Relaxed);
    machine.server = Some(proxy.url.clone());
    let ended = machine.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("cannot push") && ended.stderr.contains("whoever owns the bucket"), "{ended:?}");
    assert!(!ended.stderr.contains("testbed-secret"), "{ended:?}");
}

#[test]
fn a_bucket_that_is_not_there_and_a_server_that_does_not_answer_are_said() {
    let Some(mut server) = Server::start() else { return };
    let machine = Machine::new(&spec("s3://another-bucket/x", 3, 3), Some(&server));
    let ended = machine.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("NoSuchBucket") && ended.stderr.contains("make the bucket"), "{ended:?}");
    server.stop();
    let ended = machine.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("cannot connect: Connection refused"), "{ended:?}");
}

#[test]
fn a_bucket_that_is_full_is_said() {
    let Some(mut server) = Server::start() else { return };
    let machine = Machine::new(&spec(&server.bucket(), 3, LARGE), Some(&server));
    machine.project.ok(&["run"]);
    let mounted = match Mounted::small(&server.data()) {
        Ok(mounted) => mounted,
        Err(why) => return skip(&format!("cannot mount a small file system: {why}")),
    };
    server.restart();
    let ended = machine.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("No space left on device") && ended.stderr.contains("make space"), "{ended:?}");
    mounted.grow();
    machine.sync(&[]);
    server.stop();
}

/// A small file system over a directory, for as long as this lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn small(at: &std::path::Path) -> Result<Self, String> {
        let mut mount = std::process::Command::new("mount");
        let ended = mount.args(["-t", "tmpfs", "-o", "size=20m", "tmpfs"]).arg(at).ended();
        if ended.code == 0 { Ok(Self(at.to_owned())) } else { Err(ended.stderr) }
    }

    fn grow(&self) {
        let ended = std::process::Command::new("mount").args(["-o", "remount,size=300m"]).arg(&self.0).ended();
        assert_eq!(ended.code, 0, "{ended:?}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(&self.0).ended();
    }
}
