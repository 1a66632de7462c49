//! What a forecast says, and that it is what a run then does.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_core::event::{Reason, Status};
use mlctl_core::forecast::{Outlook, Why, forecast};
use mlctl_core::value::Value;

use super::flow::{facts, planned};

/// The outlook of every instance, where the results of `stored` steps are stored.
fn outlooks(spec: &str, stored: usize) -> BTreeMap<String, Outlook> {
    let artifact = Artifact { kind: ArtifactKind::File, digest: Digest::of(b"x"), size: 1 };
    let result = Arc::new(ActionResult {
        artifacts: [("o".to_owned(), artifact)].into(),
        values: [("v".to_owned(), Value::Int(1)), ("l".to_owned(), Value::Json(serde_json::json!(["x", "y"])))].into(),
        millis: 0,
    });
    let mut known: HashMap<Digest, Arc<ActionResult>> = HashMap::new();
    let plan = planned(spec, &[]);
    let mut left = stored;
    let found = forecast(plan.clone(), facts(&plan), &mut |key: &Digest| {
        if left > 0 && !known.contains_key(key) {
            left -= 1;
            known.insert(*key, result.clone());
        }
        known.get(key).cloned()
    });
    found.iter().map(|(instance, outlook)| (instance.id(), outlook.clone())).collect()
}

fn cached() -> Outlook {
    Outlook::Ends(Status::Cached, None)
}

fn after(instance: &str) -> Outlook {
    Outlook::Runs(Why::DependsOn(instance.to_owned()))
}

#[test]
fn hits_misses_and_what_hangs_on_them() {
    let spec = r#"
        steps.a = { command = ["a"], outputs.o = {} }
        steps.b = { command = ["b"], inputs.o = "a.o", outputs.o = {} }
        steps.c = { command = ["c"], inputs.o = "b.o" }
        "#;
    let found = outlooks(spec, 1);
    assert_eq!(found["a"], cached());
    assert_eq!(found["b"], Outlook::Runs(Why::NoResult));
    assert_eq!(found["c"], after("b"));
    assert!(outlooks(spec, 9).values().all(|outlook| *outlook == cached()));
}

#[test]
fn what_is_needed_for_order_alone_does_not_make_others_run() {
    let spec = r#"
        steps.a = { command = ["a"], outputs.o = {} }
        steps.m = { command = ["m"], cache = false }
        steps.b = { command = ["b"], needs = ["m"], inputs.o = "a.o", outputs.o = {} }
        steps.c = { command = ["c"], needs = ["b"], inputs.o = "b.o" }
        "#;
    let found = outlooks(spec, 9);
    assert!(matches!(found["m"], Outlook::Runs(Why::NoKey(_))), "{:?}", found["m"]);
    assert_eq!((&found["b"], &found["c"]), (&cached(), &cached()));
    let found = outlooks(spec, 1);
    assert_eq!((&found["b"], &found["c"]), (&Outlook::Runs(Why::NoResult), &after("b")));
}

#[test]
fn a_step_whose_instances_are_not_known_is_one_line_until_its_source_is_stored() {
    let spec = r#"
        steps.split = { command = ["s"], outputs.l = { type = "json" } }
        steps.map = { command = ["m"], matrix.part = "split.l", outputs.o = {} }
        steps.reduce = { command = ["r"], inputs.os = "map[*].o" }
        "#;
    let found = outlooks(spec, 0);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["map", "reduce", "split"]);
    assert_eq!((&found["map"], &found["reduce"]), (&after("split"), &after("map")));
    let found = outlooks(spec, 1);
    assert_eq!(found["map@part=x"], Outlook::Runs(Why::NoResult));
    assert_eq!(found["reduce"], after("map@part=x"));
}

#[test]
fn skips_are_told_ahead_as_far_as_they_are_known() {
    let spec = r#"
        params.model = "gbt"
        steps.a = { command = ["a"], outputs.v = { type = "int" }, outputs.o = {} }
        steps.b = { command = ["b"], inputs.o = "a.o", outputs.o = {}, when = "params.model == 'mlp'" }
        steps.c = { command = ["c"], inputs.o = "b.o" }
        steps.d = { command = ["d"], outputs.o = {}, when = "a.v > 1" }
        "#;
    let skipped = |reason| Outlook::Ends(Status::Skipped, Some(reason));
    let found = outlooks(spec, 0);
    assert_eq!(found["b"], skipped(Reason::When));
    assert_eq!(found["c"], skipped(Reason::DependencySkipped { instance: "b".to_owned() }));
    assert_eq!(found["d"], after("a"));
    let found = outlooks(spec, 1);
    assert_eq!(found["d"], skipped(Reason::When));
}
