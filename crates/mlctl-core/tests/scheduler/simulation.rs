//! Thousands of random workflows, run in random order with random failures, against the oracle.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mlctl_core::event::{Event, Outcome, Reason, Status};
use mlctl_core::plan::{Plan, Request, plan};
use mlctl_core::workflow::Workflow;

use super::chance::Chance;
use super::oracle::{End, ends, sources};
use super::random::workflow;
use super::world::{Mishaps, Nature, Story, follow, run};

const SEEDS: u64 = 3000;

/// A random workflow that can be planned, with its plan.
fn random(seed: u64) -> Option<(Workflow, Plan, Nature)> {
    let workflow = workflow(&mut Chance::new(seed));
    let plan = plan(Arc::new(workflow.clone()), BTreeMap::new(), &Request::default()).ok()?;
    Some((workflow, plan, Nature(seed)))
}

/// For each random workflow: its plan, what must come out, and a chance to run it by.
fn each(check: impl Fn(&Workflow, Plan, Nature, &BTreeMap<String, End>, &mut Chance)) {
    let mut planned = 0;
    for seed in 0..SEEDS {
        let Some((workflow, plan, nature)) = random(seed) else { continue };
        planned += 1;
        let ends = ends(&workflow, &nature);
        let mut chance = Chance::new(seed ^ 0xabcd);
        let checked = || check(&workflow, plan, nature, &ends, &mut chance);
        catch_unwind(AssertUnwindSafe(checked)).unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(planned > SEEDS / 2, "only {planned} of {SEEDS} could be planned");
}

fn statuses(events: &[Event]) -> BTreeMap<String, (Status, Option<Reason>)> {
    let ended = events.iter().filter_map(|event| match event {
        Event::InstanceFinished { instance, status, reason, .. } => Some((instance.clone(), (*status, reason.clone()))),
        _ => None,
    });
    ended.collect()
}

fn is_finally(workflow: &Workflow, id: &str) -> bool {
    workflow.steps.iter().any(|step| step.finally && Some(step.name.as_str()) == id.split('@').next())
}

/// Everything that must hold of any run that was neither cancelled nor stopped by a failure.
fn check_story(workflow: &Workflow, ends: &BTreeMap<String, End>, story: &Story) {
    let found = statuses(&story.events);
    let ended: BTreeMap<&str, Status> = found.iter().map(|(id, (status, _))| (id.as_str(), *status)).collect();
    let wanted: BTreeMap<&str, Status> = ends.iter().map(|(id, end)| (id.as_str(), end.status)).collect();
    assert_eq!(ended, wanted, "{:#?}", story.events);
    for (id, (_, reason)) in &found {
        if let Some(Reason::DependencyFailed { allowed, .. }) = reason {
            assert_eq!(*allowed, ends[id].allowed, "{id}");
        }
    }
    let failed = ends.values().any(|end| end.status == Status::Failed && !end.allowed);
    assert_eq!(story.outcome, if failed { Outcome::Failed } else { Outcome::Succeeded });
    check_order(workflow, ends, &story.events);
}

/// Nothing starts before what it depends on has ended; nobody is tried more often than the retries say.
fn check_order(workflow: &Workflow, ends: &BTreeMap<String, End>, events: &[Event]) {
    let step = |id: &str| workflow.steps.iter().find(|step| Some(step.name.as_str()) == id.split('@').next());
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    let (mut failures, mut attempts): (HashMap<&str, u32>, HashMap<&str, u32>) = Default::default();
    for event in events {
        match event {
            Event::InstanceStarted { instance, attempt, .. } => {
                let before = attempts.insert(instance, *attempt);
                assert!(before < Some(*attempt), "{instance}: attempt {attempt} after {before:?}");
                let after = ends.get(instance).map(|end| &end.after);
                for other in after.into_iter().flatten() {
                    assert!(ended.contains(other.as_str()), "{instance} started before {other} ended");
                }
                assert!(!ended.contains(instance.as_str()), "{instance} started after it ended");
            }
            Event::InstanceRetrying { instance, failure: Some(_), .. } => {
                let failed = failures.entry(instance).or_default();
                *failed += 1;
                let limit = step(instance).expect("a step").retry.limit;
                assert!(*failed <= limit, "{instance} was tried too often");
            }
            Event::InstanceFinished { instance, .. } => {
                assert!(ended.insert(instance), "{instance} ended twice");
            }
            _ => {}
        }
    }
    let last = events.last().expect("an event");
    assert!(matches!(last, Event::RunFinished { .. }), "{last:?}");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::RunFinished { .. })).count(), 1);
    assert!(matches!(events[0], Event::RunStarted { .. }));
}

#[test]
fn every_order_of_events_gives_what_the_oracle_says() {
    let mishaps = Mishaps { lost: 10, stale: 10, ..Mishaps::default() };
    each(|workflow, plan, nature, ends, chance| {
        for _ in 0..2 {
            let story = run(plan.clone(), nature, chance, mishaps, false, &[]);
            check_story(workflow, ends, &story);
        }
    });
}

#[test]
fn a_journal_cut_anywhere_goes_on_as_if_nothing_had_happened() {
    let mishaps = Mishaps { lost: 5, stale: 5, ..Mishaps::default() };
    each(|workflow, plan, nature, ends, chance| {
        let whole = run(plan.clone(), nature, chance, mishaps, false, &[]);
        let lines: Vec<String> =
            whole.events.iter().map(|event| serde_json::to_string(event).expect("an event") + "\n").collect();
        let journal = lines.concat();
        let cut = chance.below(journal.len() + 1);
        // What is not a whole line was not written.
        let kept = journal[..cut].rfind('\n').map_or("", |end| &journal[..end]);
        let earlier: Vec<Event> = kept.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        let story = run(plan, nature, chance, mishaps, false, &earlier);
        assert_eq!(story.events[..earlier.len()], earlier, "the past has changed");
        if earlier.is_empty() || !matches!(earlier.last(), Some(Event::RunFinished { .. })) {
            check_story(workflow, ends, &story);
        } else {
            assert_eq!(story.events.len(), earlier.len(), "a run that had ended recorded more");
        }
    });
}

#[test]
fn cancelling_ends_everything_once_and_starts_nothing_more() {
    each(|workflow, plan, nature, ends, chance| {
        let cancel = Some(1 + chance.below(30));
        let cancel_again = chance.percent(30).then(|| 1 + chance.below(40));
        let mishaps = Mishaps { lost: 5, stale: 5, cancel, cancel_again };
        let story = run(plan, nature, chance, mishaps, false, &[]);
        let found = statuses(&story.events);
        check_order(workflow, ends, &story.events);
        let cut = |reason: &Option<Reason>| *reason == Some(Reason::Cancelled);
        // What `finally` steps do turns on how the run stands: on whether it was cancelled.
        for (id, end) in ends.iter().filter(|(id, _)| !is_finally(workflow, id)) {
            match found.get(id) {
                Some((Status::Cancelled, Some(Reason::Cancelled))) => {}
                Some((Status::Cancelled, Some(Reason::DependencyFailed { instance, .. }))) => {
                    assert!(matches!(found[instance].0, Status::Failed | Status::Cancelled), "{id}");
                }
                Some((status, _)) => assert_eq!(*status, end.status, "{id}"),
                // Its step never expanded.
                None => assert!(cut(&found[id.split('@').next().expect("a step")].1), "{id}"),
            }
        }
        if found.values().any(|(_, reason)| cut(reason)) {
            assert_eq!(story.outcome, Outcome::Cancelled);
        }
        // Cancelled once, before they began, `finally` steps run.
        if cancel_again.is_none() && found.iter().any(|(id, (_, reason))| !is_finally(workflow, id) && cut(reason)) {
            assert!(found.iter().all(|(id, (_, reason))| !is_finally(workflow, id) || !cut(reason)), "{found:#?}");
        }
    });
}

#[test]
fn fail_fast_starts_nothing_after_the_first_failure() {
    each(|workflow, plan, nature, ends, chance| {
        let story = run(plan, nature, chance, Mishaps::default(), true, &[]);
        check_order(workflow, ends, &story.events);
        let mut failed = false;
        let mut launched: BTreeSet<&str> = BTreeSet::new();
        for event in &story.events {
            match event {
                Event::InstanceFinished { instance, status: Status::Failed, reason: None, .. }
                    if !is_finally(workflow, instance) =>
                {
                    failed = true;
                }
                Event::InstanceStarted { instance, .. } => {
                    launched.insert(instance);
                }
                Event::InstanceRetrying { instance, .. } if failed => {
                    assert!(is_finally(workflow, instance), "{instance}")
                }
                Event::InstanceFinished {
                    instance,
                    status: Status::Cancelled,
                    reason: Some(Reason::FailFast),
                    attempts,
                    ..
                } => {
                    assert!(failed && (*attempts == 0 || launched.contains(instance.as_str())));
                }
                _ => {}
            }
        }
        for (id, (status, reason)) in statuses(&story.events) {
            if reason != Some(Reason::FailFast) && !is_finally(workflow, &id) && !failed {
                assert_eq!(status, ends[&id].status, "{id}");
            }
        }
    });
}

#[test]
fn a_run_elsewhere_is_followed_by_its_records_in_any_order() {
    each(|_, plan, nature, ends, chance| {
        let mishaps = Mishaps { lost: 5, ..Mishaps::default() };
        let mut events = run(plan.clone(), nature, chance, mishaps, false, &[]).events;
        for last in (1..events.len()).rev() {
            events.swap(last, chance.below(last + 1));
        }
        let (statuses, outcome) = follow(plan, nature, &events);
        assert_eq!(statuses, ends.iter().map(|(id, end)| (id.clone(), end.status)).collect());
        assert!(outcome.is_some());
    });
}

#[test]
fn targets_make_what_they_need_and_nothing_else() {
    each(|workflow, _, nature, ends, chance| {
        let main: Vec<&String> = ends.keys().filter(|id| !is_finally(workflow, id)).collect();
        let mut targets: Vec<String> = (0..1 + chance.below(2)).map(|_| (*chance.pick(&main)).clone()).collect();
        // A step for all its instances.
        let all = targets.swap_remove(0);
        let step = all.split('@').next().expect("a name").to_owned();
        let (all, named) = if chance.percent(30) {
            (main.iter().filter(|id| id.split('@').next() == Some(&step)).map(|id| (*id).clone()).collect(), step)
        } else {
            (vec![all.clone()], all)
        };
        let request = Request { targets: [targets.clone(), vec![named]].concat(), ..Request::default() };
        targets.extend(all);
        let plan = plan(Arc::new(workflow.clone()), BTreeMap::new(), &request).expect("a plan");
        let story = run(plan, nature, chance, Mishaps::default(), false, &[]);
        let made = statuses(&story.events);
        let mut needed: BTreeSet<&String> = BTreeSet::new();
        let mut left: Vec<&String> = targets.iter().collect();
        while let Some(id) = left.pop() {
            if needed.insert(id) {
                left.extend(&ends[id].after);
            }
        }
        // What an instance that will not come to be would need is made all the same: it is not known before.
        let exact = workflow.steps.iter().all(|step| sources(workflow, step).next().is_none());
        for (id, (status, _)) in made.iter().filter(|(id, _)| !is_finally(workflow, id)) {
            assert_eq!(*status, ends[id].status, "{id}");
            assert!(!exact || needed.contains(id), "{id} was not needed for {targets:?}");
        }
        assert!(needed.iter().all(|id| made.contains_key(*id)), "{targets:?} need {needed:?}");
    });
}
