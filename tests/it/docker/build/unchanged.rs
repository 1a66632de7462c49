//! What an environment costs that is as it was, and what must not be believed of what the store remembers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::docker;
use super::super::proxy::proxy;
use super::{Tools, USUAL, text};
use crate::support::{Start, mlctl};

/// A socket of the daemon where it is heard what is asked.
struct Ear {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Ear {
    fn listen(dir: &Path) -> Self {
        let ear = Self { socket: dir.join("ear.sock"), heard: Arc::default() };
        let heard = Arc::clone(&ear.heard);
        proxy(&ear.socket, move |asked| heard.lock().unwrap().extend_from_slice(asked));
        ear
    }

    /// The paths that `mlctl build` asks for, and what it reports.
    fn build(&self, tools: &Tools) -> (Vec<String>, serde_json::Value) {
        self.heard.lock().unwrap().clear();
        let mut command = tools.project.command(mlctl());
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).args(["build", "-o", "json"]);
        let ended = command.ended();
        assert_eq!(ended.code, 0, "{ended:?}");
        let heard = String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned();
        let requests = heard.lines().filter_map(|line| line.strip_suffix(" HTTP/1.1"));
        let paths = requests.filter_map(|line| line.split_once(' ')).map(|(_, path)| path.to_owned()).collect();
        let mut report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        (paths, report[0].take())
    }
}

fn asks(paths: &[String], what: &str) -> bool {
    paths.iter().any(|path| path.ends_with(what))
}

/// The store's note of what is at the socket.
fn note(tools: &Tools) -> PathBuf {
    let mut notes = fs::read_dir(tools.project.store().join("daemons")).unwrap();
    notes.next().unwrap().unwrap().path()
}

#[test]
fn of_what_is_unchanged_nothing_but_the_image_is_asked_until_the_socket_is_another_one() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN echo made > /made\n");
    let ear = Ear::listen(&tools.project.home());
    let (paths, built) = ear.build(&tools);
    assert_eq!(text(&built, "status"), "built");
    assert!(asks(&paths, "/version") && asks(&paths, "/info"), "{paths:?}");

    let (paths, again) = ear.build(&tools);
    assert_eq!((text(&again, "status"), &again["id"]), ("unchanged", &built["id"]));
    assert_eq!(paths.len(), 1, "{paths:?}");
    assert!(asks(&paths, &format!("/images/{}/json", text(&built, "reference"))), "{paths:?}");

    // What is to be built is built by a daemon that was asked.
    tools.project.write("Dockerfile", "FROM busybox:1.35\nRUN echo other > /made\n");
    let (paths, other) = ear.build(&tools);
    assert_eq!(text(&other, "status"), "built");
    assert!(asks(&paths, "/version") && asks(&paths, "/info"), "{paths:?}");

    // Another daemon may have come.
    fs::remove_file(&ear.socket).unwrap();
    let ear = Ear::listen(&tools.project.home());
    let (paths, again) = ear.build(&tools);
    assert_eq!((text(&again, "status"), &again["id"]), ("unchanged", &other["id"]));
    assert!(asks(&paths, "/version") && asks(&paths, "/info"), "{paths:?}");
    assert_eq!(ear.build(&tools).0.len(), 1);
}

#[test]
fn a_daemon_that_is_another_one_behind_its_socket_gives_what_it_has() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN echo made > /made\n");
    let built = tools.build(&[]);
    let was = fs::read_to_string(note(&tools)).unwrap();
    let stamp = was.lines().nth(1).unwrap();
    for remembered in ["linux-s390x", "linux", ""] {
        fs::write(note(&tools), format!("{remembered}\n{stamp}\n")).unwrap();
        let again = tools.build(&[]);
        assert_eq!((text(&again, "status"), &again["id"]), ("unchanged", &built["id"]), "{remembered}");
        assert_eq!(again["reference"], built["reference"], "{remembered}");
        assert_eq!(fs::read_to_string(note(&tools)).unwrap(), was, "it was asked");
    }
    for cut in [was.len() - 1, was.len() / 2, 3, 0] {
        fs::write(note(&tools), &was[..cut]).unwrap();
        assert_eq!(tools.build(&[])["reference"], built["reference"], "{cut}");
    }
}
