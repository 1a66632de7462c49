//! What a run is given for the params of a spec.

use mlctl_core::diag::Source;
use mlctl_core::params::{Given, GivenValue, ParamError, bind};
use mlctl_core::spec;
use mlctl_core::value::Value;
use mlctl_core::workflow::Workflow;
use serde_json::json;

const SPEC: &str = r#"
[project]
name = "p"

[params]
seed = 7
rate = { type = "float", default = 0.1, min = 1e-5, max = 1.0 }
model = { default = "gbt", choices = ["gbt", "mlp"] }
fast = false
regions = ["eu"]
data = { type = "string" }

[steps.a]
params = ["seed", "rate", "model", "fast", "regions", "data"]
script = "true"
"#;

fn workflow() -> Workflow {
    let source = Source { name: "mlctl.toml".to_owned(), text: SPEC.to_owned() };
    spec::parse(&source).expect("a valid spec").workflow
}

fn text(name: &str, value: &str) -> Given {
    Given { name: name.to_owned(), value: GivenValue::Text(value.to_owned()), from: "-p".to_owned() }
}

fn typed(name: &str, value: Value) -> Given {
    Given { name: name.to_owned(), value: GivenValue::Typed(value), from: "params.json".to_owned() }
}

/// The only error of what is given, `data` being there.
fn error(given: Given) -> ParamError {
    let mut errors = bind(&workflow(), &[text("data", "d"), given]).expect_err("refused");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

#[test]
fn defaults_are_taken_where_nothing_is_given() {
    let values = bind(&workflow(), &[text("data", "")]).expect("bound");
    assert_eq!(values.len(), 6);
    assert_eq!(values["seed"], Value::Int(7));
    assert_eq!(values["data"], Value::String(String::new()));
}

#[test]
fn texts_are_read_as_the_declared_type() {
    let nasty = "a 'b' \"c\"\n{{ params.x }} $(rm -rf /) ü";
    let given = [
        text("data", nasty),
        text("seed", "-3"),
        text("rate", "1e-3"),
        text("fast", "true"),
        text("regions", r#"["eu", 2, {"a": null}]"#),
    ];
    let values = bind(&workflow(), &given).expect("bound");
    assert_eq!(values["data"], Value::String(nasty.to_owned()));
    assert_eq!(values["seed"], Value::Int(-3));
    assert_eq!(values["rate"], Value::Float(0.001));
    assert_eq!(values["fast"], Value::Bool(true));
    assert_eq!(values["regions"], Value::Json(json!(["eu", 2, {"a": null}])));
}

#[test]
fn the_last_one_given_counts() {
    let given = [text("data", "a"), typed("seed", Value::Int(1)), text("seed", "2")];
    assert_eq!(bind(&workflow(), &given).expect("bound")["seed"], Value::Int(2));
}

#[test]
fn a_whole_number_is_a_float_where_one_is_wanted() {
    for given in [text("rate", "1"), typed("rate", Value::Int(1))] {
        assert_eq!(bind(&workflow(), &[text("data", "a"), given]).expect("bound")["rate"], Value::Float(1.0));
    }
}

#[test]
fn what_is_not_of_the_type_is_refused() {
    for (name, value) in [
        ("seed", "7.0"),
        ("seed", "seven"),
        ("seed", "99999999999999999999"),
        ("seed", ""),
        ("rate", "inf"),
        ("rate", "nan"),
        ("fast", "yes"),
        ("regions", "eu"),
        ("regions", "{}"),
    ] {
        let error = error(text(name, value));
        assert_eq!((error.param.as_str(), error.from.as_deref()), (name, Some("-p")), "{value}");
    }
    for value in [Value::String("7".to_owned()), Value::Float(7.0), Value::Json(json!(null))] {
        let error = error(typed("seed", value));
        assert!(error.message.contains("must be of type int"), "{error}");
    }
}

#[test]
fn what_the_limits_forbid_is_refused() {
    assert_eq!(error(text("rate", "2")).message, "param `rate` cannot be `2.0`: the largest value is 1.0");
    assert_eq!(error(text("rate", "0")).message, "param `rate` cannot be `0.0`: the smallest value is 1e-5");
    let choice = error(text("model", "mpl"));
    assert_eq!(choice.message, "param `model` cannot be `mpl`: the choices are `gbt`, `mlp`");
    assert_eq!(choice.help.as_deref(), Some("did you mean `mlp`?"));
}

#[test]
fn an_unknown_param_names_the_nearest() {
    let near = error(text("sed", "1"));
    assert_eq!(near.to_string(), "-p: there is no param `sed`");
    assert_eq!(near.help.as_deref(), Some("did you mean `seed`?"));
    let far = error(text("quite_different", "1"));
    assert!(far.help.expect("help").contains("`seed`, `rate`"));
}

#[test]
fn all_problems_are_told_at_once() {
    let errors = bind(&workflow(), &[text("seed", "x"), text("nope", "x")]).expect_err("refused");
    let params: Vec<_> = errors.iter().map(|error| error.param.as_str()).collect();
    assert_eq!(params, ["seed", "nope", "data"]);
    assert_eq!(errors[2].message, "param `data` needs a value of type string");
}
