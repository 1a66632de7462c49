//! Against real registries, started by the test bed.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bollard::query_parameters::{RemoveImageOptions, TagImageOptionsBuilder};
use tempfile::TempDir;

use super::*;
use crate::image::executor::Executor;

/// An image that the test bed's daemon has.
const IMAGE: &str = "busybox:1.35";
/// Characters whose base64 has those that its two alphabets write differently.
const PASSWORD: &str = "a?b>c~??>>~~";

/// A registry that ends with the test.
struct Registry {
    address: String,
    dir: TempDir,
    process: Child,
}

impl Registry {
    fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/registry");
        let mut command = Command::new(script);
        command.args(options).arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(!address.is_empty(), "the registry does not start");
        Self { address: address.trim().to_owned(), dir, process }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The daemon, unless there is none to test with.
fn daemon() -> Option<Arc<Daemon>> {
    match Daemon::connect() {
        Ok(daemon) => Some(daemon),
        Err(error) => {
            let wanted = std::env::var_os("MLCTL_TEST_DOCKER").is_some_and(|value| value == "1");
            assert!(!wanted, "MLCTL_TEST_DOCKER=1, but there is no Docker engine: {error}");
            eprintln!("SKIPPED: no Docker engine: {error}");
            None
        }
    }
}

/// A name for [`IMAGE`] that goes with the test.
struct Tagged<'a> {
    daemon: &'a Daemon,
    name: String,
}

impl<'a> Tagged<'a> {
    fn new(daemon: &'a Daemon, host: &str) -> Self {
        let repository = format!("{host}/mlctl-test/tool");
        let options = TagImageOptionsBuilder::new().repo(&repository).tag("1").build();
        daemon.block_on(daemon.client().tag_image(IMAGE, Some(options))).unwrap();
        Self { daemon, name: format!("{repository}:1") }
    }

    fn remove(&self) -> bool {
        let removing = self.daemon.client().remove_image(&self.name, None::<RemoveImageOptions>, None);
        self.daemon.block_on(removing).is_ok()
    }
}

impl Drop for Tagged<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Somebody who has never logged in.
fn stranger() -> User {
    User { config: None }
}

/// Somebody who has logged in.
fn user(dir: &Path, host: &str, password: &str) -> User {
    let config = dir.join("config.json");
    let auth = serde_json::json!({"username": "me", "password": password});
    let settings = serde_json::json!({"auths": {format!("https://{host}"): auth}});
    std::fs::write(&config, settings.to_string()).unwrap();
    User { config: Some(config) }
}

fn push(user: &User, image: &Tagged<'_>) -> Result<String, CommandError> {
    image.daemon.block_on(user.push(image.daemon, &image.name, &|_| {}))
}

fn pull(user: &User, image: &Tagged<'_>) -> Result<(), CommandError> {
    image.daemon.block_on(user.pull(image.daemon, &image.name, None, &|_| {}))
}

/// What an error says, all of it.
fn told(error: &CommandError) -> String {
    assert_eq!(error.kind.code(), 3, "{error:?}");
    format!("{error}; {}", error.hints.join("; "))
}

#[test]
fn what_is_pushed_is_known_by_its_digest_and_can_be_pulled() {
    let Some(daemon) = daemon() else { return };
    let registry = Registry::start(&[]);
    let image = Tagged::new(&daemon, &registry.address);
    let id = || daemon.block_on(daemon.client().inspect_image(&image.name)).unwrap().id.unwrap();
    let before = id();
    let resolve = |name: &str, fresh| stranger().resolve(&daemon, name, fresh);
    assert_eq!(resolve(&image.name, false).unwrap(), Resolved::Local(before.clone()));

    let digest = push(&stranger(), &image).unwrap();
    assert!(reference::is_digest(&digest), "{digest}");
    let known = Resolved::Registry(digest.clone());
    for fresh in [false, true] {
        assert_eq!(resolve(&image.name, fresh).unwrap(), known);
    }
    assert!(image.remove());
    assert_eq!(resolve(&image.name, false).unwrap(), known);
    pull(&stranger(), &image).unwrap();
    assert_eq!(id(), before);

    let other = image.name.replace(":1", ":2");
    assert!(told(&resolve(&other, false).unwrap_err()).contains("has no such image"));
    let missing = daemon.block_on(stranger().pull(&daemon, &other, None, &|_| {})).unwrap_err();
    assert!(told(&missing).contains("has no such image"), "{missing:?}");
    let never = daemon.block_on(stranger().push(&daemon, &other, &|_| {})).unwrap_err();
    assert!(told(&never).contains("no image of this name here"), "{never:?}");
    let pinned = format!("{}@{digest}", image.name.trim_end_matches(":1"));
    daemon.block_on(stranger().pull(&daemon, &pinned, None, &|_| {})).unwrap();
    // Both names are of one image: the digest goes with the last of them.
    let _ = daemon.block_on(daemon.client().remove_image(&pinned, None::<RemoveImageOptions>, None));
}

#[test]
fn a_registry_that_wants_to_know_who_asks_is_told() {
    let Some(daemon) = daemon() else { return };
    let registry = Registry::start(&["--auth", &format!("me:{PASSWORD}")]);
    let host = &registry.address;
    let image = Tagged::new(&daemon, host);
    let unknown = told(&push(&stranger(), &image).unwrap_err());
    assert!(unknown.contains(&format!("docker login {host}")), "{unknown}");
    assert!(!unknown.contains("refuses your credentials"), "{unknown}");

    let dir = tempfile::tempdir().unwrap();
    let wrong = told(&push(&user(dir.path(), host, "hunter2"), &image).unwrap_err());
    assert!(wrong.contains("refuses your credentials") && !wrong.contains("hunter2"), "{wrong}");

    let me = user(dir.path(), host, PASSWORD);
    let digest = push(&me, &image).unwrap();
    assert!(image.remove());
    let unknown = told(&stranger().resolve(&daemon, &image.name, false).unwrap_err());
    assert!(unknown.contains("docker login"), "{unknown}");
    assert_eq!(me.resolve(&daemon, &image.name, false).unwrap(), Resolved::Registry(digest));
    assert!(told(&pull(&stranger(), &image).unwrap_err()).contains("docker login"));
    pull(&me, &image).unwrap();
}

#[test]
fn a_registry_of_an_unknown_authority_can_be_made_known() {
    let Some(daemon) = daemon() else { return };
    // Of the loopback interface Docker trusts everybody.
    let Some(here) = own_address() else { return };
    let plain = Registry::start(&["--at", &here]);
    let image = Tagged::new(&daemon, &plain.address);
    let error = told(&push(&stranger(), &image).unwrap_err());
    assert!(error.contains("insecure-registries"), "{error}");

    let registry = Registry::start(&["--tls", "--at", &here]);
    let image = Tagged::new(&daemon, &registry.address);
    let error = told(&push(&stranger(), &image).unwrap_err());
    let place = format!("/etc/docker/certs.d/{}", registry.address);
    assert!(error.contains(&format!("{place}/ca.crt")), "{error}");
    if std::fs::create_dir_all(&place).is_err() {
        eprintln!("SKIPPED: only root can make an authority known to the daemon");
        return;
    }
    std::fs::copy(registry.dir.path().join("ca.pem"), format!("{place}/ca.crt")).unwrap();
    let pushed = push(&stranger(), &image);
    std::fs::remove_dir_all(&place).unwrap();
    // The user's own stay.
    let _ = std::fs::remove_dir("/etc/docker/certs.d");
    assert!(reference::is_digest(&pushed.unwrap()));
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let Some(daemon) = daemon() else { return };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let image = Tagged::new(&daemon, &free.to_string());
    assert!(told(&push(&stranger(), &image).unwrap_err()).contains(&format!("`{free}` does not answer")));
    assert!(image.remove());
    assert!(told(&stranger().resolve(&daemon, &image.name, false).unwrap_err()).contains("does not answer"));
    let image = Tagged::new(&daemon, "registry.invalid");
    let error = told(&push(&stranger(), &image).unwrap_err());
    assert!(error.contains("there is no host `registry.invalid`"), "{error}");
}

#[test]
fn a_connection_that_drops_is_tried_again() {
    let Some(daemon) = daemon() else { return };
    let registry = Registry::start(&[]);
    let manifests = Arc::new(AtomicUsize::new(0));
    let address = proxy(registry.address.clone(), Arc::clone(&manifests));
    let image = Tagged::new(&daemon, &address);
    let told = std::cell::RefCell::new(Vec::new());
    let digest =
        daemon.block_on(stranger().push(&daemon, &image.name, &|text| told.borrow_mut().push(text.to_owned())));
    let told = told.into_inner();
    assert!(reference::is_digest(&digest.unwrap()));
    assert_eq!(manifests.load(Ordering::SeqCst), 2, "once dropped, once passed on");
    assert!(told.iter().any(|text| text.contains("trying again (2 of 3)")), "{told:?}");
}

/// An image that mlctl wrote, of a program of a few bytes.
fn executor(dir: &Path) -> Executor {
    let program = dir.join("program");
    std::fs::write(&program, vec![b'x'; 3 << 20]).unwrap();
    Executor::of_program(dir, &program, "linux-x86_64").unwrap()
}

/// Pushes it without a daemon: how many bytes were sent.
fn push_own(user: &User, image: &Executor, host: &str, ca: Option<&Path>) -> Result<u64, CommandError> {
    let name = format!("{host}/{}", image.name());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(user.push_executor(image, &name, ca, &|_| {}))
}

#[test]
fn an_image_of_mlctls_own_needs_no_daemon() {
    let registry = Registry::start(&["--auth", &format!("me:{PASSWORD}")]);
    let (host, dir) = (&registry.address, tempfile::tempdir().unwrap());
    let image = executor(dir.path());
    let error = told(&push_own(&stranger(), &image, host, None).unwrap_err());
    assert!(error.contains(&format!("docker login {host}")), "{error}");
    let error = told(&push_own(&user(dir.path(), host, "hunter2"), &image, host, None).unwrap_err());
    assert!(error.contains("refuses your credentials") && !error.contains("hunter2"), "{error}");
    let me = user(dir.path(), host, PASSWORD);
    let sent = push_own(&me, &image, host, None).unwrap();
    assert!(sent > image.layer.size && sent < image.layer.size + 2048, "{sent}");
    assert_eq!(push_own(&me, &image, host, None).unwrap(), 0, "what is there is not sent again");

    // It is an image as others are.
    let Some(daemon) = daemon() else { return };
    let name = format!("{host}/{}", image.name());
    daemon.block_on(me.pull(&daemon, &name, None, &|_| {})).unwrap();
    let found = daemon.block_on(daemon.client().inspect_image(&name)).unwrap();
    assert_eq!(found.config.unwrap().entrypoint.unwrap(), ["/mlctl-exec"]);
    assert_eq!(found.root_fs.unwrap().layers.unwrap(), std::slice::from_ref(&image.layer.digest));
    daemon.block_on(daemon.client().remove_image(&name, None::<RemoveImageOptions>, None)).unwrap();
}

#[test]
fn an_authority_is_trusted_that_the_context_names() {
    let dir = tempfile::tempdir().unwrap();
    let image = executor(dir.path());
    // As Docker does, whoever signed it is trusted on the loopback interface.
    let registry = Registry::start(&["--tls"]);
    assert!(push_own(&stranger(), &image, &registry.address, None).unwrap() > 0);
    let Some(here) = own_address() else { return };
    let registry = Registry::start(&["--tls", "--at", &here]);
    let error = told(&push_own(&stranger(), &image, &registry.address, None).unwrap_err());
    assert!(error.contains("`ca` in the context"), "{error}");
    let ca = registry.dir.path().join("ca.pem");
    assert!(push_own(&stranger(), &image, &registry.address, Some(&ca)).unwrap() > 0);
}

#[test]
fn what_breaks_an_upload_is_told_or_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let image = executor(dir.path());
    let registry = Registry::start(&[]);
    let manifests = Arc::new(AtomicUsize::new(0));
    let address = proxy(registry.address.clone(), Arc::clone(&manifests));
    assert!(push_own(&stranger(), &image, &address, None).is_ok());
    assert_eq!(manifests.load(Ordering::SeqCst), 2, "once dropped, once passed on");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = told(&push_own(&stranger(), &image, &free.to_string(), None).unwrap_err());
    assert!(error.contains("does not answer"), "{error}");
    let error = told(&push_own(&stranger(), &image, "registry.invalid", None).unwrap_err());
    assert!(error.contains("there is no host"), "{error}");
    let registry = Registry::start(&["--read-only"]);
    let error = told(&push_own(&stranger(), &image, &registry.address, None).unwrap_err());
    assert!(error.contains("cannot push") && error.contains("405"), "{error}");
}

/// An address of this machine that is not of the loopback interface. No packet is sent: it is only asked which way it
/// would go.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let here = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let here = here.ok().map(|here| here.ip().to_string()).filter(|here| !here.starts_with("127."));
    if here.is_none() {
        eprintln!("SKIPPED: this machine has no address but those of the loopback interface");
    }
    here
}

/// Passes everything on to `target`, but drops the connection that is about to say the first manifest.
fn proxy(target: String, manifests: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { return };
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let manifests = Arc::clone(&manifests);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || forward(client, server, &manifests));
        }
    });
    address
}

fn forward(mut client: TcpStream, mut server: TcpStream, manifests: &AtomicUsize) {
    let mut buffer = [0; 65536];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let said = String::from_utf8_lossy(&buffer[..read]);
        let manifest = said.starts_with("PUT ") && said.contains("/manifests/");
        if manifest && manifests.fetch_add(1, Ordering::SeqCst) == 0 {
            break;
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
