//! Daemons that are found, and daemons that are not. Real ones, started by the test, listen where it says.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;

mod own;

use own::{Own, certificates};

/// An environment for a user whose home is empty.
fn environment(home: &Path, variables: &[(&str, &str)]) -> HashMap<String, String> {
    let home = home.to_str().unwrap();
    let usual = [("HOME", home), ("XDG_RUNTIME_DIR", home)];
    usual.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn connect(home: &Path, variables: &[(&str, &str)]) -> Result<Arc<Daemon>, CommandError> {
    let environment = environment(home, variables);
    Daemon::connect_as(&|name| environment.get(name).cloned())
}

fn wanted(home: &Path, variables: &[(&str, &str)]) -> Result<find::Wanted, CommandError> {
    let environment = environment(home, variables);
    find::wanted(&|name| environment.get(name).cloned())
}

/// Makes a Docker context as the docker command does.
fn context(home: &Path, name: &str, host: &str, skip_verify: bool) -> std::path::PathBuf {
    let id: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    let meta = home.join(".docker/contexts/meta").join(&id);
    fs::create_dir_all(&meta).unwrap();
    let endpoint = serde_json::json!({"Host": host, "SkipTLSVerify": skip_verify});
    let text = serde_json::json!({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}});
    fs::write(meta.join("meta.json"), text.to_string()).unwrap();
    home.join(".docker/contexts/tls").join(id).join("docker")
}

fn named(wanted: find::Wanted) -> (String, String) {
    match wanted {
        find::Wanted::Named(address, by) => (address.to_string(), by),
        find::Wanted::Any(sockets) => panic!("{sockets:?}"),
    }
}

#[test]
fn settings_go_before_each_other_as_with_the_docker_command() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    assert!(matches!(wanted(home, &[]).unwrap(), find::Wanted::Any(_)));
    context(home, "far", "ssh://me@far", false);
    context(home, "near", "unix:///near.sock", false);
    fs::write(home.join(".docker/config.json"), r#"{"auths": {}, "currentContext": "far"}"#).unwrap();
    let by_config = named(wanted(home, &[]).unwrap());
    assert_eq!(by_config.0, "ssh://me@far");
    assert!(by_config.1.contains("config.json"), "{by_config:?}");
    let context = ("DOCKER_CONTEXT", "near");
    assert_eq!(named(wanted(home, &[context]).unwrap()).0, "unix:///near.sock");
    let host = ("DOCKER_HOST", "tcp://here:1");
    assert_eq!(named(wanted(home, &[context, host]).unwrap()).0, "tcp://here:1");
    assert!(matches!(wanted(home, &[("DOCKER_CONTEXT", "default")]).unwrap(), find::Wanted::Any(_)));
    let elsewhere = tempfile::tempdir().unwrap();
    let config = ("DOCKER_CONFIG", elsewhere.path().to_str().unwrap());
    assert!(matches!(wanted(home, &[config]).unwrap(), find::Wanted::Any(_)));
}

#[test]
fn a_setting_that_is_of_no_use_is_an_error_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    context(home, "windows", "npipe:////./pipe/docker_engine", false);
    for (variable, value, expected) in [
        ("DOCKER_HOST", "npipe:////./pipe/docker_engine", "$DOCKER_HOST is `npipe:"),
        ("DOCKER_CONTEXT", "nowhere", "there is no Docker context `nowhere`"),
        ("DOCKER_CONTEXT", "windows", "the Docker context `windows` is of no use"),
    ] {
        let error = wanted(home, &[(variable, value)]).unwrap_err();
        assert_eq!(error.kind.code(), 3);
        assert!(error.message.starts_with(expected), "{error:?}");
        assert!(!error.hints.is_empty());
    }
    fs::write(home.join(".docker/config.json"), "{").unwrap();
    assert!(wanted(home, &[]).unwrap_err().message.contains("config.json"));
}

#[test]
fn a_daemon_that_is_named_and_does_not_answer_is_the_only_one_tried() {
    let home = tempfile::tempdir().unwrap();
    let dead = home.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let gone = home.path().join("gone.sock");
    // A port that is free: who had it is gone.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (host, expected) in [
        (format!("unix://{}", dead.display()), "nobody listens"),
        (format!("unix://{}", gone.display()), "not there"),
        (format!("tcp://{free}"), "refused"),
    ] {
        let error = connect(home.path(), &[("DOCKER_HOST", &host)]).unwrap_err();
        assert_eq!(error.kind.code(), 3);
        assert!(error.message.contains(&host), "{error:?}");
        assert!(error.causes[0].contains(expected), "{error:?}");
        assert!(error.causes[1].contains("$DOCKER_HOST names it, and nothing else was tried"), "{error:?}");
    }
}

#[test]
fn what_ssh_says_is_told_however_early_it_ends() {
    if std::process::Command::new("ssh").arg("-V").output().is_err() {
        return eprintln!("SKIPPED: no ssh");
    }
    let home = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = format!("ssh://nobody@127.0.0.1:{}", free.port());
    for _ in 0..30 {
        let error = connect(home.path(), &[("DOCKER_HOST", &host)]).unwrap_err();
        assert!(error.causes[0].contains("ssh said: ") && error.causes[0].contains("refused"), "{error:?}");
    }
}

#[test]
fn without_a_daemon_all_that_was_tried_is_told_with_its_reason() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join(".rd")).unwrap();
    drop(UnixListener::bind(home.path().join(".rd/docker.sock")).unwrap());
    let find::Wanted::Any(sockets) = wanted(home.path(), &[]).unwrap() else { panic!() };
    // A daemon of this machine would answer.
    let mine = sockets.into_iter().filter(|socket| socket.starts_with(home.path())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(open::first(find::Wanted::Any(mine))).err().unwrap();
    assert_eq!((error.kind.code(), error.message.as_str()), (3, "there is no Docker daemon"));
    for expected in ["/docker.sock: not there", ".rd/docker.sock: nobody listens", "podman/podman.sock: not there"] {
        assert!(error.causes[0].contains(expected), "{error:?}");
    }
    assert!(error.hints[0].contains("DOCKER_HOST"), "{error:?}");
}

#[test]
fn whoever_may_not_use_a_socket_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let asked = std::thread::spawn(move || {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            // For root alone no file is closed: this thread becomes somebody else.
            let nobody = rustix::thread::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        } else {
            fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let named = find::Wanted::Named(Address::Unix(socket.clone()), "$DOCKER_HOST".to_owned());
        [find::Wanted::Any(vec![socket]), named].map(|wanted| runtime.block_on(open::first(wanted)).err().unwrap())
    });
    for error in asked.join().unwrap() {
        assert!(error.causes[0].contains("permission denied"), "{error:?}");
        assert!(error.hints[0].contains("usermod -aG docker"), "{error:?}");
    }
}

#[test]
fn a_daemon_behind_tls_is_reached_by_variables_and_by_contexts() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    certificates(&certs);
    let file = |name: &str| certs.join(name).display().to_string();
    let tls = ["--tlsverify", "--tlscacert", &file("ca.pem"), "--tlscert", &file("server.pem"), "--tlskey"];
    let Some(own) = Own::start(&[tls.as_slice(), &[&file("server-key.pem")]].concat(), None) else { return };
    let host = format!("tcp://{}", own.tcp);
    let host = host.as_str();
    let certs = certs.to_str().unwrap();
    let home = TempDir::new_in(dir.path()).unwrap();
    let home = home.path();

    let secured = [("DOCKER_HOST", host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", certs)];
    let daemon = connect(home, &secured).unwrap();
    assert_eq!(daemon.to_string(), host);
    assert_eq!(daemon.platform(), crate::lock::platform());
    assert!(daemon.has_buildkit());
    assert!(daemon.capacity().memory.is_some_and(|memory| memory > 0));

    // Without the authority nobody vouches for the daemon; without a certificate it does not know us.
    let bare = dir.path().join("bare");
    fs::create_dir(&bare).unwrap();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(file(name), bare.join(name)).unwrap();
    }
    let unknown = [secured[0], secured[1], ("DOCKER_CERT_PATH", bare.to_str().unwrap())];
    let error = connect(home, &unknown).unwrap_err();
    assert!(error.causes[0].contains("UnknownIssuer"), "{error:?}");
    connect(home, &[secured[0], ("DOCKER_TLS", "1"), unknown[2]]).unwrap();
    let error = connect(home, &[secured[0], ("DOCKER_TLS", "1"), ("DOCKER_CERT_PATH", home.to_str().unwrap())]);
    let error = error.unwrap_err();
    assert!(error.causes[0].contains("BadCertificate") && error.hints[0].contains("cert.pem"), "{error:?}");
    let error = connect(home, &[secured[0]]).unwrap_err();
    assert!(error.causes[0].contains("HTTP request to an HTTPS server"), "{error:?}");
    assert!(error.hints[0].contains("DOCKER_TLS_VERIFY=1"), "{error:?}");

    let material = context(home, "secured", host, false);
    fs::create_dir_all(&material).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(file(name), material.join(name)).unwrap();
    }
    connect(home, &[("DOCKER_CONTEXT", "secured")]).unwrap();
    let material = context(home, "unverified", host, true);
    fs::create_dir_all(&material).unwrap();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(file(name), material.join(name)).unwrap();
    }
    connect(home, &[("DOCKER_CONTEXT", "unverified")]).unwrap();
}

#[test]
fn whether_files_are_shared_is_tried() {
    let seen = tempfile::tempdir().unwrap();
    let hidden = tempfile::tempdir().unwrap();
    let Some(own) = Own::start(&[], Some(hidden.path())) else { return };
    for store in [&seen, &hidden] {
        fs::create_dir(store.path().join("tmp")).unwrap();
    }
    own.import("mlctl-test-empty");
    let home = tempfile::tempdir().unwrap();
    let daemon = connect(home.path(), &[("DOCKER_HOST", &format!("unix://{}", own.socket.display()))]).unwrap();
    for _ in 0..2 {
        assert!(daemon.shares_files(seen.path(), "mlctl-test-empty").unwrap());
        assert!(!daemon.shares_files(hidden.path(), "mlctl-test-empty").unwrap());
    }
    for dir in [&seen, &hidden] {
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "a probe leaves nothing behind");
    }
    fs::create_dir(home.path().join("tmp")).unwrap();
    let error = daemon.shares_files(home.path(), "mlctl-test-missing").unwrap_err();
    assert!(error.causes[0].contains("No such image"), "{error:?}");
    let containers = daemon.block_on(
        daemon
            .client()
            .list_containers(Some(bollard::query_parameters::ListContainersOptionsBuilder::new().all(true).build())),
    );
    assert_eq!(containers.unwrap().len(), 0, "a probe leaves nothing behind");
}
