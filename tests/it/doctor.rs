//! `mlctl doctor`: what is not as it has to be is said with a remedy, and by the exit code.

use std::fs;

use crate::support::{Project, Start};

const SPEC: &str = "
[project]
name = \"demo\"
[contexts.nowhere]
engine = \"argo\"
kube-context = \"not-there\"
[contexts.shared]
store.url = \"file:///not/there\"
[steps.a]
command = [\"true\"]
";

/// The states of the checks by their names, and the exit code.
fn examined(project: &Project, context: &str) -> (serde_json::Value, i32) {
    let mut doctor = project.command(crate::support::mlctl());
    doctor.args(["doctor", "-o", "json", "--context", context]).env("MLCTL_TRUST_PROJECT", "1");
    let ended = doctor.env("KUBECONFIG", project.root().join("kubeconfig")).ended();
    (serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}{}", ended.stdout, ended.stderr)), ended.code)
}

fn check<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {report}"))
}

#[test]
fn what_a_context_lacks_is_told_with_a_remedy() {
    let project = Project::new(SPEC);
    let (report, code) = examined(&project, "local");
    assert_eq!(code, 0, "{report}");
    assert_eq!(check(&report, "store")["state"], "good");

    fs::write(project.root().join("kubeconfig"), "apiVersion: v1\nkind: Config\ncontexts: []\n").unwrap();
    let (report, code) = examined(&project, "nowhere");
    assert_eq!(code, 3, "{report}");
    let cluster = check(&report, "cluster");
    assert_eq!(cluster["state"], "bad");
    assert!(cluster["found"].as_str().is_some_and(|found| found.contains("no context `not-there`")), "{report}");
    assert!(!cluster["remedies"].as_array().expect("remedies").is_empty(), "{report}");

    let (report, code) = examined(&project, "shared");
    assert_eq!((code, &check(&report, "shared store")["state"]), (3, &"bad".into()), "{report}");
}
