//! A daemon of the test's own, with everything it has in a temporary directory.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Time for a daemon to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that ends with the test.
pub(super) struct Own {
    /// Where it listens on this machine.
    pub(super) socket: PathBuf,
    /// The port where it listens too.
    pub(super) tcp: SocketAddr,
    process: Child,
    _dir: TempDir,
}

impl Own {
    /// Starts one, for which `hidden` is empty. `None`, and why on stderr, where that cannot be.
    pub(super) fn start(options: &[&str], hidden: Option<&Path>) -> Option<Self> {
        let wanted = std::env::var_os("MLCTL_TEST_DOCKER").is_some_and(|value| value == "1");
        let able = rustix::process::geteuid().is_root() && Command::new("dockerd").arg("--version").output().is_ok();
        if !able {
            assert!(!wanted, "MLCTL_TEST_DOCKER=1, but only root with dockerd can start one");
            eprintln!("SKIPPED: only root with dockerd can start one");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("mlctl-dockerd-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (socket, log) = (at("docker.sock"), at("log"));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Its mounts are its own: none is left when it ends.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
        let hide = r#"[ -z "$1" ] || mount -t tmpfs none "$1"; shift; exec "$@""#;
        command.args([hide, "sh"]).arg(hidden.unwrap_or(Path::new("")));
        // Without a bridge dockerd deletes `docker0`, which is another daemon's: it must not be able to.
        command.args(["setpriv", "--bounding-set", "-net_admin", "dockerd"]);
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(at(name));
        }
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.args(["--host", &format!("tcp://{free}"), "--bridge", "none", "--iptables=false"]);
        if !options.iter().any(|option| option.starts_with("--tls")) {
            command.arg("--tls=false");
        }
        let output = File::create(&log).unwrap();
        command.args(options).stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let process = command.spawn().unwrap();
        let mut own = Self { socket, tcp: free, process, _dir: dir };
        let start = Instant::now();
        while !own.docker(&["version"]).is_some_and(|output| output.status.success()) {
            let ended = own.process.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{}", fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(own)
    }

    fn docker(&self, arguments: &[&str]) -> Option<std::process::Output> {
        let host = format!("unix://{}", self.socket.display());
        let mut command = Command::new("docker");
        command.env_remove("DOCKER_TLS_VERIFY").args(["--host", &host]).args(arguments).stdin(Stdio::null());
        command.output().ok()
    }

    /// Makes an image with one file.
    pub(super) fn import(&self, name: &str) {
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("image.tar");
        let mut archive = tar::Builder::new(File::create(&tar).unwrap());
        archive.append_data(&mut tar::Header::new_gnu(), "empty", std::io::empty()).unwrap();
        archive.into_inner().unwrap();
        let output = self.docker(&["import", tar.to_str().unwrap(), name]).unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// Makes throw-away certificates: an authority, a server on the loopback interface, a client.
pub(super) fn certificates(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").current_dir(dir).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(&[&new[..], &["-subj", "/CN=mlctl test authority", "-keyout", "ca-key.pem", "-out", "ca.pem"]].concat());
    for (subject, key, certificate, usage) in [
        ("/CN=localhost", "server-key.pem", "server.pem", "serverAuth"),
        ("/CN=client", "key.pem", "cert.pem", "clientAuth"),
    ] {
        let usage = format!("extendedKeyUsage={usage}");
        let names = ["-subj", subject, "-keyout", key, "-out", certificate, "-CA", "ca.pem", "-CAkey", "ca-key.pem"];
        let uses = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &usage, "-addext"];
        openssl(&[&new[..], &names, &uses, &["subjectAltName=DNS:localhost,IP:127.0.0.1"]].concat());
    }
}
