//! Value outputs: small typed texts, or numbers picked from a JSON file.

use mlctl_core::value::{MAX_VALUE_BYTES, Type, Value};
use serde_json::Value as Json;

/// The value of `ty` that a program wrote as `text`. One trailing newline is not part of it.
pub(crate) fn from_text(ty: Type, text: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.len() > MAX_VALUE_BYTES {
        return Err(too_large());
    }
    let bad = || format!("is not {}: {}", article(ty), excerpt(text));
    match ty {
        Type::String => Ok(Value::String(text.to_owned())),
        Type::Int => text.trim().parse().map(Value::Int).map_err(|_| bad()),
        Type::Float => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(bad()),
        },
        Type::Bool => text.trim().parse().map(Value::Bool).map_err(|_| bad()),
        Type::Json | Type::List => {
            let json = serde_json::from_str(text).map_err(|error| format!("{}: {error}", bad()))?;
            from_json(ty, json)
        }
    }
}

/// The value of `ty` at `keys` of a JSON text. Of JSON Lines, which is how a program records a value step by step, it
/// is the last line that counts: the final state.
pub(crate) fn from_document(ty: Type, document: &[u8], keys: &[String]) -> Result<Value, String> {
    let mut found = parse(document)?;
    for key in keys {
        let inner = match &mut found {
            Json::Object(members) => members.shift_remove(key),
            Json::Array(items) => key.parse().ok().and_then(|at: usize| items.get_mut(at)).map(Json::take),
            _ => None,
        };
        found = inner.ok_or_else(|| format!("has no `{}`: `{key}` was not found", keys.join(".")))?;
    }
    from_json(ty, found).map_err(|reason| format!("at `{}` {reason}", keys.join(".")))
}

fn parse(document: &[u8]) -> Result<Json, String> {
    let whole = match serde_json::from_slice(document) {
        Ok(json) => return Ok(json),
        Err(error) => error,
    };
    let last = document.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = document.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // It is JSON Lines if its first line stands on its own.
    let lines = serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok() && first.len() < document.len();
    let last = if lines { serde_json::from_slice(last) } else { Err(whole) };
    last.map_err(|error| format!("is not JSON: {error}"))
}

fn from_json(ty: Type, json: Json) -> Result<Value, String> {
    let value = match (ty, json) {
        (Type::String, Json::String(text)) => Value::String(text),
        (Type::Bool, Json::Bool(truth)) => Value::Bool(truth),
        (Type::List, list @ Json::Array(_)) => Value::Json(list),
        (Type::Int, Json::Number(number)) if number.is_i64() => Value::Int(number.as_i64().unwrap_or_default()),
        (Type::Float, Json::Number(number)) => match number.as_f64() {
            Some(number) if number.is_finite() => Value::Float(number),
            _ => return Err(format!("is not {}: {number}", article(ty))),
        },
        // As it would be read back: a scalar is the plain value.
        (Type::Json, json) => serde_json::from_value(json).map_err(|error| format!("is not a value: {error}"))?,
        (_, json) => return Err(format!("is not {}: {}", article(ty), excerpt(&json.to_string()))),
    };
    if matches!(ty, Type::String | Type::List | Type::Json) && value.to_string().len() > MAX_VALUE_BYTES {
        return Err(too_large());
    }
    Ok(value)
}

fn too_large() -> String {
    format!("is larger than {} KiB: make it a file output", MAX_VALUE_BYTES / 1024)
}

const fn article(ty: Type) -> &'static str {
    match ty {
        Type::String => "a string",
        Type::Int => "an int",
        Type::Float => "a finite float",
        Type::Bool => "`true` or `false`",
        Type::List => "a JSON list",
        Type::Json => "JSON",
    }
}

fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short:?}...") } else { format!("{short:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_type() {
        assert_eq!(from_text(Type::Int, b"42\n"), Ok(Value::Int(42)));
        assert_eq!(from_text(Type::Float, b"1"), Ok(Value::Float(1.0)));
        assert_eq!(from_text(Type::String, b"a\n\n"), Ok(Value::String("a\n".to_owned())));
        assert_eq!(from_text(Type::String, b""), Ok(Value::String(String::new())));
        assert_eq!(from_text(Type::Bool, b"true\n"), Ok(Value::Bool(true)));
        assert_eq!(from_text(Type::Json, b"{\"a\": [1]}"), Ok(Value::Json(serde_json::json!({"a": [1]}))));
        assert_eq!(from_text(Type::Json, b"3"), Ok(Value::Int(3)));
    }

    #[test]
    fn what_is_not_of_the_type_is_refused() {
        for (ty, text) in [
            (Type::Int, "1.5"),
            (Type::Int, ""),
            (Type::Float, "nan"),
            (Type::Float, "inf"),
            (Type::Float, "-Infinity"),
            (Type::Float, "1e999"),
            (Type::Bool, "yes"),
            (Type::Json, "NaN"),
            (Type::Json, "{\"a\": NaN}"),
        ] {
            assert!(from_text(ty, text.as_bytes()).is_err(), "{ty} {text}");
        }
        assert!(from_text(Type::String, b"\xff").is_err());
    }

    #[test]
    fn the_limit_is_that_of_the_text() {
        let text = "x".repeat(MAX_VALUE_BYTES);
        assert!(from_text(Type::String, format!("{text}\n").as_bytes()).is_ok());
        assert!(from_text(Type::String, format!("{text}y").as_bytes()).is_err());
        assert!(from_document(Type::String, format!("{{\"a\":\"{text}y\"}}").as_bytes(), &["a".to_owned()]).is_err());
    }

    #[test]
    fn keys_lead_into_a_document() {
        let keys = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let document = br#"{"test": {"accuracy": 0.5, "n": [3, 4], "ok": true}}"#;
        assert_eq!(from_document(Type::Float, document, &keys("test.accuracy")), Ok(Value::Float(0.5)));
        assert_eq!(from_document(Type::Int, document, &keys("test.n.1")), Ok(Value::Int(4)));
        assert!(from_document(Type::Int, document, &keys("test.accuracy")).is_err());
        assert!(from_document(Type::Float, document, &keys("test.recall")).is_err());
    }

    #[test]
    fn of_json_lines_the_last_counts() {
        let keys = ["loss".to_owned()];
        let lines = b"{\"step\": 1, \"loss\": 0.9}\n{\"step\": 2, \"loss\": 0.4}\n";
        assert_eq!(from_document(Type::Float, lines, &keys), Ok(Value::Float(0.4)));
        assert!(from_document(Type::Float, b"{\"loss\": 1}\n{\"loss\": NaN}\n", &keys).is_err());
        assert!(from_document(Type::Float, b"{\"loss\": 1", &keys).is_err());
    }
}
