//! What a plan becomes on a cluster: `tests/manifests/<case>/` is a project and the manifest that `mlctl plan` prints for it.
//! `BLESS=1 cargo test --test it manifests` rewrites the manifests.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::support::{Ended, Project, Start, mlctl};

/// Stands in the cases for the store of whoever runs them.
const STORE: &str = "/srv/mlctl";

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut cases: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn manifest(project: &Project) -> Ended {
    project.run(&["plan", "--context", "cluster", "--output", "manifest"])
}

/// Without what differs between machines and versions: the digests of the submission and the executor, the user.
fn steady(manifest: &str) -> String {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let submission = Regex::new("mlctl.dev/submission: \"?([0-9a-f]{64})").unwrap();
    let submission = submission.captures(manifest).expect("the submission's digest")[1].to_owned();
    let executor = Regex::new("mlctl/exec@sha256:([0-9a-f]{64})").unwrap();
    let executor = executor.captures(manifest).expect("the executor's image")[1].to_owned();
    manifest
        .replace(&submission, "SUBMISSION")
        .replace(&executor, "EXECUTOR")
        .replace(&format!("runAsUser: {user}\n"), "runAsUser: USER\n")
        .replace(&format!("runAsGroup: {group}\n"), "runAsGroup: GROUP\n")
}

#[test]
fn manifests_are_what_they_were() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let project = Project::copy_of(&case);
        // The nodes' directory is this machine's store.
        let spec = fs::read_to_string(project.root().join("mlctl.toml")).unwrap();
        let store = project.store().display().to_string();
        project.write("mlctl.toml", &spec.replace(STORE, &store));
        let ended = manifest(&project);
        assert_eq!(ended.code, 0, "{}: {}", case.display(), ended.stderr);
        assert_eq!(manifest(&project).stdout, ended.stdout, "{}: not the same twice", case.display());
        let golden = case.join("manifest.yaml");
        let found = steady(&ended.stdout).replace(&store, STORE);
        if bless {
            fs::write(&golden, &found).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ (BLESS=1 rewrites them):\n{}", wrong.join("\n"));
}

/// A spec with a cluster as context.
fn on_cluster(steps: &str, context: &str) -> Project {
    Project::new(&format!(
        "project.name = \"demo\"\n{steps}\n[contexts.cluster]\nengine = \"argo\"\n\
         registry = \"r.example.com\"\nstore = {{ url = \"s3://bucket\" }}\n{context}\n"
    ))
}

#[test]
fn what_has_a_result_is_left_out() {
    let project = on_cluster(
        "steps.a = { command = [\"true\"] }\nsteps.b = { command = [\"echo\"], needs = [\"a\"] }",
        "chains = false",
    );
    let store = format!("store = {{ url = \"file://{}\" }}", project.store().display());
    let spec = fs::read_to_string(project.root().join("mlctl.toml")).unwrap();
    project.write("mlctl.toml", &spec.replace("store = { url = \"s3://bucket\" }", &store));
    assert_eq!(project.run(&["run", "a"]).code, 0);
    let ended = manifest(&project);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("name: b\n") && !ended.stdout.contains("depends"), "{}", ended.stdout);
    assert_eq!(project.run(&["run"]).code, 0);
    let ended = manifest(&project);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing to run"), "{}", ended.stderr);
    // What comes after everything else comes also after nothing.
    let spec = fs::read_to_string(project.root().join("mlctl.toml")).unwrap();
    project.write("mlctl.toml", &format!("{spec}[steps.c]\ncommand = [\"c\"]\nfinally = true\n"));
    let ended = manifest(&project);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let is_entry = ended.stdout.contains("entrypoint: Finally\n") && !ended.stdout.contains("onExit");
    assert!(is_entry && !ended.stdout.contains("tasks: []"), "{}", ended.stdout);
}

/// The error that a manifest ends with.
fn refused(project: &Project) -> String {
    let ended = manifest(project);
    assert!(ended.code == 2 && ended.stdout.is_empty(), "{}: {}", ended.code, ended.stderr);
    ended.stderr
}

#[test]
fn what_argo_cannot_hold_is_refused_at_its_line() {
    let steps =
        |count: usize| -> String { (0..count).map(|n| format!("steps.s{n} = {{ command = [\"c\"] }}\n")).collect() };
    assert_eq!(manifest(&on_cluster(&steps(199), "")).code, 0);
    let error = refused(&on_cluster(&steps(200), ""));
    assert!(error.contains("too-many-steps-for-argo") && error.contains("mlctl.toml:201:"), "{error}");
    let long = format!("tolerations = [{{ key = \"{}\" }}]", "k".repeat(4000));
    let error = refused(&on_cluster(&steps(199), &long));
    assert!(error.contains("too-large-for-argo"), "{error}");
    let wide = "steps.wide = { command = [\"c\"], matrix = { a = \"params.l\", b = \"params.l\" } }\n\
                params.l = { type = \"list\", default = [] }";
    let list = format!("l={:?}", (0..101).collect::<Vec<_>>());
    let ask = ["plan", "--context", "cluster", "--output", "manifest", "-p", &list];
    assert_eq!(on_cluster(wide, "").run(&ask).code, 0);
    let ended = on_cluster(wide, "workers = false").run(&ask);
    assert!(ended.code == 2 && ended.stderr.contains("too-many-pods"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_on_a_cluster_is_refused() {
    let step = "steps.a = { command = [\"c\"] }";
    let error = refused(&Project::new(&format!("project.name = \"p\"\n{step}\ncontexts.cluster.engine = \"argo\"")));
    assert!(error.contains("has no store"), "{error}");
    let error = refused(&on_cluster(step, "labels = { a = \"{{workflow.name}}\" }"));
    assert!(error.contains("Argo would change"), "{error}");
    let secret = "steps.a = { command = [\"c\"], secrets = [\"KEY\"] }";
    let project = on_cluster(secret, "");
    let ended = manifest(&project);
    assert!(ended.code == 3 && ended.stderr.contains("missing-secret"), "{}", ended.stderr);
    fs::create_dir_all(project.home().join(".config/mlctl")).unwrap();
    let own = "contexts.cluster.secrets.KEY = { env = \"KEY\" }\n";
    fs::write(project.home().join(".config/mlctl/config.toml"), own).unwrap();
    let error = refused(&project);
    assert!(error.contains("secret-not-on-cluster"), "{error}");
    let input = "steps.list = { command = [\"c\"], outputs.l = { type = \"json\" } }\n\
                 steps.a = { command = [\"c\"], matrix.x = \"list.l\", inputs.f = { path = \"data/{{ matrix.x }}\" } }";
    let error = refused(&on_cluster(input, ""));
    assert!(error.contains("input-not-on-cluster"), "{error}");
    let on = |directory: &str| {
        format!(
            "project.name = \"p\"\n{step}\n[contexts.cluster]\nengine = \"argo\"\nkube-context = \"kind-a\"\n\
             store = {{ url = \"file://{directory}\" }}\npod-security = \"baseline\""
        )
    };
    let directory = Project::new(&on("/s"));
    let error = refused(&directory);
    assert!(error.contains("has another store than this machine"), "{error}");
    directory.write("mlctl.toml", &on(&directory.store().display().to_string()));
    let error = refused(&directory);
    assert!(error.contains("cannot keep `pod-security = \"baseline\"`"), "{error}");
    let nowhere = "engine = \"argo\"\nstore = { url = \"s3://b\" }\nkube-context = \"gke\"";
    let project = |context: &str| Project::new(&format!("project.name = \"p\"\n{step}\n[contexts.cluster]\n{context}"));
    let error = refused(&project(nowhere));
    assert!(error.contains("names no registry"), "{error}");
    let error = refused(&project(&format!("{nowhere}\nimages = \"kind\"")));
    assert!(error.contains("its kube-context is `gke`"), "{error}");
}

#[test]
fn a_manifest_is_for_plans_on_clusters_and_only_runs_there_are_submitted() {
    let project = on_cluster("steps.a = { command = [\"c\"] }", "");
    let ended = project.run(&["runs", "--output", "manifest"]);
    assert!(ended.code == 2 && ended.stderr.contains("mlctl plan"), "{}", ended.stderr);
    let ended = project.run(&["plan", "--output", "manifest"]);
    assert!(ended.code == 2 && ended.stderr.contains("argo"), "{}", ended.stderr);
    let ended = project.run(&["submit"]);
    assert!(ended.code == 2 && ended.stderr.contains("runs on this machine"), "{}", ended.stderr);
    let ended = project.run(&["plan", "--context", "cluster"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn an_image_that_is_made_is_known_by_its_content() {
    let steps = "environments.own = { build = { dir = \"docker\" } }\nenvironments.jq = { system-packages = [\"jq\"] }\n\
                 steps.a = { command = [\"a\"], environment = \"own\" }\n\
                 steps.b = { command = [\"b\"], environment = \"jq\" }";
    let project = on_cluster(steps, "");
    project.write("docker/Dockerfile", "FROM busybox:1.35\n");
    let ask = ["plan", "--context", "cluster", "--output", "manifest", "a"];
    let image = |manifest: &str| {
        let image = Regex::new("image: (r.example.com/mlctl/demo-own:[0-9a-f]{32})\n").unwrap();
        image.captures(manifest).unwrap_or_else(|| panic!("{manifest}"))[1].to_owned()
    };
    let before = image(&project.ok(&ask));
    assert_eq!(image(&project.ok(&ask)), before);
    project.write("docker/Dockerfile", "FROM busybox:1.35\nENV A=1\n");
    assert_ne!(image(&project.ok(&ask)), before);
    // What it begins with is not in the lock: nobody can tell what it would be.
    let ended = project.run(&["plan", "--context", "cluster", "--output", "manifest", "b"]);
    assert!(ended.code == 3 && ended.stderr.contains("mlctl lock"), "{}", ended.stderr);
}

#[test]
fn nodes_with_another_processor_need_a_program_for_it() {
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    let steps = "steps.a = { command = [\"a\"] }";
    let project = on_cluster(steps, &format!("node-selector = {{ \"kubernetes.io/arch\" = \"{other}\" }}"));
    let ended = manifest(&project);
    assert!(ended.code == 3 && ended.stderr.contains(&format!("mlctl-exec-linux-{other}")), "{ended:?}");
    // Where it was delivered with mlctl, its image is known.
    let own = project.home().join("mlctl");
    if fs::hard_link(mlctl(), &own).is_err() {
        fs::copy(mlctl(), &own).unwrap();
    }
    fs::write(project.home().join(format!("mlctl-exec-linux-{other}")), "for another processor").unwrap();
    let ask = ["plan", "--context", "cluster", "--output", "manifest"];
    let executor = || {
        let ended = project.command(&own).args(ask).ended();
        assert_eq!(ended.code, 0, "{ended:?}");
        let image = Regex::new("mlctl/exec@(sha256:[0-9a-f]{64})").unwrap();
        image.captures(&ended.stdout).unwrap()[1].to_owned()
    };
    let first = executor();
    assert_eq!(executor(), first);
    fs::write(project.home().join(format!("mlctl-exec-linux-{other}")), "another program for it").unwrap();
    assert_ne!(executor(), first, "its bytes decide");
}
