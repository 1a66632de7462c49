//! Completion as bash asks for it: the script that `mlctl completion bash` prints, in a real bash.

use crate::support::{Project, Start, mlctl};

const SPEC: &str = r#"
[project]
name = "c"

[params]
seed = { type = "int", default = 1, help = "Where chance begins" }
size = 3
model = { type = "string", default = "gbt", choices = ["gbt", "mlp"] }
fast = false

[contexts.cloud]
engine = "process"

[steps.train]
matrix.depth = [2, 4]
command = ["true"]
outputs.model = {}

[steps.tune]
command = ["true"]
"#;

/// What bash offers when Tab is pressed at the end of `line`.
fn offered(project: &Project, line: &str) -> Vec<String> {
    let script = project.root().join("completion.bash");
    std::fs::write(&script, project.ok(&["completion", "bash"])).unwrap();
    let path = format!("{}:{}", mlctl().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let ask = r#"source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; _mlctl; printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = project.command("bash");
    let ended = bash.env("PATH", path).args(["-c", ask, "bash"]).arg(script).arg(line).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn commands_params_contexts_and_outputs_complete() {
    let project = Project::new(SPEC);
    assert!(offered(&project, "mlctl che").contains(&"check".to_owned()));
    assert_eq!(offered(&project, "mlctl run -p s"), ["seed=", "size="]);
    assert_eq!(offered(&project, "mlctl run --context cl"), ["cloud"]);
    assert_eq!(offered(&project, "mlctl artifacts get train."), ["train.model"]);
    assert_eq!(offered(&project, "mlctl status @la"), ["latest"], "bash keeps what stands before `@`");
}

#[test]
fn instances_complete_after_the_signs_at_which_bash_splits() {
    let project = Project::new(SPEC);
    assert_eq!(offered(&project, "mlctl run t"), ["train", "train@depth=2", "train@depth=4", "tune"]);
    assert_eq!(offered(&project, "mlctl run train@d"), ["depth=2", "depth=4"]);
    assert_eq!(offered(&project, "mlctl run train@depth="), ["2", "4"]);
}

#[test]
fn values_that_a_param_may_have_complete() {
    let project = Project::new(SPEC);
    assert_eq!(offered(&project, "mlctl run -p model="), ["gbt", "mlp"]);
    assert_eq!(offered(&project, "mlctl run -p fast=t"), ["true"]);
    assert_eq!(offered(&project, "mlctl artifacts get train@depth=2."), ["2.model"]);
}

#[test]
fn outside_a_project_and_in_a_broken_one_there_is_silence() {
    assert_eq!(offered(&Project::empty(), "mlctl run t"), [""; 0]);
    assert_eq!(offered(&Project::new("this is = not ["), "mlctl run t"), [""; 0]);
}

#[test]
fn the_project_that_the_line_names_is_asked() {
    let project = Project::empty();
    project.write("below/mlctl.toml", SPEC);
    assert_eq!(offered(&project, "mlctl -C below run tu"), ["tune"]);
}
