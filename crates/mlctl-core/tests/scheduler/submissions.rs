//! What the pods of a run read: from it they make the plan that was submitted.

use std::collections::BTreeMap;

use mlctl_core::action::{Artifact, ArtifactKind, CONTRACT};
use mlctl_core::context::ContextLayer;
use mlctl_core::digest::Digest;
use mlctl_core::submission::{Known, Part, Submission};
use mlctl_core::units::{Cutting, units};

use super::flow::{facts, planned};

const SPEC: &str = r#"
    params.least = 0.5
    steps.list = { command = ["c"], outputs = { l = { type = "json" }, n = { type = "float" } }, inputs.f = { path = "f" } }
    steps.each = { command = ["c"], matrix.x = "list.l", outputs.o = {} }
    steps.wide = { command = ["c"], matrix.x = [1, 2, 3], when = "list.n > params.least and not list.n == 1.0" }
    "#;

#[test]
fn a_submission_is_read_as_it_was_written() {
    let plan = planned(SPEC, &[]);
    let mut facts = facts(&plan);
    let file = Artifact { kind: ArtifactKind::File, digest: Digest::of(b"f"), size: 1 };
    facts.files.insert("f".to_owned(), Ok(file));
    facts.settings.insert("S".to_owned(), "s".to_owned());
    let cutting = Cutting { pods: 2, ..Cutting::of(&ContextLayer::default()) };
    let cut = units(&plan, &cutting, &|_| false);
    let submission = Submission {
        contract: CONTRACT,
        run: "r".to_owned(),
        store: "s3://bucket".to_owned(),
        results: BTreeMap::new(),
        fail_fast: false,
        spec: format!("project.name = \"test\"\n{SPEC}"),
        params: plan.params.clone(),
        targets: Vec::new(),
        force: Vec::new(),
        resources: BTreeMap::new(),
        known: Known::of(&plan, &facts),
        units: cut.iter().map(|unit| (plan.step(unit.first()).name.clone(), Part::of(&plan, unit, &cutting))).collect(),
    };
    let bytes = submission.to_bytes().expect("bytes");
    let read: Submission = serde_json::from_slice(&bytes).expect("a submission");
    assert_eq!(read, submission);
    assert_eq!(read.to_bytes().expect("bytes"), bytes);
    let (again, known) = read.plan().expect("the plan");
    assert_eq!(units(&again, &cutting, &|_| false), cut);
    assert_eq!(serde_json::to_string(&again).expect("json"), serde_json::to_string(&plan).expect("json"));
    assert_eq!(Known::of(&again, &known), submission.known);
    let wide = &read.units["wide"];
    assert_eq!((&wide.rows, wide.pods), (&Some(vec![(0, 2)]), Some(2)));
    let each = &read.units["each"];
    assert_eq!((&each.rows, each.pods), (&None, Some(2)));
}
