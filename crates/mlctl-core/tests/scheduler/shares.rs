//! A scheduler that launches a part of a run, while others do the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind, StepFailure};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Reason, Status};
use mlctl_core::graph::InstanceIx;
use mlctl_core::scheduler::{Command, Input, Options, Scheduler, State};
use mlctl_core::units::{Share, SharedRows};

use super::flow::{facts, planned};

const SPEC: &str = r#"
    steps.a = { command = ["a"], matrix.x = [1, 2, 3], outputs.o = {} }
    steps.b = { command = ["b"], matrix = "a", inputs.o = "a.o" }
    "#;

/// One that runs the second and the third instance of `b`. It has begun.
fn begun(fail_fast: bool) -> (Scheduler, Vec<Command>) {
    let plan = planned(SPEC, &[]);
    let steps = vec![plan.find("b").expect("a step")];
    let share = Some(Share { steps, rows: SharedRows::Known(vec![1, 2]) });
    let facts = facts(&plan);
    let mut scheduler = Scheduler::new(plan, facts, Options { jobs: 1, fail_fast, share, ..Options::default() });
    let commands = tell(&mut scheduler, Input::Begin);
    (scheduler, commands)
}

/// Tells something, nothing being stored; gives what is to be done.
fn tell(scheduler: &mut Scheduler, input: Input) -> Vec<Command> {
    let (mut commands, mut all) = (Vec::new(), Vec::new());
    scheduler.step(input, &mut commands);
    while !commands.is_empty() {
        for command in std::mem::take(&mut commands) {
            match command {
                Command::LookUp { ix, .. } => scheduler.step(Input::LookedUp { ix, result: None }, &mut commands),
                other => all.push(other),
            }
        }
    }
    all
}

/// That an instance was run elsewhere.
fn made(scheduler: &mut Scheduler, instance: &str) -> Vec<Command> {
    let mut result = ActionResult::default();
    let content = Digest::of(instance.as_bytes());
    let kind = ArtifactKind::File;
    result.artifacts.insert("o".to_owned(), Artifact { kind, digest: content, size: 1 });
    let event = Event::InstanceFinished {
        instance: instance.to_owned(),
        status: Status::Succeeded,
        reason: None,
        attempts: 1,
        key: None,
        components: BTreeMap::new(),
        result: Some(Arc::new(result)),
        failure: None,
    };
    tell(scheduler, Input::Replay(event))
}

fn ix(scheduler: &mut Scheduler, id: &str) -> InstanceIx {
    scheduler.find(id).expect("an instance")
}

fn launched(commands: &[Command]) -> Vec<InstanceIx> {
    let launch = |command: &Command| match command {
        Command::Launch { ix, .. } => Some(*ix),
        _ => None,
    };
    commands.iter().filter_map(launch).collect()
}

#[test]
fn what_others_run_is_never_launched_and_takes_no_place() {
    let (mut scheduler, commands) = begun(false);
    assert_eq!(launched(&commands), []);
    let first = ix(&mut scheduler, "a@x=1");
    assert_eq!(scheduler.instance(first).state(), State::Ready);
    assert_eq!(launched(&made(&mut scheduler, "a@x=1")), [], "of somebody else");
    let own = ix(&mut scheduler, "b@x=2");
    assert_eq!(launched(&made(&mut scheduler, "a@x=2")), [own]);
    assert_eq!(launched(&made(&mut scheduler, "a@x=3")), [], "one at a time");
    let finished = Input::Finished { ix: own, attempt: 1, result: Ok(Arc::default()) };
    assert_eq!(launched(&tell(&mut scheduler, finished)), [ix(&mut scheduler, "b@x=3")]);
}

#[test]
fn a_launch_that_was_not_carried_out_is_no_attempt() {
    let (mut scheduler, _) = begun(false);
    let own = ix(&mut scheduler, "b@x=2");
    made(&mut scheduler, "a@x=2");
    let again = tell(&mut scheduler, Input::NotBegun { ix: own, attempt: 1 });
    assert_eq!(again, [Command::Launch { ix: own, attempt: 1 }]);
    tell(&mut scheduler, Input::Cancel(Reason::Cancelled));
    let ended = tell(&mut scheduler, Input::NotBegun { ix: own, attempt: 1 });
    let is_end = |command: &Command| match command {
        Command::Record(Event::InstanceFinished { instance, status, attempts, .. }) => {
            instance == "b@x=2" && *status == Status::Cancelled && *attempts == 0
        }
        _ => false,
    };
    assert!(ended.iter().any(is_end), "{ended:?}");
}

#[test]
fn a_failure_elsewhere_keeps_what_has_not_begun_from_starting() {
    let (mut scheduler, _) = begun(true);
    let (running, waiting) = (ix(&mut scheduler, "b@x=2"), ix(&mut scheduler, "b@x=3"));
    made(&mut scheduler, "a@x=2");
    made(&mut scheduler, "a@x=3");
    tell(&mut scheduler, Input::FailFast);
    assert_eq!(scheduler.instance(waiting).reason(), Some(Reason::FailFast));
    assert_eq!(scheduler.instance(running).state(), State::Running);
    let failed = Input::Finished { ix: running, attempt: 1, result: Err(StepFailure::Exit { code: 1 }) };
    tell(&mut scheduler, failed);
    assert_eq!(scheduler.instance(running).status(), Some(Status::Failed));
}
