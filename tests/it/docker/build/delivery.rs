//! Images for others: pushed, found in the registry, baked.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::super::credentials::Registry;
use super::super::{cli, docker};
use super::{Tools, USUAL, text};
use crate::support::{Start, mlctl};

#[test]
fn a_team_builds_once() {
    if !docker() {
        return;
    }
    if Command::new("docker-registry").arg("--version").output().is_err() {
        return crate::support::skip("no docker-registry here");
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), &[]);
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN date +%s%N > /made\n");
    let config = tools.project.home().join(".config/mlctl");
    fs::create_dir_all(&config).unwrap();
    let without = tools.project.run(&["build", "--push"]);
    assert_eq!(without.code, 2, "{without:?}");
    assert!(without.stderr.contains("names no registry"), "{without:?}");
    fs::write(config.join("config.toml"), format!("[contexts.local]\nregistry = \"{}/acme\"\n", registry.address))
        .unwrap();
    // What only a project names may be anybody's.
    let spec = fs::read_to_string(tools.project.root().join("mlctl.toml")).unwrap();
    let theirs = format!("\n[contexts.theirs]\nregistry = \"{}/theirs\"\n", registry.address);
    tools.project.write("mlctl.toml", &(spec + &theirs));
    let ended = tools.project.run(&["build", "--push", "--context", "theirs"]);
    assert!(ended.code == 3 && ended.stderr.contains("MLCTL_TRUST_PROJECT"), "{ended:?}");
    let pushed = tools.build(&["--push"]);
    assert_eq!(text(&pushed, "status"), "built");
    let reference = text(&pushed, "reference").to_owned();
    assert!(reference.starts_with(&format!("{}/acme/mlctl/{}-tools:", registry.address, tools.name)), "{reference}");
    assert!(text(&pushed, "digest").starts_with("sha256:"), "{pushed}");
    let again = tools.build(&["--push"]);
    assert_eq!((text(&again, "status"), &again["digest"]), ("unchanged", &pushed["digest"]));
    // Somebody else, whose daemon has no such image.
    let local = reference.split_once("/acme/").unwrap().1;
    cli(&["rmi", "-f", &reference, local]);
    let nothing = tools.build(&["--push"]);
    assert_eq!((text(&nothing, "status"), &nothing["id"]), ("unchanged", &Value::Null), "neither built nor pulled");
    let pulled = tools.build(&[]);
    assert_eq!((text(&pulled, "status"), &pulled["id"]), ("pulled", &pushed["id"]));
    // A registry that does not answer keeps nobody from building.
    drop(registry);
    cli(&["rmi", "-f", &reference, local]);
    let ended = tools.project.run(&["build", "--no-cache"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    tools.project.write("Dockerfile", "FROM busybox:1.35\nRUN echo other > /made\n");
    let ended = tools.project.run(&["build"]);
    assert!(ended.code == 0 && ended.stderr.contains("warning: building `tools` here"), "{ended:?}");
    let ended = tools.project.run(&["build", "--push"]);
    assert_eq!(ended.code, 3, "{ended:?}");
}

#[test]
fn a_baked_image_runs_a_step_by_itself() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nENV FROM_IMAGE=yes\nRUN echo made > /made\n");
    let spec = fs::read_to_string(tools.project.root().join("mlctl.toml")).unwrap();
    let step = "\n[params]\nwho = \"nobody\"\n\n[steps.b]\nenvironment = \"tools\"\nparams = [\"who\"]\noutputs.o = { export = \"out/o\" }\n\
                script = \"cat /made source > \\\"$MLCTL_OUTPUT_O\\\"; echo $MLCTL_PARAM_WHO $FROM_IMAGE >> \\\"$MLCTL_OUTPUT_O\\\"\"\n";
    tools.project.write("mlctl.toml", &(spec + step));
    tools.project.write("source", "the source\n");
    tools.project.write(".gitignore", "ignored\n");
    tools.project.write("ignored", "x");
    let report = tools.build(&["--bake"]);
    let id = text(&report, "id");
    let out = tools.project.home().join("out");
    fs::create_dir_all(&out).unwrap();
    let mount = format!("{}:/opt/mlctl/project/out", out.display());
    let run = |arguments: &[&str]| {
        let all = [&["run", "--rm", "--network", "none", "-v", &mount, id], arguments].concat();
        Command::new("docker").args(all).ended()
    };
    let ended = run(&["b", "-p", "who=me"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(fs::read_to_string(out.join("o")).unwrap(), "made\nthe source\nme yes\n");
    assert_eq!(run(&["nothing"]).code, 2);
    let ended =
        cli(&["run", "--rm", "--network", "none", "--user", "4242:4243", id, "b", "-p", "who=you", "-o", "json"]);
    assert!(ended.contains("\"succeeded\""), "any user may: {ended}");
    let files = cli(&["run", "--rm", "--entrypoint", "ls", id, "-A", "/opt/mlctl/project"]);
    assert_eq!(files, ".dockerignore\nDockerfile\nmlctl.toml\nsource");
    assert_eq!(text(&tools.build(&["--bake"]), "status"), "unchanged");
    tools.project.write("source", "another\n");
    let changed = tools.build(&["--bake"]);
    assert_eq!(text(&changed, "status"), "built");
    assert_eq!(text(&tools.build(&[]), "status"), "unchanged", "the environment is as it was");
    let ended = tools.project.command(mlctl()).args(["build", "--bake", "--platform", "linux/s390x"]).ended();
    assert_ne!(ended.code, 0, "{ended:?}");
}
