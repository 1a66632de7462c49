//! Inputs that are URLs, from a real server on the loopback: locked, kept in the store, and refused when they change.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Ended, Project, Start, mlctl};

/// SHA-256 of `first\n`.
const FIRST: &str = "b640e840b19d378660b32fb51ae18d67dccb4a8596a29e7bd72c1b2ae5928f41";

/// Python's file server, over TLS where there is a certificate; it says its port.
const SERVE: &str = r#"
import functools, http.server, ssl, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Ends with the test.
struct Server {
    process: Child,
    port: String,
}

impl Server {
    fn start(directory: &Path, certificate: Option<&Path>) -> Self {
        let mut python = Command::new("python3");
        python.args(["-I", "-c", SERVE]).arg(directory).args(certificate).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = python.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { process, port: port.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A project whose step prints an input from `url`.
fn project(url: &str, more: &str) -> Project {
    Project::new(&format!(
        "[project]\nname = \"url\"\n\n[steps.show]\nscript = \"cat \\\"$MLCTL_INPUT_DATA\\\"\"\n\
         inputs.data = {{ url = \"{url}\"{more} }}\n"
    ))
}

/// A directory with `data.txt`, and the server of it.
fn served(certificate: Option<&Path>) -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("data.txt"), "first\n").unwrap();
    let server = Server::start(directory.path(), certificate);
    (directory, server)
}

#[test]
fn a_download_is_locked_and_kept() {
    let (_directory, server) = served(None);
    let project = project(&format!("http://127.0.0.1:{}/data.txt", server.port), "");
    project.ok(&["run"]);
    assert_eq!(project.ok(&["logs", "show"]), "first\n");
    let lock = fs::read_to_string(project.root().join("mlctl.lock")).unwrap();
    assert!(lock.contains(&format!("sha256 = \"{FIRST}\"")), "{lock}");
    // The store has it: the server is not asked again.
    drop(server);
    project.ok(&["run", "--locked", "--force", "show"]);
    assert_eq!(project.ok(&["logs", "show"]), "first\n");
}

#[test]
fn another_content_than_the_locked_one_is_refused() {
    let (directory, server) = served(None);
    let project = project(&format!("http://127.0.0.1:{}/data.txt", server.port), "");
    project.ok(&["run"]);
    fs::write(directory.path().join("data.txt"), "second\n").unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| -> Ended {
        project.command(mlctl()).args(arguments).env("MLCTL_STORE", fresh.path()).ended()
    };
    let Ended { code, stderr, .. } = run(&["run", "--force", "show"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("mlctl.toml:6") && stderr.contains(&format!("SHA-256 {FIRST} is locked")), "{stderr}");
    assert!(stderr.contains("mlctl lock --update"), "{stderr}");
    assert_eq!(run(&["lock", "--update"]).code, 0);
    assert_eq!(run(&["run"]).code, 0);
    assert_eq!(project.ok(&["logs", "show"]), "second\n");
}

#[test]
fn the_stated_sha256_must_be_that_of_the_content() {
    let (_directory, server) = served(None);
    let url = format!("http://127.0.0.1:{}/data.txt", server.port);
    let stated = project(&url, &format!(", sha256 = \"{FIRST}\""));
    stated.ok(&["run"]);
    let wrong = project(&url, &format!(", sha256 = \"{}\"", "0".repeat(64)));
    let Ended { code, stderr, .. } = wrong.run(&["run"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains(&format!("its SHA-256 is {FIRST}, not the one that the spec states")), "{stderr}");
    assert!(!wrong.root().join("mlctl.lock").exists());
}

#[test]
fn what_cannot_be_had_is_said_at_the_input() {
    let (_directory, server) = served(None);
    let project = project(&format!("http://127.0.0.1:{}/gone.txt", server.port), "");
    let Ended { code, stderr, .. } = project.run(&["run"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("mlctl.toml:6") && stderr.contains("the server answered 404"), "{stderr}");
}

#[test]
fn a_companys_authority_is_trusted_where_it_is_named() {
    let keys = tempfile::tempdir().unwrap();
    let pem = keys.path().join("both.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-keyout", "both.pem", "-out", "ca.pem"]);
    assert!(openssl.current_dir(keys.path()).stderr(Stdio::null()).status().unwrap().success());
    let certificate = fs::read(keys.path().join("ca.pem")).unwrap();
    fs::write(&pem, [fs::read(&pem).unwrap(), certificate].concat()).unwrap();
    let (_directory, server) = served(Some(&pem));
    let project = project(&format!("https://127.0.0.1:{}/data.txt", server.port), "");
    let Ended { code, stderr, .. } = project.run(&["run"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("certificate") && stderr.contains("SSL_CERT_FILE"), "{stderr}");
    let mut trusting = project.command(mlctl());
    let ended = trusting.arg("run").env("SSL_CERT_FILE", keys.path().join("ca.pem")).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(project.ok(&["logs", "show"]), "first\n");
}
