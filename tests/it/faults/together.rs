//! Several runs at once, and what changes under a run.

use std::fs;

use super::{output, says, start, statuses, until_printed};
use crate::support::{Ended, Project, Running, Start, mlctl};

/// `mine` holds what no other run would make, and ends when `gate` is there.
const SPEC: &str = r#"
[project]
name = "together"

[steps.mine]
script = '''
head -c 32 /dev/urandom | od -An -tx1 > "$MLCTL_OUTPUT_X"
echo waiting
i=0; while ! test -e "$GATE" && test $i -lt 1200; do sleep 0.02; i=$((i + 1)); done
'''
env.GATE = "@GATE@"
outputs.x = {}

[steps.copy]
matrix.i = [1, 2, 3, 4, 5, 6]
inputs.x = "mine.x"
command = ["cp", "{{ inputs.x }}", "{{ outputs.y }}"]
outputs.y = {}
"#;

fn with_gate(gate: &Project) -> String {
    SPEC.replace("@GATE@", gate.home().join("go").to_str().unwrap())
}

#[test]
fn two_runs_of_one_project_agree_on_the_bytes() {
    let project = Project::empty();
    project.write("mlctl.toml", &with_gate(&project));
    let both = [(); 2].map(|()| start(&project, &["run", "-q"]));
    until_both_wait(&project);
    fs::write(project.home().join("go"), "").unwrap();
    both.into_iter().for_each(|run| says(&run.end(), 0, &[]));
    let runs = project.json(&["runs"]);
    let made = |index: usize| artifacts(&project, runs[index]["run"].as_str().unwrap());
    assert_eq!(runs.as_array().unwrap().len(), 2);
    assert_eq!(made(0).len(), 7);
    assert_eq!(made(0), made(1));
}

#[test]
fn two_projects_that_share_a_store_agree_on_the_bytes() {
    let (one, other) = (Project::empty(), Project::empty());
    one.write("mlctl.toml", &with_gate(&one));
    other.write("mlctl.toml", &with_gate(&one));
    let first = start(&one, &["run", "-q"]);
    let mut second = other.command(mlctl());
    let second = second.args(["run", "-q"]).env("MLCTL_STORE", one.store()).start();
    for project in [&one, &other] {
        until_printed(project, "mine", "waiting");
    }
    fs::write(one.home().join("go"), "").unwrap();
    says(&first.end(), 0, &[]);
    says(&second.end(), 0, &[]);
    assert_eq!(artifacts(&one, "@latest"), artifacts(&other, "@latest"));
}

/// Both runs of a project have started `mine`.
fn until_both_wait(project: &Project) {
    let runs = project.root().join(".mlctl/runs");
    super::until("both runs to wait", || {
        let logs = fs::read_dir(&runs).into_iter().flatten().flatten().map(|run| run.path().join("logs/mine.1.log"));
        logs.filter(|log| fs::read_to_string(log).is_ok_and(|log| log.contains("waiting"))).count() == 2
    });
}

fn artifacts(project: &Project, run: &str) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let listed = project.json(&["artifacts", "ls", "--run", run]);
    let name = |each: &serde_json::Value| format!("{}.{}", text(&each["instance"]), text(&each["output"]));
    listed.as_array().unwrap().iter().map(|each| (name(each), text(&each["digest"]))).collect()
}

/// A run that is in the middle of `wait`, and a step after it that shows its sources and an input of the project.
fn waiting(project: &Project) -> Running {
    let gate = project.home().join("go");
    let spec = r#"
        [project]
        name = "edited"
        [steps.wait]
        script = "echo waiting; i=0; while ! test -e '@GATE@' && test $i -lt 1200; do sleep 0.02; i=$((i + 1)); done"
        [steps.show]
        needs = ["wait"]
        inputs.data = { path = "data.txt" }
        script = 'cat source.txt "$MLCTL_INPUT_DATA" > "$MLCTL_OUTPUT_X"'
        outputs.x = {}
    "#;
    project.write("mlctl.toml", &spec.replace("@GATE@", gate.to_str().unwrap()));
    project.write("source.txt", "source as it was\n");
    project.write("data.txt", "data as it was\n");
    let run = start(project, &["run", "-j", "1"]);
    until_printed(project, "wait", "waiting");
    run
}

fn go_on(project: &Project, run: Running) -> Ended {
    fs::write(project.home().join("go"), "").unwrap();
    run.end()
}

#[test]
fn a_run_works_on_the_files_as_they_were_when_it_began() {
    let project = Project::empty();
    let run = waiting(&project);
    project.write("source.txt", "source as it became\n");
    project.write("data.txt", "data as it became\n");
    let spec = fs::read_to_string(project.root().join("mlctl.toml")).unwrap();
    project.write("mlctl.toml", "no longer TOML");
    says(&go_on(&project, run), 0, &[]);
    assert_eq!(output(&project, "show.x"), "source as it was\ndata as it was\n");

    project.write("mlctl.toml", &spec);
    project.ok(&["run"]);
    assert_eq!(output(&project, "show.x"), "source as it became\ndata as it became\n");
}

#[test]
fn the_record_may_be_deleted_between_runs() {
    let project = Project::empty();
    let run = waiting(&project);
    says(&go_on(&project, run), 0, &[]);
    fs::remove_dir_all(project.root().join(".mlctl")).unwrap();
    assert_eq!(project.run(&["status"]).code, 1);
    project.ok(&["run"]);
    assert!(statuses(&project, "@latest").1.iter().all(|(_, status)| status == "cached"));
}

#[test]
fn a_run_whose_record_is_deleted_says_so_and_loses_no_result() {
    let project = Project::empty();
    let run = waiting(&project);
    fs::remove_dir_all(project.root().join(".mlctl")).unwrap();
    says(
        &go_on(&project, run),
        3,
        &["cannot write the record of run", "it was removed while the run went on", "help: "],
    );
    project.ok(&["run"]);
    let (_, instances) = statuses(&project, "@latest");
    assert_eq!(instances[0], ("wait".to_owned(), "cached".to_owned()));
}

/// A step that makes something else each time, and one that copies it.
const CHANGING: &str = r#"
[project]
name = "changing"
[steps.a]
script = "head -c 32 /dev/urandom | od -An -tx1 > $MLCTL_OUTPUT_X"
outputs.x = {}
[steps.b]
inputs.x = "a.x"
command = ["cp", "{{ inputs.x }}", "{{ outputs.y }}"]
outputs.y = {}
"#;

#[test]
fn after_a_forced_run_of_a_part_the_whole_is_not_as_it_was() {
    let project = Project::new(CHANGING);
    // Until the stamps are old enough to be trusted.
    std::thread::sleep(std::time::Duration::from_millis(100));
    project.ok(&["run", "-q"]);
    assert!(project.ok(&["run"]).contains("nothing to do"));
    project.ok(&["run", "-q", "a", "--force", "a"]);
    project.ok(&["run", "-q"]);
    assert_eq!(output(&project, "a.x"), output(&project, "b.y"));
    let (_, instances) = statuses(&project, "@latest");
    assert_eq!(instances, [("a".into(), "cached".into()), ("b".into(), "succeeded".into())]);
}

#[test]
fn a_lost_index_loses_no_run() {
    let project = Project::new(CHANGING);
    project.ok(&["run", "-q"]);
    fs::remove_file(project.root().join(".mlctl/runs/index")).unwrap();
    assert_eq!(project.json(&["runs"]).as_array().unwrap().len(), 1);
}

#[test]
fn what_a_killed_export_left_is_no_source() {
    let project = Project::new(CHANGING);
    project.ok(&["run", "-q"]);
    project.write(".mlctl-new-1", "half of a model");
    project.write(".mlctl-old-1/model", "the one before");
    project.ok(&["run", "-q"]);
    let (_, instances) = statuses(&project, "@latest");
    assert!(instances.iter().all(|(_, status)| status == "cached"), "{instances:?}");
}
