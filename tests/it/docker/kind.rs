//! `mlctl build --push` into the nodes of the test bed's kind cluster.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::cli;
use crate::support::{Project, Start, skip};

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
