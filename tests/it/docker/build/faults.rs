//! Builds that fail: each is shown where it is at fault.

use std::process::Command;

use rustix::process::Signal;

use super::super::docker;
use super::{Tools, USUAL};
use crate::faults::until;
use crate::support::{Start, mlctl};

/// Builds this Dockerfile, which must fail.
fn failed(dockerfile: &str, code: i32, parts: &[&str]) {
    let tools = Tools::new(USUAL, dockerfile);
    let ended = tools.project.run(&["build"]);
    assert_eq!(ended.code, code, "{dockerfile}: {ended:?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
}

#[test]
fn a_dockerfile_with_an_error_is_shown_with_its_line() {
    if !docker() {
        return;
    }
    failed("FROM busybox:1.35\n\n# why\nRUNN x\n", 2, &["unknown instruction: RUNN", "Dockerfile:4:1", "4 | RUNN x"]);
    failed("FROM busybox:1.35\nCOPY --link a b\n", 2, &["Dockerfile:2:1", "# syntax="]);
    let frontend = "# syntax=localhost:9/none:1\nFROM busybox:1.35\n";
    failed(frontend, 3, &["Dockerfile:1:1", "`localhost:9/none:1` cannot be had", "it is what `# syntax=` asks for"]);
    failed("FROM busybox:1.35\nCOPY nosuch /x\n", 2, &["`nosuch` is not in the build context", "Dockerfile:2:1"]);
    failed("FROM busybox:1.35\nCOPY mlctl.toml /x\n", 2, &["Dockerfile:2:1", ".dockerignore leaves it out"]);
    failed("FROM localhost:1/nosuch:1\n", 3, &["`localhost:1/nosuch:1` cannot be had", "Dockerfile:1:1", "is it up"]);
}

#[test]
fn a_step_that_fails_is_shown_with_all_that_it_printed() {
    if !docker() {
        return;
    }
    let dockerfile =
        "FROM busybox:1.35\nRUN true\nRUN seq 1 300 && \\\n    printf '\\033[2Jodd\\r\\n' && \\\n    exit 7\n";
    failed(dockerfile, 1, &["exit code 7", "Dockerfile:3:1", "\n           1\n           2\n", "           300\n"]);
    let tools = Tools::new(USUAL, dockerfile);
    let ended = tools.project.run(&["build", "-q"]);
    assert!(ended.stderr.contains("odd") && !ended.stderr.contains('\x1b'), "{ended:?}");
}

#[test]
fn what_a_description_asks_for_and_is_not_there_is_named() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\n");
    let spec = |environment: &str| {
        format!(
            "[project]\nname = \"{}\"\n[environments.e]\n{environment}\n[steps.a]\ncommand = [\"true\"]\nenvironment = \"e\"\n",
            tools.name
        )
    };
    // A base image without any.
    let python = "python = \"3.11\"\n[project.base-images]\npython = \"debian:bookworm-slim\"";
    tools.project.write("mlctl.toml", &spec(python));
    let ended = tools.project.run(&["build"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("environment `e`") && ended.stderr.contains("base-images.python"), "{ended:?}");
    assert!(ended.stderr.contains("python3: not found"), "{ended:?}");
}

#[test]
fn interrupted_it_ends_in_the_daemon_too_and_nothing_has_the_tag() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN echo begun; sleep 313\nRUN true\n");
    let running = tools.project.command(mlctl()).args(["build", "-v"]).start();
    let sleeps = || Command::new("pgrep").args(["-fx", "sleep 313"]).ended().code == 0;
    until("the step runs", sleeps);
    running.signal(Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, 130, "{ended:?}");
    until("the step is ended", || !sleeps());
    let images = Command::new("docker").args(["images", "-q", &format!("mlctl/{}-tools", tools.name)]).ended();
    assert_eq!(images.stdout, "");
    // The next one is not kept waiting.
    tools.project.write("Dockerfile", "FROM busybox:1.35\nRUN echo done > /made\n");
    assert_eq!(super::text(&tools.build(&[]), "status"), "built");
}
