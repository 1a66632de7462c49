//! What a build may read and nobody may see afterwards.

use std::fs;
use std::process::{Command, Stdio};

use super::super::{cli, docker};
use super::{Tools, USUAL, inside, text};
use crate::support::{Start, mlctl};

const SECRET: &str = "hunter2-of-the-build";

#[test]
fn a_secret_is_read_and_is_nowhere_afterwards() {
    if !docker() {
        return;
    }
    let dockerfile = "FROM busybox:1.35\n\
                      RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN && wc -c < /run/secrets/TOKEN > /made\n";
    let tools = Tools::new(&format!("{USUAL}, secrets = [\"TOKEN\"]"), dockerfile);
    let without = tools.project.run(&["build"]);
    assert_eq!(without.code, 3, "{without:?}");
    assert!(without.stderr.contains("the environment `tools` needs the secret `TOKEN`"), "{without:?}");
    let config = tools.project.home().join(".config/mlctl");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "[contexts.local]\nsecrets.TOKEN = { env = \"OURS\" }\n").unwrap();
    let mut build = tools.project.command(mlctl());
    let ended = build.env("OURS", SECRET).args(["build", "--no-cache", "-v", "-o", "json"]).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("***") && !ended.stderr.contains(SECRET), "printed by the build: {ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let id = text(&report[0], "id");
    assert_eq!(inside(id, &["cat", "/made"]), SECRET.len().to_string());
    for look in [&["history", "--no-trunc", id][..], &["image", "inspect", id]] {
        assert!(!cli(look).contains(SECRET), "{look:?}");
    }
    let saved = Command::new("sh").args(["-c", &format!("docker save {id} | grep -c {SECRET}")]).ended();
    assert_eq!(saved.stdout.trim(), "0", "in a layer");
    // Another value is the same image: the key has names.
    let mut again = tools.project.command(mlctl());
    let ended = again.env("OURS", "another").args(["build"]).ended();
    assert!(ended.stdout.contains("unchanged"), "{ended:?}");
    // One that stands in ordinary words cannot be hidden.
    let mut short = tools.project.command(mlctl());
    let ended = short.env("OURS", "cat").args(["build", "--no-cache", "-v"]).ended();
    assert!(ended.stderr.contains("warning: the secret `TOKEN` is too short to be taken out of logs"), "{ended:?}");
    assert!(!ended.stderr.contains("***"), "{ended:?}");
    // Nobody needs it where the image is.
    assert!(tools.project.run(&["build"]).stdout.contains("unchanged"));
    fs::remove_dir_all(tools.project.store().join("images")).unwrap();
    fs::remove_dir_all(tools.project.store().join("daemons")).unwrap();
    assert!(tools.project.run(&["build"]).stdout.contains("unchanged"));
    // What fails prints its log: without.
    tools.project.write("Dockerfile", &dockerfile.replace("wc -c", "nothing"));
    let ended = tools.project.command(mlctl()).env("OURS", SECRET).args(["build"]).ended();
    assert!(ended.code == 1 && ended.stderr.contains("***") && !ended.stderr.contains(SECRET), "{ended:?}");
}

#[test]
fn an_undeclared_secret_and_an_agent_that_is_not_there_are_said() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN --mount=type=secret,id=NO,required true\n");
    let ended = tools.project.run(&["build"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("declares no secret `NO`") && ended.stderr.contains("Dockerfile:2:1"), "{ended:?}");
    let tools = Tools::new(&format!("{USUAL}, ssh = true"), "FROM busybox:1.35\nRUN --mount=type=ssh true\n");
    let ended = tools.project.run(&["build"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("SSH_AUTH_SOCK"), "{ended:?}");
}

#[test]
fn the_users_ssh_agent_answers_in_the_build() {
    if !docker() {
        return;
    }
    let have =
        |program: &str| Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !have("ssh-agent") || !have("python3") {
        return crate::support::skip("no ssh-agent here");
    }
    // Asks the agent for its keys and tells the kind of its answer: 12 is a list.
    let ask = "import os,socket; s=socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK']); \
               s.sendall(b'\\\\0\\\\0\\\\0\\\\1\\\\13'); open('/made','w').write(str(s.recv(99)[4]))";
    let dockerfile = format!("FROM python:3.11-slim\nRUN --mount=type=ssh,required python3 -c \"{ask}\"\n");
    let tools = Tools::new(&format!("{USUAL}, ssh = true"), &dockerfile);
    let socket = tools.project.home().join("agent");
    let agent = Command::new("ssh-agent").arg("-a").arg(&socket).ended();
    let pid = agent.stdout.split("SSH_AGENT_PID=").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
    let ended = tools.project.command(mlctl()).env("SSH_AUTH_SOCK", &socket).args(["build", "-o", "json"]).ended();
    Command::new("kill").arg(&pid).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(inside(text(&report[0], "id"), &["cat", "/made"]), "12");
}

#[test]
fn what_the_classic_builder_cannot_do_is_refused() {
    if !docker() {
        return;
    }
    let classic = |tools: &Tools| tools.project.command(mlctl()).env("DOCKER_BUILDKIT", "0").arg("build").ended();
    let tools = Tools::new(&format!("{USUAL}, ssh = true"), "FROM busybox:1.35\n");
    let ended = classic(&tools);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("uses your ssh agent, for which it takes BuildKit"), "{ended:?}");
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN --mount=type=cache,target=/x true\n");
    let ended = classic(&tools);
    assert!(ended.stderr.contains("Dockerfile:2") && ended.stderr.contains("BuildKit"), "{ended:?}");
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN echo \"it said\" && exit 3\n");
    let ended = classic(&tools);
    assert_eq!(ended.code, 1, "{ended:?}");
    for part in ["exit code 3", "Dockerfile:2:1", "it said"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
}
