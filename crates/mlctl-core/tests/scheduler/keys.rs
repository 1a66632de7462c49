//! What a key promises: what makes a result another, and what does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_core::forecast::{Forecast, Known, Outlook, Why, forecast};
use mlctl_core::key::differing;
use mlctl_core::scheduler::NoKey;

use super::flow::{facts, try_plan};

/// A store in which every key has a result: what the key says.
struct Full;

impl Known for Full {
    fn result(&mut self, key: &Digest) -> Option<Arc<ActionResult>> {
        let artifact = Artifact { kind: ArtifactKind::Directory, digest: *key, size: 1 };
        let value = mlctl_core::value::Value::Int(1);
        let outputs = ["data", "parts", "model"];
        Some(Arc::new(ActionResult {
            artifacts: outputs.iter().map(|name| ((*name).to_owned(), artifact)).collect(),
            values: [("number".to_owned(), value)].into(),
            millis: 0,
        }))
    }

    fn entries(&mut self, _: &Artifact) -> Result<Vec<String>, String> {
        Ok(vec!["b".to_owned(), "a".to_owned()])
    }

    fn entry(&mut self, _: &Artifact, path: &str) -> Result<Artifact, String> {
        // The same whatever directory it is in.
        Ok(Artifact { kind: ArtifactKind::File, digest: Digest::of(path.as_bytes()), size: 1 })
    }

    fn file(&mut self, path: &str) -> Result<Artifact, String> {
        Ok(Artifact { kind: ArtifactKind::File, digest: Digest::of(path.as_bytes()), size: 1 })
    }
}

fn seen(spec: &str, params: &[(&str, &str)]) -> Forecast {
    let plan = try_plan(spec, params, &[]).expect("a plan");
    let facts = facts(&plan);
    forecast(plan, facts, &mut Full)
}

/// The keys by instance id.
fn keys(spec: &str, params: &[(&str, &str)]) -> BTreeMap<String, Digest> {
    let forecast = seen(spec, params);
    forecast.iter().map(|(instance, _)| (instance.id(), instance.key().expect("a key"))).collect()
}

/// The components in which `step` differs between two specs.
fn changes(step: &str, before: &str, after: &str, params: &[(&str, &str)]) -> Vec<String> {
    let of = |spec, params| {
        let forecast = seen(spec, params);
        let (instance, _) = forecast.iter().find(|(instance, _)| instance.id() == step).expect("the step");
        (forecast.components(instance.ix), instance.key())
    };
    let ((before, key_before), (after, key_after)) = (of(before, &[]), of(after, params));
    let changed: Vec<String> = differing(&before, &after).into_iter().map(str::to_owned).collect();
    assert_eq!(changed.is_empty(), key_before == key_after, "the key tells of its components and nothing else");
    changed
}

const BASE: &str = r#"
params.seed = 7
params.other = 1
[steps.prepare]
command = ["p", "{{ params.other }}"]
outputs.data = {}
[steps.train]
command = ["t", "{{ inputs.data }}", "{{ params.seed }}"]
env.X = "1"
inputs.data = "prepare.data"
inputs.raw = { path = "raw.csv" }
outputs.model = { at = "model.pkl" }
"#;

#[test]
fn every_component_is_named_when_it_changes() {
    for (from, to, changed) in [
        (r#""t", "#, r#""t2", "#, "command"),
        (r#"env.X = "1""#, r#"env.X = "2""#, "env"),
        (r#"at = "model.pkl""#, r#"at = "m.pkl""#, "outputs"),
        (r#"path = "raw.csv""#, r#"path = "raw2.csv""#, "input:raw"),
        (r#"["p", "#, r#"["p2", "#, "input:data"),
        (
            r#"inputs.raw = "#,
            r#"secrets = ["S"]
inputs.raw = "#,
            "secrets",
        ),
        (
            r#"inputs.raw = "#,
            r#"settings = ["S"]
inputs.raw = "#,
            "settings",
        ),
    ] {
        assert!(BASE.contains(from), "{from}");
        assert_eq!(changes("train", BASE, &BASE.replacen(from, to, 1), &[]), [changed]);
    }
    assert_eq!(changes("train", BASE, BASE, &[("seed", "8")]), ["param:seed"]);
}

#[test]
fn what_does_not_change_what_is_computed_is_not_keyed() {
    for (from, to) in [
        (r#"outputs.model = { at"#, r#"outputs.model = { kind = "model", export = "m.pkl", at"#),
        (r#"env.X = "1""#, "env.X = \"1\"\nretry = { limit = 3 }\ntimeout = \"1m\"\nresources = { cpu = 2 }"),
        (r#"env.X = "1""#, "env.X = \"1\"\ncaches = [\"c\"]\ncheckpoint = true\nallow-failure = true"),
        (r#"env.X = "1""#, "env.X = \"1\"\nneeds = [\"prepare\"]"),
    ] {
        assert!(BASE.contains(from), "{from}");
        assert_eq!(changes("train", BASE, &BASE.replacen(from, to, 1), &[]), Vec::<String>::new(), "{to}");
    }
    // Of the params only those that it names; not its own name, not the name of what makes its input.
    let renamed = BASE.replace("prepare", "made").replace("steps.train", "steps.fit");
    assert_eq!(keys(BASE, &[])["train"], keys(&renamed, &[])["fit"]);
    let before = keys(BASE, &[]);
    let after = keys(&BASE.replace("params.other = 1\n", "params.other = 1\nparams.unused = 2\n"), &[]);
    assert_eq!(before, after);
}

#[test]
fn an_entry_keys_the_entry_alone() {
    let spec = r#"
        [steps.split]
        command = ["s", "1"]
        outputs.parts = {}
        [steps.each]
        command = ["e"]
        matrix.part = "split.parts"
        inputs.part = "split.parts/{{ matrix.part }}"
        outputs.model = {}
        [steps.all]
        command = ["a"]
        inputs.models = "each[*].model"
        "#;
    let (before, after) = (keys(spec, &[]), keys(&spec.replace("\"1\"", "\"2\""), &[]));
    assert_eq!(before.keys().collect::<Vec<_>>(), ["all", "each@part=a", "each@part=b", "split"]);
    assert_ne!(before["split"], after["split"]);
    assert_eq!(before["each@part=a"], after["each@part=a"]);
    assert_eq!(before["all"], after["all"]);
    assert_ne!(before["each@part=a"], before["each@part=b"]);
}

#[test]
fn a_gather_keys_who_is_in_it() {
    let spec = |depths: &str| {
        format!(
            "[steps.train]\ncommand = [\"t\"]\nmatrix.depth = {depths}\noutputs.model = {{}}\n\
             [steps.all]\ncommand = [\"a\"]\ninputs.models = \"train[*].model\"\n"
        )
    };
    let (two, three) = (keys(&spec("[2, 4]"), &[]), keys(&spec("[2, 4, 8]"), &[]));
    assert_ne!(two["all"], three["all"]);
    assert_eq!(two["train@depth=4"], three["train@depth=4"]);
}

#[test]
fn what_is_never_reused_has_components_but_no_key() {
    let spec = r#"
        environments.unlocked.python = "3.12"
        steps.off = { command = ["c"], cache = false }
        steps.id = { command = ["c", "{{ run.id }}"] }
        steps.env = { command = ["c"], environment = "unlocked" }
        steps.last = { command = ["c"], finally = true }
        "#;
    let forecast = seen(spec, &[]);
    let outlooks: Vec<&Outlook> = forecast.iter().map(|(_, outlook)| outlook).collect();
    let unlocked = NoKey::EnvironmentUnknown(Some("unlocked".to_owned()));
    for (outlook, why) in outlooks.into_iter().zip([NoKey::CacheOff, NoKey::RunId, unlocked, NoKey::Finally]) {
        assert_eq!(*outlook, Outlook::Runs(Why::NoKey(why)));
    }
    assert!(forecast.iter().all(|(instance, _)| forecast.components(instance.ix).contains_key("command")));
}
