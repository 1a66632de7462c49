//! The values on axes, each kept once: instances hold indices.

use std::collections::HashMap;

use super::id::encode;
use crate::value::Value;

/// Index of a value in [`Values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueIx(pub u32);

/// Index of a value's text, as ids have it. Two values with one text are the same coordinate: references match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextIx(u32);

/// The values on axes.
#[derive(Debug, Clone, Default)]
pub struct Values {
    values: Vec<(Value, TextIx)>,
    texts: Vec<Box<str>>,
    by_text: HashMap<Box<str>, TextIx>,
    by_value: HashMap<(TextIx, u8), ValueIx>,
}

impl Values {
    /// How many values there are: their indices are dense.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value's index.
    pub fn intern(&mut self, value: Value) -> ValueIx {
        let text = self.intern_text(&value);
        let ty = match value {
            Value::Bool(_) => 0,
            Value::Int(_) => 1,
            Value::Float(_) => 2,
            Value::String(_) => 3,
            Value::Json(_) => 4,
        };
        *self.by_value.entry((text, ty)).or_insert_with(|| {
            let ix = ValueIx(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
            self.values.push((value, text));
            ix
        })
    }

    /// The index of the value's text.
    pub fn intern_text(&mut self, value: &Value) -> TextIx {
        self.intern_encoded(&encode(&value.to_string()))
    }

    /// The index of a text that is encoded already.
    pub fn intern_encoded(&mut self, text: &str) -> TextIx {
        if let Some(&known) = self.by_text.get(text) {
            return known;
        }
        let ix = TextIx(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        self.texts.push(text.into());
        self.by_text.insert(text.into(), ix);
        ix
    }

    /// A value.
    pub fn value(&self, ix: ValueIx) -> &Value {
        &self.values[ix.0 as usize].0
    }

    /// The index of its text.
    pub fn text_ix(&self, ix: ValueIx) -> TextIx {
        self.values[ix.0 as usize].1
    }

    /// A text, encoded.
    pub fn text(&self, ix: TextIx) -> &str {
        &self.texts[ix.0 as usize]
    }
}
