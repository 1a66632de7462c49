//! `mlctl build --push` into the nodes of the test bed's kind cluster.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::cli;
use crate::support::{Ended, Project, Start, mlctl, skip};

/// The test bed's own cluster, if it is there.
fn cluster() -> Option<String> {
    let wanted = std::env::var_os("MLCTL_TEST_CLUSTER").is_some_and(|value| value == "1");
    let name = std::env::var("MLCTL_TESTBED_CLUSTER").ok();
    assert!(!wanted || name.is_some(), "MLCTL_TEST_CLUSTER=1, but MLCTL_TESTBED_CLUSTER is not set");
    if name.is_none() {
        skip("no cluster of the test bed (tests/testbed/cluster/up)");
    }
    name
}

/// A project whose image is large below and small above; its name, and so its image, is its own.
struct Layers {
    project: Project,
    cluster: String,
    name: String,
}

impl Layers {
    fn new(cluster: String) -> Self {
        let name = format!("kind{:x}", std::process::id());
        let project = Project::new(&format!(
            "[project]\nname = \"{name}\"\n[environments.tools]\nbuild = {{ dockerfile = \"Dockerfile\", dir = \".\" }}\n\
             [steps.a]\ncommand = [\"a\"]\nenvironment = \"tools\"\n\
             [contexts.there]\nengine = \"argo\"\nkube-context = \"kind-{cluster}\"\nstore.url = \"s3://b\"\n"
        ));
        project.write("Dockerfile", "FROM python:3.11-slim\nRUN date +%s%N > /below\nCOPY above /above\n");
        project.write(".dockerignore", "*\n!above\n");
        project.write("above", "one");
        Self { project, cluster, name }
    }

    fn load(&self, arguments: &[&str]) -> Value {
        let all = [&["build", "--push", "--context", "there"], arguments].concat();
        self.project.json(&all)[0].take()
    }

    fn node(&self) -> String {
        format!("{}-control-plane", self.cluster)
    }

    /// What a pod of the image prints, and the id of its image as the kubelet sees it.
    fn seen(&self, reference: &str) -> (String, String) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let pod = format!("{}-{}", self.name, NUMBER.fetch_add(1, Ordering::Relaxed));
        let kubectl = |arguments: &[&str]| {
            let all = ["exec", &self.node(), "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
            cli(&[&all, arguments].concat())
        };
        kubectl(&[
            "run",
            &pod,
            "--image",
            reference,
            "--restart=Never",
            "--image-pull-policy=Never",
            "--",
            "cat",
            "/above",
        ]);
        kubectl(&["wait", "--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "120s", "pod", &pod]);
        let printed = kubectl(&["logs", &pod]);
        let id = kubectl(&["get", "pod", &pod, "-o", "jsonpath={.status.containerStatuses[0].imageID}"]);
        kubectl(&["delete", "pod", &pod, "--wait=false"]);
        (printed, id)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let images = ["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter"];
        let mine = format!("label=dev.mlctl.project={}", self.name);
        for image in Command::new("docker").args(images).arg(mine).ended().stdout.split_whitespace() {
            Command::new("docker").args(["rmi", "-f", image]).ended();
            let there = format!("docker.io/{image}");
            Command::new("docker").args(["exec", &self.node(), "ctr", "-n", "k8s.io", "images", "rm", &there]).ended();
        }
    }
}

#[test]
fn only_what_a_node_lacks_travels() {
    let Some(cluster) = cluster() else { return };
    let layers = Layers::new(cluster);
    let first = layers.load(&[]);
    let (id, reference) = (first["id"].as_str().unwrap(), first["reference"].as_str().unwrap());
    assert!(first["sent"].as_u64().unwrap() > 0, "{first}");
    assert_eq!(layers.seen(reference), ("one".to_owned(), id.to_owned()));
    let again = layers.load(&[]);
    assert_eq!((&again["sent"], &again["status"]), (&0.into(), &"unchanged".into()));

    // An edit near the top.
    layers.project.write("above", "two");
    let edited = layers.load(&[]);
    let edited_reference = edited["reference"].as_str().unwrap();
    assert_eq!(layers.seen(edited_reference).0, "two");
    let whole: u64 =
        cli(&["image", "inspect", "--format", "{{.Size}}", edited["id"].as_str().unwrap()]).parse().unwrap();
    let sent = edited["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent * 10 < whole, "`kind load` sends all of it: {sent} of {whole}");

    // What the daemon has lost is not built again: the node has it.
    cli(&["rmi", "-f", edited_reference]);
    let lost = layers.load(&[]);
    assert_eq!((&lost["id"], &lost["sent"], &lost["status"]), (&edited["id"], &0.into(), &"unchanged".into()));
    let ended = Command::new("docker").args(["image", "inspect", edited_reference]).ended();
    assert_ne!(ended.code, 0, "it is not here");

    // Another image of the same name takes its place.
    let anew = layers.load(&["--no-cache"]);
    assert_eq!((&anew["reference"], &anew["status"]), (&edited["reference"], &"built".into()));
    assert_ne!(anew["id"], edited["id"]);
    assert_eq!(layers.seen(edited_reference).1, anew["id"].as_str().unwrap());
}

#[test]
fn a_cluster_that_is_not_there_is_named() {
    if !super::docker() {
        return;
    }
    let layers = Layers::new("no-such-cluster".to_owned());
    let ended = layers.project.run(&["build", "--push", "--context", "there"]);
    assert!(ended.code == 3 && ended.stderr.contains("there is no kind cluster `no-such-cluster`"), "{ended:?}");
    assert!(ended.stderr.contains("mlctl context create kind"), "{ended:?}");
}

/// A directory with a user's home, and a kubeconfig of its own; a cluster that is left over goes with it.
struct Home {
    project: Project,
    name: String,
}

impl Home {
    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.project.command(mlctl());
        command.env("KUBECONFIG", self.project.home().join("kubeconfig")).args(arguments).ended()
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.project.home().join(".config/mlctl/config.toml")).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut kind = self.project.command("kind");
        kind.env("KUBECONFIG", self.project.home().join("kubeconfig"));
        kind.args(["delete", "cluster", "--name", &format!("mlctl-{}", self.name)]).ended();
    }
}

/// The manifests that the test bed installs Argo from.
fn argo() -> String {
    let path = std::env::var_os("PATH").unwrap();
    let kind = std::env::split_paths(&path).map(|dir| dir.join("kind")).find(|kind| kind.exists());
    let install = kind.expect("`kind` of the test bed is in PATH").parent().unwrap().join("../install");
    let ended = Command::new("kubectl").arg("kustomize").arg(install).ended();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended.stdout
}

#[test]
fn a_cluster_is_made_with_its_context_and_removed() {
    let Some(bed) = cluster() else { return };
    let project = Project::new("project.name = \"p\"\nsteps.a = { script = \"echo made\" }\n");
    let home = Home { project, name: format!("t{:x}", std::process::id()) };
    let own = "# Mine.\n[contexts.local]\nsettings.A = \"x\" # kept\n";
    std::fs::create_dir_all(home.project.home().join(".config/mlctl")).unwrap();
    std::fs::write(home.project.home().join(".config/mlctl/config.toml"), own).unwrap();
    // As the test bed's own cluster, but for what is mounted there.
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/cluster/kind.yaml");
    let config = std::fs::read_to_string(config).unwrap();
    let config: Vec<&str> =
        config.lines().filter(|line| !line.contains("Mounts:") && !line.contains("STORES")).collect();
    home.project.write("kind.yaml", &config.join("\n"));
    home.project.write("argo.yaml", &argo());
    let image = cli(&["inspect", "--format", "{{.Config.Image}}", &format!("{bed}-control-plane")]);
    let create = ["context", "create", "kind", &home.name, "--image", &image, "--config", "kind.yaml"];
    let made = home.run(&[&create[..], &["--with-argo", "--argo-manifests", "argo.yaml", "-o", "json"]].concat());
    assert_eq!(made.code, 0, "{made:?}");
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(made["kube-context"], format!("kind-mlctl-{}", home.name));
    assert!(home.config().starts_with(own), "{}", home.config());

    let shown = home.run(&["context", "show", &home.name]);
    assert!(shown.code == 0 && shown.stdout.contains("mlctl-pods"), "{shown:?}");
    let node = format!("mlctl-{}-control-plane", home.name);
    let store = home.project.store();
    std::fs::write(store.join("seen"), "by both").unwrap();
    let seen = store.join("seen");
    assert_eq!(cli(&["exec", &node, "cat", seen.to_str().unwrap()]), "by both");
    let kubectl = ["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
    let can = [
        "auth",
        "can-i",
        "create",
        "workflowtaskresults",
        "--namespace=mlctl",
        "--as=system:serviceaccount:mlctl:mlctl-pods",
    ];
    assert_eq!(cli(&[&kubectl[..], &can].concat()), "yes");

    // It is there to run on, and what is done there is done here.
    let ran = home.run(&["run", "--context", &home.name]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(home.run(&["logs", "a"]).stdout, "made\n");
    let again = home.run(&["run", "--context", &home.name]);
    assert!(again.code == 0 && again.stdout.contains("nothing to do"), "{again:?}");

    // Once more does no harm; with another store it is another's cluster.
    assert_eq!(home.run(&create).code, 0);
    let mut other = home.project.command(mlctl());
    let other = other.env("MLCTL_STORE", home.project.home().join("other")).args(create).ended();
    assert!(other.code == 2 && other.stderr.contains("does not have the store mounted"), "{other:?}");

    let asked = home.run(&["context", "delete", &home.name]);
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    let removed = home.run(&["context", "delete", &home.name, "--yes", "-o", "json"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    let removed: Value = serde_json::from_str(&removed.stdout).unwrap();
    assert_eq!((&removed["cluster"], &removed["removed"]), (&format!("mlctl-{}", home.name).into(), &true.into()));
    assert_eq!(home.config(), own);
    assert_eq!(cli(&["ps", "--all", "--quiet", "--filter", &format!("name={node}")]), "");
    assert_eq!(home.run(&["context", "delete", &home.name, "--yes"]).code, 2);
}

#[test]
fn what_mlctl_did_not_make_it_does_not_remove() {
    if cluster().is_none() {
        return;
    }
    let project = Project::new("project.name = \"p\"\nsteps.a = { command = [\"a\"] }\n");
    let home = Home { project, name: "none".to_owned() };
    let own = "[contexts.mine]\nengine = \"argo\"\nkube-context = \"kind-mlctl-testbed\"\n";
    std::fs::create_dir_all(home.project.home().join(".config/mlctl")).unwrap();
    std::fs::write(home.project.home().join(".config/mlctl/config.toml"), own).unwrap();
    for arguments in [["context", "delete", "mine", "--yes"].as_slice(), &["context", "create", "kind", "mine"]] {
        let ended = home.run(arguments);
        assert_eq!((ended.code, home.config().as_str()), (2, own), "{ended:?}");
    }
    for name in ["local", "docker", "Upper", "a.b"] {
        assert_eq!(home.run(&["context", "create", "kind", name]).code, 2, "{name}");
    }
    let ended = home.project.command(mlctl()).env("PATH", "/nowhere").args(["context", "create", "kind"]).ended();
    assert!(ended.code == 3 && ended.stderr.contains("there is no `kind` command"), "{ended:?}");
}
