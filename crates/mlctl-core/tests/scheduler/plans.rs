//! What is planned, and what is refused.

use mlctl_core::plan::{Plan, PlanError};

use super::flow::{planned, try_plan};

fn ids(plan: &Plan) -> Vec<String> {
    plan.instances().map(|ix| plan.graph.id(ix)).collect()
}

/// The code and message of the only diagnostic.
fn refused(spec: &str, params: &[(&str, &str)]) -> (&'static str, String) {
    match try_plan(spec, params, &[]) {
        Err(PlanError::Workflow(diags)) if diags.len() == 1 => (diags[0].code, diags[0].message.clone()),
        other => panic!("{:?}", other.map(|plan| ids(&plan))),
    }
}

#[test]
fn matrices_are_products_the_last_axis_fastest_and_unions_in_the_first_tables_order() {
    let plan = planned(
        r#"
        steps.a = { command = ["c"], matrix = { x = [1, 2], y = ["p", "q/r"] } }
        steps.b = { command = ["c"], matrix = [{ x = 1, y = [1, 2] }, { y = 3, x = [1.5] }] }
        steps.c = { command = ["c"], matrix = "a" }
        "#,
        &[],
    );
    let wanted = "a@x=1,y=p a@x=1,y=q%2Fr a@x=2,y=p a@x=2,y=q%2Fr \
                  b@x=1,y=1 b@x=1,y=2 b@x=1.5,y=3 \
                  c@x=1,y=p c@x=1,y=q%2Fr c@x=2,y=p c@x=2,y=q%2Fr";
    assert_eq!(ids(&plan).join(" "), wanted);
}

#[test]
fn a_step_may_take_the_instances_of_one_that_comes_after_it() {
    let spec = r#"
        steps.early = { command = ["c"], matrix = "late", outputs.o = {} }
        steps.late = { command = ["c"], matrix.x = [1, 2], inputs.o = "early.o" }
        "#;
    assert_eq!(ids(&planned(spec, &[])), ["early@x=1", "early@x=2", "late@x=1", "late@x=2"]);
    assert_eq!(ids(&planned(spec, &["late@x=2"])), ["early@x=2", "late@x=2"]);
}

#[test]
fn list_params_are_axes_and_lists_that_are_none_are_refused() {
    let spec = r#"
        params.regions = { type = "list", default = ["eu", "us"] }
        steps.a = { command = ["c"], matrix.region = "params.regions" }
        "#;
    assert_eq!(ids(&planned(spec, &[])), ["a@region=eu", "a@region=us"]);
    let plan = try_plan(spec, &[("regions", "[]")], &[]).expect("an empty fan-out");
    assert_eq!(ids(&plan).len(), 0);
    let (code, message) = refused(spec, &[("regions", r#"["eu", "eu"]"#)]);
    assert_eq!((code, message.as_str()), ("matrix-values", "axis `region` has the value `eu` twice"));
    let (code, message) = refused(spec, &[("regions", r#"["eu", ["us"]]"#)]);
    assert_eq!(code, "matrix-values");
    assert!(message.contains(r#"`["us"]` is not a string, number or boolean"#), "{message}");
}

#[test]
fn more_than_a_million_instances_are_refused_before_they_are_made() {
    let spec = r#"
        params = { xs = { type = "list", default = [] }, ys = { type = "list", default = [] } }
        steps.a = { command = ["c"], matrix = { x = "params.xs", y = "params.ys" } }
        "#;
    let list = |count: usize| format!("{:?}", (0..count).collect::<Vec<_>>());
    let (code, message) = refused(spec, &[("xs", &list(1001)), ("ys", &list(1000))]);
    assert_eq!((code, message.as_str()), ("matrix-values", "`y` makes more than 1000000 instances of the step"));
}

#[test]
fn an_instance_without_its_counterpart_is_refused() {
    let spec = r#"
        params.depths = { type = "list", default = [2, 4] }
        steps.train = { command = ["c"], matrix.depth = [2, 4], outputs.model = {} }
        steps.evaluate = { command = ["c"], matrix.depth = "params.depths", inputs.model = "train.model" }
        "#;
    assert_eq!(ids(&planned(spec, &[])).len(), 4);
    let (code, message) = refused(spec, &[("depths", "[2, 8]")]);
    assert_eq!(code, "no-such-instance");
    assert_eq!(message, "`evaluate@depth=8` needs `train` with depth = 8, which does not exist");
}

#[test]
fn long_arguments_and_variables_are_refused_where_they_can_only_come_from_values() {
    let spec = r#"
        params.text = "short"
        steps.a = { command = ["c", "--text={{ params.text }}"] }
        "#;
    assert_eq!(ids(&planned(spec, &[])), ["a"]);
    let just_fits = "x".repeat(128 * 1024 - "MLCTL_PARAM_TEXT=".len() - 1);
    try_plan(spec, &[("text", just_fits.as_str())], &[]).expect("a plan");
    let (code, _) = refused(spec, &[("text", &format!("{just_fits}x"))]);
    assert_eq!(code, "argument-too-long");
}

#[test]
fn targets_are_steps_or_instances_and_take_along_what_they_need() {
    let spec = r#"
        steps.prepare = { command = ["c"], outputs.data = {} }
        steps.split = { command = ["c"], outputs.parts = { type = "json" } }
        [steps.train]
        command = ["c"]
        matrix = { depth = [2, 4], fold = [1, 2] }
        inputs.data = "prepare.data"
        outputs.model = {}
        [steps.best]
        command = ["c"]
        matrix.depth = [2, 4]
        inputs.models = "train[*].model"
        [steps.pick]
        command = ["c"]
        inputs.model = "train[depth=4,fold=1].model"
        [steps.map]
        command = ["c"]
        matrix.part = "split.parts"
        outputs.o = {}
        [steps.reduce]
        command = ["c"]
        needs = ["best"]
        inputs.os = "map[*].o"
        [steps.report]
        command = ["c"]
        finally = true
        inputs.model = "train[depth=2,fold=1].model"
        "#;
    let of = |target: &str| ids(&planned(spec, &[target])).join(" ");
    assert_eq!(of("prepare"), "prepare report");
    assert_eq!(of("best@depth=2"), "prepare train@depth=2,fold=1 train@depth=2,fold=2 best@depth=2 report");
    assert_eq!(of("pick"), "prepare train@depth=4,fold=1 pick report");
    assert_eq!(of("map@part=x"), "split report");
    assert_eq!(of("reduce").split(' ').count(), 10);
    for unknown in ["nothing", "train@depth=3,fold=1", "train@depth=2", "map@fold=1"] {
        let error = try_plan(spec, &[], &[unknown]).expect_err("no such target");
        assert_eq!(error, PlanError::UnknownTarget { target: unknown.to_owned() });
    }
}

#[test]
fn conditions_are_folded_over_params_and_axes() {
    let plan = planned(
        r#"
        params.model = "gbt"
        steps.a = { command = ["c"], outputs.v = { type = "int" } }
        [steps.b]
        command = ["c"]
        matrix.n = [1, 2]
        when = "matrix.n == 1 and params.model == 'gbt'"
        [steps.c]
        command = ["c"]
        matrix.n = [1, 2]
        when = "matrix.n == 1 and a.v > 0"
        "#,
        &[],
    );
    let folded: Vec<Option<bool>> = plan.instances().map(|ix| plan.folded_when(ix)).collect();
    assert_eq!(folded, [None, Some(true), Some(false), None, Some(false)]);
}

#[test]
fn the_plan_names_what_it_needs_from_outside() {
    let plan = planned(
        r#"
        environments.cuda.python = "3.12"
        steps.fixed = { command = ["c"], inputs.raw = { path = "data/raw.csv" } }
        [steps.each]
        command = ["c"]
        environment = "cuda"
        matrix.n = [1, 2]
        inputs.part = { path = "data/{{ matrix.n }}.csv" }
        "#,
        &[],
    );
    let paths: Vec<String> = plan.project_paths().into_iter().map(|(path, _, _)| path).collect();
    assert_eq!(paths, ["data/raw.csv", "data/1.csv", "data/2.csv"]);
    assert_eq!(plan.environments().into_iter().collect::<Vec<_>>(), ["cuda"]);
}

#[test]
fn what_is_declared_does_not_depend_on_targets_or_params() {
    let spec = r#"
        params.region = "eu"
        params.samples = ["A", "B"]
        params.file = "data/whole.csv"
        steps.one = { command = ["c"], inputs.raw = { path = "{{ params.file }}" } }
        steps.two = { command = ["c"], inputs.raw = { path = "data/[x]/{{ params.region }}.csv" } }
        steps.three = { command = ["c"], matrix.n = [1, 2], inputs.raw = { path = "parts/{{ matrix.n }}.csv" } }
        steps.four = { command = ["c"], matrix.s = "params.samples", inputs.raw = { path = "s/{{ matrix.s }}{{ params.region }}" } }
        steps.five = { command = ["c"], outputs.list = { type = "json" } }
        steps.six = { command = ["c"], matrix.s = "five.list", inputs.raw = { path = "late/{{ matrix.s }}.csv" } }
        "#;
    let all = planned(spec, &[]).declared_paths();
    let globs: Vec<&str> = all.globs.iter().map(String::as_str).collect();
    assert_eq!(globs, ["data/[[]x[]]/*.csv", "late/*.csv", "s/*"]);
    let paths: Vec<&str> = all.paths.iter().map(String::as_str).collect();
    assert_eq!(paths, ["data/[x]/eu.csv", "data/whole.csv", "parts/1.csv", "parts/2.csv", "s/Aeu", "s/Beu"]);
    assert_eq!(planned(spec, &["three@n=2"]).declared_paths(), all);
    let other = try_plan(spec, &[("samples", r#"["C"]"#)], &[]).expect("a plan").declared_paths();
    assert_eq!(other.globs, all.globs);
}

#[test]
fn a_plan_as_json_is_the_same_every_time() {
    let spec = r#"
        params.seed = 7
        steps.a = { command = ["c", "{{ params.seed }}"], outputs.list = { type = "json" } }
        steps.b = { command = ["c"], matrix.n = [1, 2], inputs.list = "a.list", when = "matrix.n > 1" }
        steps.c = { command = ["c"], matrix.part = "a.list" }
        "#;
    let json = |plan: Plan| serde_json::to_value(plan).expect("JSON");
    let found = json(planned(spec, &[]));
    assert_eq!(found, json(planned(spec, &[])));
    assert_eq!(found["params"], serde_json::json!({ "seed": 7 }));
    assert_eq!(
        found["steps"][1]["instances"],
        serde_json::json!([
            { "id": "b@n=1", "matrix": { "n": 1 }, "when": false },
            { "id": "b@n=2", "matrix": { "n": 2 }, "when": true },
        ])
    );
    assert_eq!(found["steps"][1]["after"], serde_json::json!(["a"]));
    let dynamic = &found["steps"][2];
    assert_eq!((&dynamic["dynamic"], &dynamic["instances"]), (&true.into(), &serde_json::json!([])));
}

#[test]
fn needs_are_matched_on_shared_axes() {
    let plan = planned(
        r#"
        steps.warm_up = { command = ["w"], matrix = { depth = [2, 4], fold = [1, 2] } }
        steps.train = { command = ["t"], matrix.depth = [2, 4], needs = ["warm_up"] }
        "#,
        &["train@depth=2"],
    );
    assert_eq!(ids(&plan), ["warm_up@depth=2,fold=1", "warm_up@depth=2,fold=2", "train@depth=2"]);
}
