//! Who may not, or asks the wrong cluster, is told so at once.

use std::fs;

use super::{Bed, Machine, bed, own_cluster, unique, until};
use crate::faults::says;
use crate::support::{Ended, Start};

const SPEC: &str = "[project]\nname = \"access\"\n[steps.one]\nscript = 'true'\n";

/// Runs mlctl in a context that was changed.
fn run_in(bed: &Bed) -> Ended {
    Machine::new(bed, SPEC).run(&["run"])
}

#[test]
fn a_context_that_names_no_cluster_is_said_with_those_that_there_are() {
    let Some(mut cloud) = bed("cloud") else { return };
    let there = cloud.key("kube-context").to_owned();
    cloud.set("kube-context", "elsewhere");
    says(&run_in(&cloud), 3, &["elsewhere", &there]);
}

#[test]
fn a_cluster_that_is_gone_is_said() {
    let Some(mut cloud) = bed("cloud") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = cloud.kube(&["config", "view", "--minify", "--output", "jsonpath={.clusters[0].cluster.server}"]);
    let kubeconfig = fs::read_to_string(&cloud.environment["KUBECONFIG"]).unwrap();
    // Nobody listens there.
    let gone = kubeconfig.replace(&server, "https://127.0.0.1:1");
    fs::write(dir.path().join("kubeconfig"), gone).unwrap();
    cloud.environment.insert("KUBECONFIG".to_owned(), dir.path().join("kubeconfig").display().to_string());
    says(&run_in(&cloud), 3, &["cannot run on the cluster `cloud`", "Connection refused"]);
}

#[test]
fn a_token_that_is_no_longer_valid_is_said() {
    let (Some(mut cloud), Some(admin), Some(_)) = (bed("cloud"), bed("kind"), own_cluster()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let namespace = cloud.key("namespace").to_owned();
    // A token is as valid as the object that it is bound to.
    let bound = format!("token-{}", unique().to_lowercase());
    let admin = |arguments: &[&str]| admin.kube(&[arguments, &["--namespace", &namespace]].concat());
    admin(&["create", "secret", "generic", &bound]);
    let token = admin(&["create", "token", "developer", "--bound-object-kind=Secret", "--bound-object-name", &bound]);
    let mut kubeconfig: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&cloud.environment["KUBECONFIG"]).unwrap()).unwrap();
    kubeconfig["users"][0]["user"]["token"] = token.into();
    fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    cloud.environment.insert("KUBECONFIG".to_owned(), dir.path().join("kubeconfig").display().to_string());
    let machine = Machine::new(&cloud, SPEC);
    let is_valid = || cloud.kubectl().args(["get", "workflows"]).ended().code == 0;
    assert!(is_valid());
    admin(&["delete", "secret", &bound]);
    until("the API server to forget that the token was valid", || !is_valid());
    says(&machine.run(&["run"]), 3, &["Unauthorized", "log in again"]);
}

#[test]
fn who_lacks_a_right_is_told_which() {
    let (Some(mut cloud), Some(admin), Some(_)) = (bed("cloud"), bed("kind"), own_cluster()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let namespace = cloud.key("namespace").to_owned();
    let token = admin.kube(&["create", "token", "mlctl-pods", "--namespace", &namespace]);
    let mut kubeconfig: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&cloud.environment["KUBECONFIG"]).unwrap()).unwrap();
    kubeconfig["users"][0]["user"]["token"] = token.into();
    fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    cloud.environment.insert("KUBECONFIG".to_owned(), dir.path().join("kubeconfig").display().to_string());
    says(&run_in(&cloud), 3, &["create", "workflows", &namespace]);
}
