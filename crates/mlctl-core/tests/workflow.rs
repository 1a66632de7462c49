//! What a valid spec means: names resolved, defaults merged, steps in order.

use std::time::Duration;

use mlctl_core::context::{EngineKind, SecretFrom};
use mlctl_core::diag::{Source, render};
use mlctl_core::spec::{self, Level};
use mlctl_core::template::{Piece, Template};
use mlctl_core::value::{Type, Value};
use mlctl_core::workflow::{
    ArtifactRole, AxisValues, BaseImages, EnvironmentKind, Expr, Input, InputFrom, Matrix, OutputKind, OutputRef,
    Program, Shell, Step, Workflow,
};

fn workflow(text: &str) -> Workflow {
    let source = Source { name: "mlctl.toml".to_owned(), text: text.to_owned() };
    match spec::parse(&source) {
        Ok(parsed) => parsed.workflow,
        Err(diags) => panic!("{}", render(&source, &diags, false)),
    }
}

fn everything() -> Workflow {
    workflow(include_str!("spec/good/everything.toml"))
}

fn step<'w>(workflow: &'w Workflow, name: &str) -> &'w Step {
    workflow.steps.iter().find(|step| step.name == name).expect("the step")
}

fn input<'s>(step: &'s Step, name: &str) -> &'s Input {
    step.inputs.iter().find(|input| input.name == name).expect("the input")
}

/// A reference as it would be written.
fn written(workflow: &Workflow, reference: &OutputRef) -> String {
    let step = &workflow.steps[reference.step.0 as usize];
    let mut selection: Vec<_> = reference.picks.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    selection.extend(reference.gather.then(|| "*".to_owned()));
    let selection = if selection.is_empty() { String::new() } else { format!("[{}]", selection.join(",")) };
    let entry = reference.entry.as_ref().map(|entry| format!("/{entry}")).unwrap_or_default();
    format!("{}{selection}.{}{entry}", step.name, step.outputs[reference.output].name)
}

fn sources(workflow: &Workflow, from: &InputFrom) -> Vec<String> {
    match from {
        InputFrom::One(one) => vec![written(workflow, one)],
        InputFrom::Gather(refs) | InputFrom::First(refs) => refs.iter().map(|one| written(workflow, one)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_merge_tables_and_replace_the_rest() {
    let workflow = everything();
    let split = step(&workflow, "split");
    let env: Vec<_> = split.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["LEVEL=2", "MORE=x{{ params.rate }}", "SHARED={{ params.region }}"]);
    assert_eq!((split.resources.cpu_millis, split.resources.memory), (Some(500), Some(2 << 30)));
    assert_eq!((split.resources.gpu, split.resources.shm), (Some(1), Some(64 << 20)));
    assert_eq!(split.resources.disk, Some(3 << 39));
    assert_eq!((split.retry.limit, split.retry.backoff), (3, Duration::from_secs(10)));
    assert_eq!(split.timeout, Some(Duration::from_secs(5400)));
    let join = step(&workflow, "join");
    assert_eq!(join.caches, ["hub", "pip"]);
    assert!(!join.cache && join.checkpoint);
    assert_eq!(join.needs.iter().map(|ix| workflow.steps[ix.0 as usize].name.as_str()).collect::<Vec<_>>(), ["named"]);
    assert!(step(&workflow, "setup").needs.is_empty(), "a step does not need itself because of the defaults");
    let Program::Script { shell, .. } = &step(&workflow, "setup").program else { panic!("a script") };
    assert_eq!(*shell, Shell::Bash);
}

#[test]
fn a_step_receives_the_params_it_names() {
    let workflow = everything();
    let names = |name| step(&workflow, name).params.iter().cloned().collect::<Vec<_>>();
    assert_eq!(names("split"), ["count", "rate", "region"]);
    assert_eq!(names("join"), ["name", "nested", "region"]);
    // Those in `when` and on an axis decide whether and what runs: the step does not see them.
    assert_eq!(names("named_later"), ["region"]);
    assert_eq!(names("each"), ["region"]);
}

#[test]
fn references_are_resolved() {
    let workflow = everything();
    let join = step(&workflow, "join");
    let from = |name| sources(&workflow, &input(join, name).from);
    assert_eq!(from("all"), ["zip[*].model", "third[*].model", "setup.flag"]);
    assert_eq!(from("one"), ["zip[depth=2,rate=0.1].model"]);
    assert_eq!(from("some"), ["zip[depth=2,*].model"]);
    assert_eq!(from("best"), ["by_depth[depth=2].best", "setup.flag"]);
    assert!(matches!(input(join, "best").from, InputFrom::First(_)));
    assert!(matches!(input(join, "several").from, InputFrom::Gather(_)));
    assert!(input(join, "maybe").optional && !input(join, "one").optional);
    let InputFrom::One(one) = &input(join, "one").from else { panic!("one") };
    assert_eq!(one.picks, [("depth".to_owned(), Value::Int(2)), ("rate".to_owned(), Value::Float(0.1))]);
    let each = step(&workflow, "each");
    assert_eq!(sources(&workflow, &input(each, "part").from), ["split.parts/{{ matrix.part }}"]);
    assert!(matches!(&each.matrix, Matrix::Tables(tables) if matches!(&tables[0][0].values, AxisValues::Dynamic(_))));
    assert!(
        matches!(&each.matrix, Matrix::Tables(tables) if tables[0][1].values == AxisValues::Param("sizes".to_owned()))
    );
}

#[test]
fn the_instances_of_another_step_are_those_of_the_step_that_lists_them() {
    let workflow = everything();
    let zip = workflow.steps.iter().position(|step| step.name == "zip").expect("zip");
    for name in ["again", "third"] {
        assert!(matches!(step(&workflow, name).matrix, Matrix::Same(ix) if ix.0 as usize == zip), "{name}");
    }
}

#[test]
fn order_is_as_written_where_nothing_forbids_it() {
    let workflow = everything();
    let order: Vec<_> = workflow.order.iter().map(|ix| workflow.steps[ix.0 as usize].name.as_str()).collect();
    let expected = "setup split each named zip again third by_depth named_later join tell";
    assert_eq!(order.join(" "), expected);
}

#[test]
fn finally_is_last_uncached_and_takes_what_there_is() {
    let text = r#"
        [project]
        name = "p"
        [steps.tell]
        finally = true
        inputs.x = "a.x"
        command = ["tell", "{{ run.status }}"]
        [steps.a]
        command = ["a"]
        outputs.x = {}
    "#;
    let workflow = workflow(text);
    let tell = step(&workflow, "tell");
    assert!(!tell.cache && input(tell, "x").optional);
    assert_eq!(workflow.order.iter().map(|ix| ix.0).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn templates_keep_what_is_no_reference() {
    let workflow = everything();
    let Program::Command(argv) = &step(&workflow, "split").program else { panic!("a command") };
    assert_eq!(argv[1], Template(vec![Piece::Text("{{ as it is }}".to_owned())]));
    assert_eq!(argv[2], Template(vec![Piece::Param("count".to_owned())]));
    assert_eq!(argv[3], Template(vec![Piece::Text("--run=".to_owned()), Piece::RunId]));
}

#[test]
fn params_have_the_types_of_their_defaults() {
    let workflow = everything();
    let types: Vec<_> = workflow.params.values().map(|decl| decl.ty).collect();
    assert_eq!(types, [Type::Int, Type::Float, Type::String, Type::Bool, Type::List, Type::List, Type::String]);
    assert_eq!(workflow.params["rate"].default, Some(Value::Float(1.0)));
    assert_eq!(workflow.params["rate"].min, Some(Value::Float(0.0)));
    assert_eq!(workflow.params["name"].default, None);
}

#[test]
fn outputs_and_environments() {
    let workflow = everything();
    let split = step(&workflow, "split");
    assert_eq!(split.outputs[3].what, OutputKind::Artifact(ArtifactRole::Metrics));
    let keys = vec!["by_region".to_owned(), "eu".to_owned()];
    assert_eq!(split.outputs[4].what, OutputKind::Value { ty: Type::Float, from: Some((3, keys)) });
    assert_eq!(split.environment.as_deref(), Some("default"));
    let EnvironmentKind::Build(build) = &workflow.environments["built"].kind else { panic!("a build") };
    assert_eq!((build.dockerfile.as_str(), build.dir.as_str()), ("docker/Dockerfile", "docker"));
}

#[test]
fn conditions_keep_each_value_once() {
    let text = r#"
        [project]
        name = "p"
        [steps.a]
        command = ["a"]
        outputs.v = { type = "int" }
        [steps.b]
        command = ["b"]
        when = "a.v > 1 and a.v < 5"
    "#;
    let workflow = workflow(text);
    let when = step(&workflow, "b").when.as_ref().expect("a condition");
    assert_eq!(when.refs.len(), 1);
    let v = |value: i64| move |leaf: &Expr| matches!(leaf, Expr::Output(0)).then_some(Value::Int(value));
    assert_eq!(mlctl_core::condition::eval(&when.expr, &v(3)), Ok(true));
    assert_eq!(mlctl_core::condition::eval(&when.expr, &v(5)), Ok(false));
}

#[test]
fn only_the_users_file_may_say_where_secrets_are() {
    let text = r#"
        [contexts.cloud]
        engine = "argo"
        secrets.A = { env = "A" }
        secrets.B = { file = "/run/b" }
        secrets.C = { command = ["pass", "c"] }
        secrets.D = { secret = "ml", key = "d" }
    "#;
    let source = Source { name: "config.toml".to_owned(), text: text.to_owned() };
    let contexts = spec::parse_contexts(&source, Level::User).expect("valid for a user");
    let cloud = &contexts["cloud"];
    assert_eq!(cloud.engine, Some(EngineKind::Argo));
    assert_eq!(cloud.secrets["A"], SecretFrom::Env("A".to_owned()));
    assert_eq!(cloud.secrets["C"], SecretFrom::Command(vec!["pass".to_owned(), "c".to_owned()]));
    for level in [Level::Local, Level::Project] {
        let codes: Vec<_> =
            spec::parse_contexts(&source, level).expect_err("refused").iter().map(|diag| diag.code).collect();
        assert_eq!(codes, ["user-level-only"; 3]);
    }
}

#[test]
fn a_file_of_contexts_has_nothing_else() {
    let source = Source { name: "config.toml".to_owned(), text: "[steps.a]\ncommand = [\"x\"]\n".to_owned() };
    let diags = spec::parse_contexts(&source, Level::User).expect_err("refused");
    assert_eq!(diags[0].code, "unknown-key");
}

#[test]
fn numbers_are_read_as_toml_writes_them() {
    let text = "[project]\nname = 'p'\n[params]\na = 1_000\nb = 0xff\nc = 1_000.5\nd = +7\ne = 6.02e23\nf = 0b101\n[steps.a]\nscript = 'true'\n";
    let workflow = workflow(text);
    let values: Vec<_> = workflow.params.values().map(|decl| decl.default.clone().expect("a default")).collect();
    let int = Value::Int;
    assert_eq!(values, [int(1000), int(255), Value::Float(1000.5), int(7), Value::Float(6.02e23), int(5)]);
}

#[test]
fn files_of_other_editors_are_read() {
    let text = "\u{feff}[project]\r\nname = 'p'\r\n[steps.a]\r\nscript = '''\r\necho a\r\necho b'''\r\n";
    let workflow = workflow(text);
    let Program::Script { text, .. } = &step(&workflow, "a").program else { panic!("a script") };
    assert_eq!(text.lines().collect::<Vec<_>>(), ["echo a", "echo b"]);
    assert!(!text.starts_with('\n'), "{text:?}");
}

#[test]
fn places_in_files_with_windows_line_ends_are_right() {
    let text =
        "[project]\r\nname = 'p'\r\n[steps.a]\r\ncommand = [\"x\", \"\"\"\r\none\r\n{{ params.nope }}\"\"\"]\r\n";
    let source = Source { name: "mlctl.toml".to_owned(), text: text.to_owned() };
    let diags = spec::parse(&source).expect_err("refused");
    assert_eq!(source.text.get(diags[0].span.range()), Some("params.nope"));
}

#[test]
fn base_images_are_those_of_the_context_over_the_project_over_the_usual_ones() {
    let image = |images: &BaseImages, python| images.image(python);
    let usual = BaseImages::default();
    assert_eq!(image(&usual, Some("3.12")), "python:3.12-slim");
    assert_eq!(image(&usual, None), "debian:bookworm-slim");
    let project = everything().base_images;
    assert_eq!(image(&project, Some("3.11")), "acme.example:5000/mirror/python:3.11-slim-3.11");
    let context = everything().contexts["cloud-1"].base_images.over(&project);
    assert_eq!(image(&context, Some("3.11")), "acme.example/python-3.11");
    assert_eq!(context.plain, project.plain);
}
