//! Small cases, step by step.

use std::collections::HashMap;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind, InputContent};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Outcome, Status};
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::{Command, Input, Options, Scheduler};
use mlctl_core::value::Value;

use super::flow::{facts, planned};

fn artifact(content: &str) -> Artifact {
    Artifact { kind: ArtifactKind::File, digest: Digest::of(content.as_bytes()), size: content.len() as u64 }
}

fn result(content: &str) -> Arc<ActionResult> {
    Arc::new(ActionResult {
        artifacts: [("file".to_owned(), artifact(content))].into(),
        values: [("number".to_owned(), Value::Int(1)), ("list".to_owned(), Value::Json(serde_json::json!(["x", "y"])))]
            .into(),
        millis: 1,
    })
}

/// Runs all to the end, every attempt succeeding, with the results in `cache`; returns statuses in order of ending.
fn run(plan: Plan, cache: &mut HashMap<Digest, Arc<ActionResult>>) -> (Scheduler, Vec<(String, Status)>) {
    let facts = facts(&plan);
    let mut scheduler = Scheduler::new(plan, facts, Options { run: "r".to_owned(), jobs: 2, ..Options::default() });
    let mut commands = Vec::new();
    let mut ended = Vec::new();
    scheduler.step(Input::Begin, &mut commands);
    while !commands.is_empty() {
        for command in std::mem::take(&mut commands) {
            match command {
                Command::LookUp { ix, key } => {
                    scheduler.step(Input::LookedUp { ix, result: cache.get(&key).cloned() }, &mut commands);
                }
                Command::Launch { ix, attempt } => {
                    let task = scheduler.task(ix, attempt);
                    let made = result(&task.instance);
                    cache.extend(task.key.map(|key| (key, made.clone())));
                    scheduler.step(Input::Started { ix, attempt }, &mut commands);
                    scheduler.step(Input::Finished { ix, attempt, result: Ok(made) }, &mut commands);
                }
                Command::Record(Event::InstanceFinished { instance, status, .. }) => ended.push((instance, status)),
                Command::Record(_) => {}
                Command::Done(outcome) => assert_eq!(outcome, Outcome::Succeeded),
                other => panic!("{other:?}"),
            }
        }
    }
    (scheduler, ended)
}

const FAN_OUT: &str = r#"
steps.prepare = { command = ["p"], outputs.file = {} }
[steps.train]
command = ["t", "{{ inputs.data }}"]
matrix = { depth = [2, 4], fold = [1, 2] }
inputs.data = "prepare.file"
outputs.file = { at = "model.pkl" }
[steps.evaluate]
command = ["e"]
matrix = "train"
inputs.model = "train.file"
outputs.file = {}
[steps.select]
command = ["s"]
inputs.models = "evaluate[*].file"
"#;

#[test]
fn a_fan_out_is_gathered_in_matrix_order_and_cached() {
    let mut cache = HashMap::new();
    let (scheduler, ended) = run(planned(FAN_OUT, &[]), &mut cache);
    assert_eq!(ended.len(), 10);
    assert!(ended.iter().all(|(_, status)| *status == Status::Succeeded));
    let select = scheduler.instances().last().expect("an instance");
    let task = scheduler.task(select.ix, 1);
    let Some(InputContent::Gather(members)) = &task.inputs["models"].content else { panic!() };
    let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
    assert_eq!(
        ids,
        ["evaluate@depth=2,fold=1", "evaluate@depth=2,fold=2", "evaluate@depth=4,fold=1", "evaluate@depth=4,fold=2"]
    );

    let (_, ended) = run(planned(FAN_OUT, &[]), &mut cache);
    assert!(ended.iter().all(|(_, status)| *status == Status::Cached), "{ended:?}");
}

#[test]
fn a_dynamic_axis_expands_when_its_source_is_done() {
    let plan = planned(
        r#"
        steps.split = { command = ["s"], outputs.list = { type = "json" } }
        steps.map = { command = ["m"], matrix.part = "split.list", outputs.file = {} }
        steps.reduce = { command = ["r"], inputs.parts = "map[*].file" }
        "#,
        &[],
    );
    let (scheduler, ended) = run(plan, &mut HashMap::new());
    let ids: Vec<&str> = ended.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["split", "map@part=x", "map@part=y", "reduce"]);
    let reduce = scheduler.instances().last().expect("an instance");
    let Some(InputContent::Gather(members)) = &scheduler.task(reduce.ix, 1).inputs["parts"].content.clone() else {
        panic!()
    };
    assert_eq!(members.len(), 2);
}

#[test]
fn a_target_makes_only_what_it_needs() {
    let mut cache = HashMap::new();
    let plan = planned(FAN_OUT, &["evaluate@depth=4,fold=1"]);
    let (_, ended) = run(plan, &mut cache);
    let ids: Vec<&str> = ended.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["prepare", "train@depth=4,fold=1", "evaluate@depth=4,fold=1"]);
}
