//! The JSON Schema and the parser are made from one table of keys: these tests hold that nothing is in one only.

use std::fs;
use std::path::Path;

use mlctl_core::diag::Source;
use mlctl_core::schema::json_schema;
use mlctl_core::spec;
use serde_json::Value;

/// The codes of what is wrong in a spec.
fn codes(text: &str) -> Vec<&'static str> {
    let source = Source { name: "mlctl.toml".to_owned(), text: text.to_owned() };
    spec::parse(&source).err().unwrap_or_default().iter().map(|diag| diag.code).collect()
}

/// Every table of the schema with closed keys, as a dotted path, and its keys.
fn tables(schema: &Value, path: &str, found: &mut Vec<(String, Vec<String>)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(properties) = schema["properties"].as_object() {
        found.push((path.to_owned(), properties.keys().cloned().collect()));
        for (name, property) in properties {
            tables(property, &below(name), found);
        }
    }
    if schema["additionalProperties"].is_object() {
        tables(&schema["additionalProperties"], &below("x"), found);
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        tables(alternative, path, found);
    }
}

#[test]
fn the_parser_reads_exactly_the_keys_of_the_schema() {
    let mut found = Vec::new();
    tables(&json_schema(), "", &mut found);
    assert!(found.len() >= 14, "{found:?}");
    for (path, keys) in found {
        let dot = if path.is_empty() { "" } else { "." };
        for key in keys {
            // A date is never right: what must not be wrong is the key.
            let codes = codes(&format!("{path}{dot}{key} = 1979-05-27\n"));
            assert!(!codes.contains(&"unknown-key"), "the schema has {path}{dot}{key}, the parser has not");
            assert!(!codes.contains(&"syntax"), "{path}{dot}{key}");
        }
        let codes = codes(&format!("{path}{dot}zzzz = 1\n"));
        assert!(codes.contains(&"unknown-key"), "{path} takes any key: {codes:?}");
    }
}

#[test]
fn the_published_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mlctl.schema.json");
    let current = format!("{:#}\n", json_schema());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &current).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == current, "docs/mlctl.schema.json: BLESS=1 rewrites it");
}

/// Whether a value satisfies a schema, as far as ours use JSON Schema.
fn satisfies(value: &Value, schema: &Value) -> Result<(), String> {
    if let Some(alternatives) = schema["anyOf"].as_array()
        && !alternatives.iter().any(|alternative| satisfies(value, alternative).is_ok())
    {
        return Err(format!("{value} is none of {alternatives:?}"));
    }
    let is = |ty: &str| match ty {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        other => panic!("a type that this test does not know: {other}"),
    };
    let types = match &schema["type"] {
        Value::String(ty) => vec![ty.as_str()],
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.into_iter().any(is) {
        return Err(format!("{value} is not of type {}", schema["type"]));
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        return Err(format!("{value} is none of {choices:?}"));
    }
    if value.as_i64() < schema["minimum"].as_i64() {
        return Err(format!("{value} is too small"));
    }
    for element in value.as_array().into_iter().flatten() {
        if schema["items"].is_object() {
            satisfies(element, &schema["items"])?;
        }
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap_or_default()).is_none() {
            return Err(format!("{required} is missing"));
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(property), _) => satisfies(value, property)?,
            (None, Value::Bool(false)) => return Err(format!("{name} is unknown")),
            (None, more) => satisfies(value, more)?,
        }
    }
    Ok(())
}

#[test]
fn good_specs_satisfy_the_schema() {
    let schema = json_schema();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/good");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let spec: Value = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(satisfies(&spec, &schema), Ok(()), "{}", path.display());
    }
}

#[test]
fn what_the_schema_can_see_it_refuses() {
    let schema = json_schema();
    let project = "[project]\nname = \"p\"\n";
    for bad in [
        "steps.a.comand = []",
        "steps.a.command = \"x\"",
        "steps.a.cache = 1",
        "steps.a.outputs.x.kind = \"modle\"",
        "steps = 3",
    ] {
        let spec: Value = toml::from_str(&format!("{bad}\n{project}")).unwrap();
        assert!(satisfies(&spec, &schema).is_err(), "{bad}");
    }
}
