//! The JSON Schema of `mlctl.toml`, for editors: made from the table of keys that the parser reads by.

use serde_json::{Map, Value, json};

use crate::spec::keys::{FILE, Key, Shape, Table};

/// The schema (draft 7). What it cannot say, `mlctl check` does.
pub fn json_schema() -> Value {
    let mut schema = table(&FILE);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("mlctl.toml"));
    schema.insert("required".to_owned(), json!(["project", "steps"]));
    Value::Object(schema)
}

fn table(table: &Table) -> Map<String, Value> {
    let properties: Map<String, Value> =
        table.keys.iter().filter(|key| !matches!(key.shape, Shape::NotYet)).map(property).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn property(key: &Key) -> (String, Value) {
    let mut schema = shape(&key.shape);
    schema.insert("description".to_owned(), json!(key.help));
    (key.name.to_owned(), Value::Object(schema))
}

fn shape(of: &Shape) -> Map<String, Value> {
    let schema = match of {
        Shape::Text => json!({ "type": "string" }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Count(min) => json!({ "type": "integer", "minimum": min }),
        Shape::Number => json!({ "type": "number" }),
        Shape::Any | Shape::NotYet => json!({}),
        Shape::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Choice(choices) => json!({ "type": "string", "enum": choices }),
        Shape::List(element) => json!({ "type": "array", "items": shape(element) }),
        Shape::OneOf(shapes) => json!({ "anyOf": shapes.iter().map(shape).collect::<Vec<_>>() }),
        Shape::Table(of) => Value::Object(table(of)),
        Shape::Map(value) => json!({ "type": "object", "additionalProperties": shape(value) }),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}
