//! What killed runs leave in the daemon.

use rustix::process::Signal;

use super::{cli, docker};
use crate::support::{Project, Start, mlctl};

const SPEC: &str = r#"
[project]
name = "leftovers"

[steps.waits]
script = "sleep 600"

[steps.short]
script = "true"
"#;

/// The containers of a store.
fn containers(project: &Project) -> Vec<String> {
    let label = format!("label=dev.mlctl.store={}", project.store().display());
    cli(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label]).lines().map(str::to_owned).collect()
}

fn container(labels: &[String]) -> String {
    let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label.as_str()]).collect();
    cli(&[&["create"], labels.as_slice(), &["busybox:1.35", "true"]].concat())
}

#[test]
fn containers_of_killed_runs_go_with_the_next_run_or_gc() {
    if !docker() {
        return;
    }
    let project = Project::new(SPEC);
    let store = format!("dev.mlctl.store={}", project.store().display());
    // Of another store, and the user's own.
    let others = [
        container(&[format!("{store}-other"), "dev.mlctl.run=dead".to_owned()]),
        container(&["dev.mlctl.run=dead".to_owned()]),
    ];
    let run = ["run", "--context", "docker", "waits"];
    let killed = project.command(mlctl()).args(run).start();
    while containers(&project).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // It lives: nothing of it is left over.
    assert_eq!(project.json(&["gc", "--dry-run"])["containers"], 0);
    project.ok(&["run", "--context", "docker", "short"]);
    assert_eq!(containers(&project).len(), 1);

    killed.signal(Signal::KILL);
    killed.end();
    assert_eq!(project.json(&["gc", "--dry-run"])["containers"], 1);
    assert!(project.ok(&["gc", "--dry-run"]).contains("; 1 container"), "it is told");
    assert_eq!(containers(&project).len(), 1, "a dry run removes nothing");
    assert_eq!(project.json(&["gc"])["containers"], 1);
    assert_eq!(containers(&project).len(), 0);

    container(&[store, "dev.mlctl.run=dead".to_owned()]);
    project.ok(&["run", "--context", "docker", "--force", "short", "short"]);
    assert_eq!(containers(&project).len(), 0);
    for other in &others {
        cli(&["rm", other]);
    }
}

#[test]
fn without_a_daemon_gc_says_nothing_of_it() {
    let project = Project::new(SPEC);
    let gone = format!("unix://{}", project.home().join("gone.sock").display());
    let ended = project.command(mlctl()).arg("gc").env("DOCKER_HOST", gone).ended();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(!ended.stdout.contains("container"), "{}", ended.stdout);
}

#[test]
fn images_that_nobody_used_for_long_go_unless_somebody_has_them() {
    if !docker() {
        return;
    }
    let spec = "[project]\nname = \"gc-images\"\n[environments.tool]\nbuild = { dockerfile = \"Dockerfile\" }\n\
                [steps.x]\nenvironment = \"tool\"\nscript = \"true\"\n";
    let project = Project::new(spec);
    let nonce = project.store().display().to_string();
    project.write("Dockerfile", &format!("FROM busybox:1.35\nENV NONCE={nonce}\n"));
    let image = |what: &[&str]| project.json(&[&["build"], what].concat())[0]["reference"].as_str().unwrap().to_owned();
    let name = image(&[]);
    let exists = || !cli(&["images", "--quiet", &name]).is_empty();
    let gc = |options: &[&str]| project.json(&[&["gc"], options].concat())["images"].as_u64().unwrap();

    gc(&[]);
    assert!(exists(), "it is new");
    let known = project.store().join("images").join(name.rsplit_once(':').unwrap().1);
    let age = || {
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(40 * 24 * 60 * 60);
        std::fs::File::options().append(true).open(&known).unwrap().set_modified(long_ago).unwrap();
    };
    age();
    assert!(gc(&["--dry-run"]) >= 1);
    assert!(project.ok(&["gc", "--dry-run"]).contains("of Docker"), "it is told");
    cli(&["tag", &name, "mlctl-test-kept:1"]);
    gc(&[]);
    assert!(exists(), "somebody gave it a name");
    cli(&["rmi", "mlctl-test-kept:1"]);
    let container = cli(&["create", &name, "true"]);
    gc(&[]);
    assert!(exists(), "somebody has a container of it");
    cli(&["rm", &container]);
    assert_eq!(image(&[]), name);
    gc(&[]);
    assert!(exists(), "it was just used");
    age();
    assert!(gc(&[]) >= 1);
    assert!(!exists() && !known.exists());
    assert_eq!(image(&[]), name);
    cli(&["rmi", &name]);
}
