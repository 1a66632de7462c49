use std::fs;
use std::path::Path;
use std::sync::Arc;

use mlctl_core::action::ActionResult;
use mlctl_core::event::{Event, Outcome, Reason, Recorded, Status};

use super::*;
use crate::error::Kind;

fn meta(started: u64) -> RunMeta {
    RunMeta {
        id: String::new(),
        started,
        argv: vec!["mlctl".into(), "run".into()],
        params: BTreeMap::from([("seed".to_owned(), Value::Int(7))]),
        targets: Vec::new(),
        environments: Vec::new(),
        context: "local".into(),
        spec: Digest::of(b"spec"),
        commit: None,
        mlctl: "0".into(),
        reused: None,
        cluster: None,
    }
}

fn writer(project: &Path, started: u64, instances: &[&str]) -> RunWriter {
    RunWriter::create(project, meta(started), "spec", instances.iter().copied()).unwrap()
}

fn started(at: u64, instance: &str) -> Recorded {
    Recorded { at, event: Event::InstanceStarted { instance: instance.into(), attempt: 1, key: None } }
}

fn finished(at: u64, instance: &str, status: Status) -> Recorded {
    let event = Event::InstanceFinished {
        instance: instance.into(),
        status,
        reason: None,
        attempts: 1,
        key: None,
        components: BTreeMap::new(),
        result: None,
        failure: None,
    };
    Recorded { at, event }
}

/// How a run ended whose writer is gone. A process that another test is just starting may still hold a copy of the lease
/// for the moment between its fork and its exec.
fn ended(run: &Run) -> Ended {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match run.ended() {
            Some(ended) => return ended,
            None => assert!(std::time::Instant::now() < deadline, "the run seems to be alive"),
        }
    }
}

fn count_finished(run: &Run, id: &str) -> usize {
    let is = |event: &Event| matches!(event, Event::InstanceFinished { instance, .. } if instance == id);
    run.events().iter().filter(|recorded| is(&recorded.event)).count()
}

#[test]
fn a_run_is_followed_while_it_is_written_and_read_when_it_ended() {
    let project = tempfile::tempdir().unwrap();
    let mut writer = writer(project.path(), 10, &["a", "b@x=1,y=%2F"]);
    let run = Runs::open(project.path()).unwrap().find("@latest").unwrap();
    let mut follower = run.follow();
    assert_eq!(run.ended(), None);
    assert_eq!(run.planned(), ["a", "b@x=1,y=%2F"]);

    writer.append(&started(11, "a")).unwrap();
    assert_eq!(follower.read().unwrap(), []);
    writer.flush().unwrap();
    assert_eq!(follower.read().unwrap(), [started(11, "a")]);
    assert_eq!(run.fold().instances["a"].phase, Phase::Running);

    writer.append(&finished(15, "a", Status::Succeeded)).unwrap();
    writer.append(&finished(15, "b@x=1,y=%2F", Status::Failed)).unwrap();
    fs::write(writer.log_path("b@x=1,y=%2F", 1), "log").unwrap();
    writer.append(&Recorded { at: 16, event: Event::RunFinished { outcome: Outcome::Failed } }).unwrap();
    let ended = writer.finish(Outcome::Failed, 16, Some(true), Highlights::default()).unwrap();
    assert_eq!((ended.tally.total, ended.tally.succeeded, ended.tally.failed), (2, 1, 1));
    assert_eq!(run.ended(), Some(ended));
    assert_eq!(run.fold().ended, Some((Outcome::Failed, 16)));
    assert_eq!(run.spec().as_deref(), Some("spec"));
    assert_eq!(fs::read_to_string(project.path().join(".mlctl/.gitignore")).unwrap(), "*\n");
}

#[test]
fn what_succeeded_took_as_long_as_its_command() {
    let mut state = RunState::new(["a".to_owned()]);
    state.apply(&started(1000, "a"));
    assert_eq!(state.instances["a"].took(1300), Some(300));
    let mut end = finished(1448, "a", Status::Failed);
    state.apply(&end);
    assert_eq!(state.instances["a"].took(2000), Some(448));
    if let Event::InstanceFinished { result, .. } = &mut end.event {
        *result = Some(Arc::new(ActionResult { millis: 66, ..ActionResult::default() }));
    }
    state.apply(&end);
    assert_eq!(state.instances["a"].took(2000), Some(66));
}

#[test]
fn a_dead_run_is_finished_exactly_once_whatever_was_torn() {
    let whole = {
        let project = tempfile::tempdir().unwrap();
        let mut writer = writer(project.path(), 10, &["a", "b", "c"]);
        writer.append(&finished(12, "a", Status::Succeeded)).unwrap();
        writer.append(&started(13, "b")).unwrap();
        writer.flush().unwrap();
        fs::read(writer.dir().join("events.jsonl")).unwrap()
    };
    for cut in 0..=whole.len() {
        let project = tempfile::tempdir().unwrap();
        let writer = writer(project.path(), 10, &["a", "b", "c"]);
        let id = writer.id().to_owned();
        fs::write(writer.dir().join("events.jsonl"), &whole[..cut]).unwrap();
        drop(writer);
        let runs = Runs::open(project.path()).unwrap();
        let run = runs.find(&id).unwrap();
        let mut before = run.fold();
        while before.ended.is_none() {
            before = run.fold();
        }
        for _ in 0..2 {
            let ended = ended(&run);
            assert_eq!(ended.outcome, Outcome::Interrupted);
            assert_eq!(ended.tally.done(), 3, "cut at {cut}");
        }
        let after = run.fold();
        assert_eq!(before.tally(), after.tally(), "what is told before is what is recorded");
        for instance in ["a", "b", "c"] {
            assert_eq!(count_finished(&run, instance), 1, "cut at {cut}");
        }
        assert_eq!(after.instances["c"].reason, Some(Reason::Interrupted));
        let outcomes = run.events().into_iter().filter(|e| matches!(e.event, Event::RunFinished { .. })).count();
        assert_eq!(outcomes, 1);
    }
}

#[test]
fn a_run_that_was_killed_after_its_last_event_keeps_its_outcome() {
    let project = tempfile::tempdir().unwrap();
    let mut writer = writer(project.path(), 10, &["a"]);
    writer.append(&finished(12, "a", Status::Succeeded)).unwrap();
    writer.append(&Recorded { at: 13, event: Event::RunFinished { outcome: Outcome::Succeeded } }).unwrap();
    writer.flush().unwrap();
    drop(writer);
    let run = Runs::open(project.path()).unwrap().find("@latest").unwrap();
    let ended = ended(&run);
    assert_eq!((ended.outcome, ended.at, ended.tally.succeeded), (Outcome::Succeeded, 13, 1));
    assert_eq!(count_finished(&run, "a"), 1);
}

#[test]
fn several_readers_at_once_finish_a_dead_run_once() {
    let project = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..1000).map(|n| format!("a@n={n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    drop(writer(project.path(), 10, &names));
    let run = Runs::open(project.path()).unwrap().find("@latest").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| while run.ended().is_none() {});
        }
    });
    assert_eq!(count_finished(&run, "a@n=0"), 1);
    assert_eq!(run.events().len(), 1001);
}

#[test]
fn runs_are_in_the_order_in_which_they_began_though_the_clock_goes_back() {
    let project = tempfile::tempdir().unwrap();
    let ids: Vec<String> = [300, 200, 100].map(|at| writer(project.path(), at, &[]).id().to_owned()).into();
    let runs = Runs::open(project.path()).unwrap();
    assert_eq!(runs.names(), [ids[2].as_str(), &ids[1], &ids[0]]);
    assert_eq!(runs.find("@latest").unwrap().id(), ids[2]);
    fs::remove_dir_all(project.path().join(".mlctl/runs").join(&ids[2])).unwrap();
    assert_eq!(Runs::open(project.path()).unwrap().find("@latest").unwrap().id(), ids[1]);
}

#[test]
fn a_run_is_named_by_a_beginning_that_only_it_has() {
    let project = tempfile::tempdir().unwrap();
    let none = Runs::open(project.path()).unwrap();
    assert_eq!(none.find("@latest").unwrap_err().kind, Kind::Failed);
    let ids: Vec<String> = (0..40).map(|at| writer(project.path(), at, &[]).id().to_owned()).collect();
    let runs = Runs::open(project.path()).unwrap();
    assert_eq!(runs.find(&ids[7][..7]).unwrap().id(), ids[7]);
    assert_eq!(runs.find("").unwrap_err().kind, Kind::Usage);
    assert_eq!(runs.find("nothing").unwrap_err().kind, Kind::Usage);
    assert_eq!(runs.list().count(), 40);
}

#[test]
fn a_run_in_which_nothing_had_to_be_done_is_the_one_that_it_reused() {
    let project = tempfile::tempdir().unwrap();
    let mut base = writer(project.path(), 10, &["a"]);
    base.append(&finished(12, "a", Status::Succeeded)).unwrap();
    base.append(&Recorded { at: 13, event: Event::RunFinished { outcome: Outcome::Succeeded } }).unwrap();
    let base_id = base.id().to_owned();
    let mut ended = base.finish(Outcome::Succeeded, 13, None, Highlights::default()).unwrap();
    ended.tally = Tally { total: 1, cached: 1, ..Tally::default() };
    let meta = RunMeta { reused: Some(base_id.clone()), ..meta(20) };
    let id = RunWriter::record_reused(project.path(), meta, "spec", &ended).unwrap();
    let run = Runs::open(project.path()).unwrap().find(&id).unwrap();
    assert_eq!(run.ended(), Some(ended));
    let state = run.fold();
    assert_eq!(state.instances["a"].phase, Phase::Finished(Status::Cached));
    assert_eq!(run.log_path("a", 1), project.path().join(".mlctl/runs").join(base_id).join("logs/a.1.log"));
}

#[test]
fn a_place_that_cannot_be_written_to_says_what_to_do() {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join(".mlctl"), "in the way").unwrap();
    let error = RunWriter::create(project.path(), meta(1), "spec", []).unwrap_err();
    assert_eq!(error.kind, Kind::Missing);
    assert!(!error.hints.is_empty());
}
