//! Which daemon is used, and what is said when there is none.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::docker;
use super::own::Own;
use crate::support::{Ended, Project, Running, Start, mlctl, skip};

const SPEC: &str = r#"
[project]
name = "connect"

[environments.tool]
image = "busybox:1.35"

[steps.here]
environment = "tool"
script = "echo it works"
"#;

fn run(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = project.command(mlctl());
    command.args(arguments).env_remove("DOCKER_HOST").envs(variables.iter().copied());
    command.ended()
}

#[test]
fn a_named_daemon_that_is_not_there_ends_what_needs_it() {
    let project = Project::new(SPEC);
    for command in [&["build"][..], &["run", "--context", "docker"]] {
        let ended = run(&project, command, &[("DOCKER_HOST", "unix:///nowhere/docker.sock")]);
        assert_eq!(ended.code, 3, "{ended:?}");
        for part in ["unix:///nowhere/docker.sock", "not there", "$DOCKER_HOST names it, and nothing else was tried"] {
            assert!(ended.stderr.contains(part), "{ended:?}");
        }
    }
    let ended = run(&project, &["build"], &[("DOCKER_CONTEXT", "nowhere")]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("there is no Docker context `nowhere`"), "{ended:?}");
}

#[test]
fn a_daemon_that_does_not_see_this_machines_files_builds_and_does_not_run() {
    let Some(own) = Own::start(&["busybox:1.35"], None) else { return };
    let project = Project::new(SPEC);
    own.hide(&project.store());
    let built = own.mlctl(&project).arg("build").ended();
    assert_eq!(built.code, 0, "{built:?}");
    let ran = own.mlctl(&project).args(["run", "--context", "docker"]).ended();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("does not see this machine's files"), "{ran:?}");
    assert_eq!(own.cli(&["ps", "--all", "--quiet"]), "", "nothing ran, and nothing is left");
}

/// An ssh server on the loopback interface that knows one key, and an `ssh` that uses it.
struct Ssh {
    /// `ssh://user@host:port`
    url: String,
    bin: PathBuf,
    known_hosts: PathBuf,
    _server: Running,
}

impl Ssh {
    /// `None`, and why on stderr, where that cannot be.
    fn start(dir: &Path) -> Option<Self> {
        let (client, server) = (program("ssh"), program("sshd"));
        let (Some(client), Some(server)) = (client, server) else {
            skip("no ssh, or no sshd");
            return None;
        };
        let at = |name: &str| dir.join(name).display().to_string();
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).ended();
            assert_eq!(made.code, 0, "{made:?}");
        }
        fs::copy(at("user.pub"), at("authorized")).unwrap();
        // Where a server that root starts must be able to confine itself.
        let _ = fs::create_dir("/run/sshd");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = [
            format!("ListenAddress=127.0.0.1:{port}"),
            format!("HostKey={}", at("host")),
            format!("AuthorizedKeysFile={}", at("authorized")),
            "StrictModes=no".to_owned(),
            "UsePAM=no".to_owned(),
            "PidFile=none".to_owned(),
        ];
        let options = options.iter().flat_map(|option| ["-o", option.as_str()]);
        let started = Command::new(server).args(["-D", "-e", "-f", "/dev/null"]).args(options).start();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let host = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let settings = [("IdentityFile", at("user")), ("UserKnownHostsFile", at("known_hosts"))];
        let settings = settings.map(|(name, value)| format!("{name} {value}\n")).concat();
        fs::write(at("config"), settings + "StrictHostKeyChecking yes\nIdentitiesOnly yes\n").unwrap();
        let bin = dir.join("bin");
        fs::create_dir(&bin).unwrap();
        let script = format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", client.display(), at("config"));
        fs::write(bin.join("ssh"), script).unwrap();
        fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        let user = Command::new("id").arg("-un").ended().stdout;
        let url = format!("ssh://{}@127.0.0.1:{port}", user.trim());
        Some(Self { url, bin, known_hosts: dir.join("known_hosts"), _server: started })
    }
}

/// A program on the path, or where those of administrators are.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

#[test]
fn a_daemon_is_reached_over_ssh() {
    let dir = tempfile::tempdir().unwrap();
    let Some(ssh) = docker().then(|| Ssh::start(dir.path())).flatten() else { return };
    let project = Project::new(SPEC);
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", ssh.bin.display());
    let variables = [("DOCKER_HOST", ssh.url.as_str()), ("PATH", path.as_str())];
    let built = run(&project, &["build"], &variables);
    assert_eq!(built.code, 0, "{built:?}");
    // It is the daemon of this machine after all: it sees the files.
    let ran = run(&project, &["run", "--context", "docker"], &variables);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(project.ok(&["logs", "here"]).contains("it works"));

    fs::write(&ssh.known_hosts, "").unwrap();
    let ended = run(&project, &["build"], &variables);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("Host key verification failed"), "{ended:?}");
    assert!(ended.stderr.contains("docker version` must work without asking"), "{ended:?}");
}
