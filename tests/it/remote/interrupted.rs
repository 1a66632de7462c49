//! Transfers that are cut off, and go on.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::faults::{LARGE, behind};
use super::proxy::Proxy;
use super::{Machine, Server, files_below};
use crate::support::{LIMIT, Running, Start};

const PART: u64 = 8 << 20;
/// More parts than travel at a time.
const MANY_PARTS: u64 = 20 * PART;

/// Waits until something is so, while a transfer goes on.
fn until(moving: &mut Running, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(!moving.is_over() && started.elapsed() < LIMIT, "the transfer ended too early, or did not come so far");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of the journal of the only transfer in `directory`.
fn lines(machine: &Machine, directory: &str) -> usize {
    let journals = files_below(&machine.project.store().join("remotes"));
    let is_journal = |path: &&std::path::PathBuf| {
        path.parent().unwrap().ends_with(directory) && (directory == "uploads" || path.extension().is_some())
    };
    journals.iter().find(is_journal).map_or(0, |path| fs::read_to_string(path).unwrap_or_default().lines().count())
}

/// The parts that a push has sent.
fn sent(machine: &Machine) -> usize {
    // The first line is the upload itself.
    lines(machine, "uploads").saturating_sub(1)
}

/// The parts that a pull has fetched.
fn come(machine: &Machine) -> usize {
    lines(machine, "downloads")
}

fn start(machine: &Machine, direction: &str) -> Running {
    machine.command(&["sync", "--context", "cloud", direction]).start()
}

/// Starts a transfer over a slow network, and kills it once two parts have been moved. Gives how many had been.
fn cut_off(proxy: &Proxy, machine: &Machine, direction: &str, moved: fn(&Machine) -> usize) -> u64 {
    proxy.rules.rate.store(8_000_000, Ordering::Relaxed);
    let mut moving = start(machine, direction);
    until(&mut moving, || moved(machine) >= 2);
    moving.signal(Signal::KILL);
    moving.end();
    proxy.rules.rate.store(0, Ordering::Relaxed);
    moved(machine) as u64
}

#[test]
fn a_push_that_was_killed_is_gone_on_with() {
    let Some(server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 100, LARGE);
    let parts = cut_off(&proxy, &one, "--push", sent);
    proxy.rules.parts.store(0, Ordering::Relaxed);
    one.sync(&["--push"]);
    let all = LARGE.div_ceil(PART);
    assert_eq!(proxy.rules.parts.load(Ordering::Relaxed), all - parts, "of {all} parts {parts} had been sent");
    assert_eq!(files_below(&one.state().join("uploads")), [""; 0].map(std::path::PathBuf::from));
    two.sync(&["--pull"]);
    assert_eq!(two.would_run(), "");
}

#[test]
fn a_pull_that_was_killed_is_gone_on_with() {
    let Some(server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, LARGE);
    one.sync(&["--push"]);
    let parts = cut_off(&proxy, &two, "--pull", come);
    proxy.rules.down.store(0, Ordering::Relaxed);
    two.sync(&["--pull"]);
    let (fetched, rest) = (proxy.rules.down.load(Ordering::Relaxed), LARGE.saturating_sub(parts * PART));
    assert!((rest..rest + 1_000_000).contains(&fetched), "{fetched} bytes, of {LARGE} {parts} parts had come");
    assert_eq!(files_below(&two.state().join("downloads")), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(two.would_run(), "");
}

#[test]
fn what_became_of_a_part_after_it_came_is_seen() {
    let Some(server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, LARGE);
    one.sync(&["--push"]);
    cut_off(&proxy, &two, "--pull", come);
    // As a loss of power leaves it: written down as come, but never on disk.
    let come = files_below(&two.state().join("downloads"));
    let file = come.iter().find(|path| path.extension().is_none()).unwrap();
    fs::write(file, vec![0; LARGE as usize]).unwrap();
    two.sync(&["--pull"]);
    assert_eq!(two.would_run(), "");
    two.project.ok(&["artifacts", "get", "make.big", "-d", "big", "--run", &super::run(&two)]);
    assert!(fs::read(two.project.root().join("big")).unwrap().iter().all(|byte| *byte == b'x'));
}

#[test]
fn an_upload_that_the_server_forgot_begins_anew() {
    let Some(mut server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, LARGE);
    cut_off(&proxy, &one, "--push", sent);
    server.stop();
    // Where it keeps the parts.
    fs::remove_dir_all(server.data().join(".sgwtmp")).unwrap();
    server.restart();
    one.sync(&["--push"]);
    two.sync(&["--pull"]);
    assert_eq!(two.would_run(), "");
}

#[test]
fn a_server_that_is_started_again_costs_only_what_was_on_its_way() {
    let Some(mut server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, MANY_PARTS);
    proxy.rules.waits.store(true, Ordering::Relaxed);
    for (machine, direction, moved) in [(&one, "--push", sent as fn(&Machine) -> usize), (&two, "--pull", come)] {
        proxy.rules.rate.store(8_000_000, Ordering::Relaxed);
        let mut moving = start(machine, direction);
        until(&mut moving, || moved(machine) >= 2);
        server.stop();
        server.restart();
        proxy.rules.rate.store(0, Ordering::Relaxed);
        let ended = moving.end();
        assert_eq!(ended.code, 0, "{direction}: {ended:?}");
    }
    let rules = &proxy.rules;
    let (parts, all) = (rules.parts.load(Ordering::Relaxed), MANY_PARTS / PART);
    assert!(parts <= all + 8, "{parts} parts were sent, of {all}");
    let down = rules.down.load(Ordering::Relaxed);
    assert!(down < MANY_PARTS + 8 * PART, "{down} bytes came, of {MANY_PARTS}");
    assert_eq!(two.would_run(), "");
}

#[test]
fn a_server_that_stays_away_is_unreachable_and_nothing_is_lost() {
    let Some(mut server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, LARGE);
    for (machine, direction) in [(&one, "push"), (&two, "pull")] {
        proxy.rules.rate.store(8_000_000, Ordering::Relaxed);
        let before = proxy.rules.up.load(Ordering::Relaxed) + proxy.rules.down.load(Ordering::Relaxed);
        let mut moving = start(machine, &format!("--{direction}"));
        let moved = || proxy.rules.up.load(Ordering::Relaxed) + proxy.rules.down.load(Ordering::Relaxed) - before;
        until(&mut moving, || moved() > 5_000_000);
        server.stop();
        let ended = moving.end();
        assert_eq!(ended.code, 3, "{ended:?}");
        let said = ended.stderr.contains(&format!("cannot {direction}")) && ended.stderr.contains("check the network");
        assert!(said, "{ended:?}");
        proxy.rules.rate.store(0, Ordering::Relaxed);
        server.restart();
        machine.sync(&[&format!("--{direction}")]);
    }
    assert_eq!(two.would_run(), "");
}

#[test]
fn credentials_are_renewed_and_that_they_cannot_be_is_said() {
    let Some(server) = Server::start() else { return };
    let (proxy, one, two) = behind(&server, 10, MANY_PARTS);
    let home = &one.project.home();
    // They always end in a minute: so they are asked for before each request.
    super::aws_cli(
        home,
        &format!(
            r#"cd {0} && echo >> asked && if [ -e expired ]; then echo 'The SSO session has expired' >&2; exit 255; fi
        end=$(date -u -d '+1 minute' +%FT%TZ)
        echo "{{\"AccessKeyId\": \"testbed\", \"SecretAccessKey\": \"testbed-secret\", \"Expiration\": \"$end\"}}""#,
            home.display()
        ),
    );
    let push = || super::by_profile(one.command(&["sync", "--context", "cloud", "--push"]), home);
    proxy.rules.rate.store(8_000_000, Ordering::Relaxed);
    let mut pushing = push().start();
    until(&mut pushing, || sent(&one) >= 2);
    fs::write(home.join("expired"), "").unwrap();
    let ended = pushing.end();
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended.stderr.contains("The SSO session has expired") && ended.stderr.contains("aws sso login"),
        "{ended:?}"
    );
    let asked = fs::read_to_string(home.join("asked")).unwrap().lines().count();
    assert!(asked > 2, "{asked} times");
    fs::remove_file(home.join("expired")).unwrap();
    proxy.rules.rate.store(0, Ordering::Relaxed);
    let ended = push().ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    two.sync(&["--pull"]);
    assert_eq!(two.would_run(), "");
}
