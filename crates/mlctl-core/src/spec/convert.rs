//! TOML values as values.

use toml::de::DeValue;

use crate::value::Value;

/// What a value is, in words.
pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A string, number or boolean as a value.
pub(crate) fn scalar(value: &DeValue<'_>) -> Result<Value, &'static str> {
    match value {
        DeValue::String(text) => Ok(Value::String(text.clone().into_owned())),
        DeValue::Boolean(value) => Ok(Value::Bool(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Int)
            .map_err(|_| "an integer must fit in 64 bits"),
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err("a float must be a finite number"),
        },
        DeValue::Datetime(_) => Err("dates are not supported: put it in quotes"),
        DeValue::Array(_) => Err("a list is not allowed here"),
        DeValue::Table(_) => Err("a table is not allowed here"),
    }
}

/// Any value; nesting is bounded by the TOML parser.
pub(crate) fn value(from: &DeValue<'_>) -> Result<Value, &'static str> {
    match from {
        DeValue::Array(_) | DeValue::Table(_) => json(from).map(Value::Json),
        other => scalar(other),
    }
}

/// Any value as JSON.
pub(crate) fn json(from: &DeValue<'_>) -> Result<serde_json::Value, &'static str> {
    Ok(match from {
        DeValue::Array(array) => {
            serde_json::Value::Array(array.iter().map(|element| json(element.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => serde_json::Value::Object(
            table
                .iter()
                .map(|(name, value)| Ok((name.get_ref().clone().into_owned(), json(value.get_ref())?)))
                .collect::<Result<_, &'static str>>()?,
        ),
        other => match scalar(other)? {
            Value::Bool(value) => value.into(),
            Value::Int(value) => value.into(),
            Value::Float(value) => value.into(),
            Value::String(value) => value.into(),
            Value::Json(value) => value,
        },
    })
}
