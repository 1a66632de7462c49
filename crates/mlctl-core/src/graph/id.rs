//! Instance ids: `train@depth=2,fold=1`.

use std::fmt::Write as _;

use crate::digest::Digest;
use crate::value::Value;

/// Longest id that is kept whole, in bytes.
pub(crate) const MAX_BYTES: usize = 128;

/// How much is kept of a longer one.
const KEPT_BYTES: usize = 100;

/// The id of a step's instance with these axes.
pub fn instance_id(step: &str, axes: &[(&str, &Value)]) -> String {
    let texts: Vec<(&str, String)> = axes.iter().map(|(axis, value)| (*axis, encode(&value.to_string()))).collect();
    join(step, texts.iter().map(|(axis, text)| (*axis, text.as_str())))
}

/// An id from a step's name and its axes with their encoded values.
pub(crate) fn join<'a>(step: &str, axes: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut id = String::with_capacity(48);
    id.push_str(step);
    for (position, (axis, text)) in axes.enumerate() {
        id.push(if position == 0 { '@' } else { ',' });
        id.push_str(axis);
        id.push('=');
        id.push_str(text);
    }
    if id.len() > MAX_BYTES {
        let digest = Digest::of(id.as_bytes()).to_hex();
        id.truncate(KEPT_BYTES);
        id.push('~');
        id.push_str(&digest[..8]);
    }
    id
}

/// A value's text with everything but `A-Z a-z 0-9 . _ + -` percent-encoded.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    if text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_readable_and_safe_as_file_names() {
        let (two, text, real) = (Value::Int(2), Value::String("a/b c,d=é".into()), Value::Float(1.0));
        assert_eq!(instance_id("train", &[]), "train");
        assert_eq!(instance_id("train", &[("depth", &two), ("rate", &real)]), "train@depth=2,rate=1.0");
        assert_eq!(instance_id("train", &[("x", &text)]), "train@x=a%2Fb%20c%2Cd%3D%C3%A9");
    }

    #[test]
    fn long_ids_are_cut_and_stay_apart() {
        let long = |last: &str| instance_id("s", &[("x", &Value::String("v".repeat(200) + last))]);
        assert_eq!(long("1").len(), KEPT_BYTES + 9);
        assert_eq!(long("1")[..KEPT_BYTES], long("2")[..KEPT_BYTES]);
        assert_ne!(long("1"), long("2"));
        let whole = instance_id("s", &[("x", &Value::String("v".repeat(MAX_BYTES - 4)))]);
        assert_eq!((whole.len(), whole.contains('~')), (MAX_BYTES, false));
    }
}
