//! What needs a Docker engine. Without one these tests say SKIPPED; with `MLCTL_TEST_DOCKER=1`, which CI sets, they fail
//! then. `tests/testbed/up` brings one up with the images that they use: `debian:bookworm-slim`, `python:3.11-slim`,
//! `busybox:1.35`. `DOCKER_HOST` points them at another.

use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Start, skip};

mod build;
mod connect;
mod contexts;
mod credentials;
mod faults;
mod images;
mod keys;
mod kind;
mod leftovers;
mod own;
mod proxy;
mod realisations;
mod steps;

/// Whether there is an engine to test with.
pub(crate) fn docker() -> bool {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let found = ANSWER.get_or_init(|| {
        let mut version = Command::new("docker");
        version.args(["version", "--format", "{{.Server.Version}}"]);
        if Command::new("docker").arg("--version").output().is_err() {
            return Err("there is no `docker` command".to_owned());
        }
        let ended = version.ended();
        if ended.code == 0 { Ok(()) } else { Err(ended.stderr.trim().to_owned()) }
    });
    let wanted = std::env::var_os("MLCTL_TEST_DOCKER").is_some_and(|value| value == "1");
    match found {
        Ok(()) => true,
        Err(why) if wanted => panic!("MLCTL_TEST_DOCKER=1, but there is no Docker engine: {why}"),
        Err(why) => {
            skip(&format!("no Docker engine: {why}"));
            false
        }
    }
}

/// Runs the real Docker CLI, which must succeed, and gives what it printed, without white space around it.
pub(crate) fn cli(arguments: &[&str]) -> String {
    let ended = Command::new("docker").args(arguments).ended();
    assert_eq!(ended.code, 0, "docker {arguments:?}: {ended:?}");
    ended.stdout.trim().to_owned()
}

#[test]
fn the_images_that_tests_use_are_there() {
    if docker() {
        for image in ["debian:bookworm-slim", "python:3.11-slim", "busybox:1.35"] {
            cli(&["image", "inspect", "--format", "{{.Id}}", image]);
        }
    }
}
