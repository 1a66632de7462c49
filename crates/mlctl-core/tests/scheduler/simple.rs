//! Small cases, step by step.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind, InputContent, StepFailure};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Outcome, Status};
use mlctl_core::graph::InstanceIx;
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::{Capacity, Command, Input, Options, Scheduler};
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

/// A scheduler that has begun, four jobs at a time on 4 CPUs and a GPU, nothing being stored.
fn begun(spec: &str) -> (Scheduler, Vec<InstanceIx>) {
    let plan = planned(spec, &[]);
    let facts = facts(&plan);
    let capacity = Capacity { cpu_millis: Some(4000), memory: None, gpu: Some(1) };
    let options = Options { run: "r".to_owned(), jobs: 4, capacity, fail_fast: false, share: None };
    let mut scheduler = Scheduler::new(plan, facts, options);
    let launched = tell(&mut scheduler, Input::Begin);
    (scheduler, launched)
}

/// Tells something; returns what is launched by that.
fn tell(scheduler: &mut Scheduler, input: Input) -> Vec<InstanceIx> {
    let mut launched = Vec::new();
    let mut inputs = VecDeque::from([input]);
    while let Some(input) = inputs.pop_front() {
        let mut commands = Vec::new();
        scheduler.step(input, &mut commands);
        for command in commands {
            match command {
                Command::LookUp { ix, .. } => inputs.push_back(Input::LookedUp { ix, result: None }),
                Command::Launch { ix, .. } => launched.push(ix),
                _ => {}
            }
        }
    }
    launched
}

fn names(scheduler: &Scheduler, launched: &[InstanceIx]) -> String {
    let ids: Vec<String> = launched.iter().map(|&ix| scheduler.instance(ix).id()).collect();
    ids.join(" ")
}

#[test]
fn what_does_not_fit_is_not_starved_and_holds_up_only_what_it_waits_for() {
    let (mut scheduler, first) = begun(
        r#"
        steps.a = { command = ["a"], matrix.n = [1, 2], resources = { cpu = 1 } }
        steps.big = { command = ["b"], resources = { cpu = 4 } }
        steps.small = { command = ["s"], matrix.n = [1, 2, 3], resources = { cpu = 1 } }
        steps.free = { command = ["f"], matrix.n = [1, 2] }
        "#,
    );
    assert_eq!(names(&scheduler, &first), "a@n=1 a@n=2 free@n=1 free@n=2");
    let mut end = |ix: InstanceIx| {
        let next = tell(&mut scheduler, Input::Finished { ix, attempt: 1, result: Ok(result("x")) });
        (names(&scheduler, &next), next)
    };
    // Two CPUs and then three are free: not for the small ones.
    assert_eq!(end(first[0]).0, "");
    let (started, big) = end(first[1]);
    assert_eq!(started, "big");
    assert_eq!(end(big[0]).0, "small@n=1 small@n=2");
}

#[test]
fn one_that_waits_for_a_gpu_leaves_the_cpus_to_others() {
    let (scheduler, first) = begun(
        r#"
        steps.gpu = { command = ["g"], matrix.n = [1, 2, 3], resources = { gpu = 1 } }
        steps.cpu = { command = ["c"], matrix.n = [1, 2], resources = { cpu = 1 } }
        "#,
    );
    assert_eq!(names(&scheduler, &first), "gpu@n=1 cpu@n=1 cpu@n=2");
}

#[test]
fn the_backoff_doubles_and_a_lost_machine_costs_no_retry() {
    let (mut scheduler, first) = begun(
        r#"
        [steps.a]
        command = ["a"]
        retry = { limit = 2, backoff = "10s" }
        "#,
    );
    let ix = first[0];
    let mut commands = Vec::new();
    let mut tell = |input| {
        commands.clear();
        scheduler.step(input, &mut commands);
        commands.clone()
    };
    let failed = |attempt| Input::Finished { ix, attempt, result: Err(StepFailure::Exit { code: 1 }) };
    let after = |commands: &[Command]| match commands {
        [Command::Record(Event::InstanceRetrying { delay_millis, .. }), Command::RetryAfter { delay, .. }] => {
            assert_eq!(u128::from(*delay_millis), delay.as_millis());
            delay.as_secs()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(after(&tell(failed(1))), 10);
    assert_eq!(tell(Input::RetryDue { ix }), [Command::Launch { ix, attempt: 2 }]);
    let lost = tell(Input::Lost { ix, attempt: 2 });
    assert_eq!(lost.last(), Some(&Command::Launch { ix, attempt: 3 }));
    assert_eq!(tell(failed(2)), [], "of an attempt that is gone");
    assert_eq!(after(&tell(failed(3))), 20);
    tell(Input::RetryDue { ix });
    let end = tell(failed(4));
    assert!(matches!(&end[0], Command::Record(Event::InstanceFinished { status: Status::Failed, attempts: 4, .. })));
    assert_eq!(end.last(), Some(&Command::Done(Outcome::Failed)));
}
