//! Results as they are stored: JSON behind a line with its digest, so that a torn or foreign object is a miss.

use mlctl_core::digest::Digest;
use mlctl_exec::store::Entry;

const MAGIC: &str = "mlctl result 1 ";

/// The bytes of an entry.
pub(crate) fn encode(entry: &Entry) -> Vec<u8> {
    // It is made of maps with text keys: JSON can say it.
    let body = serde_json::to_vec(entry).unwrap_or_default();
    [MAGIC.as_bytes(), Digest::of(&body).to_hex().as_bytes(), b"\n", &body].concat()
}

/// The entry with these bytes.
pub(crate) fn decode(bytes: &[u8]) -> Option<Entry> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let (sum, rest) = rest.split_at_checked(64)?;
    let body = rest.strip_prefix(b"\n")?;
    (Digest::of(body).to_hex().as_bytes() == sum).then_some(())?;
    serde_json::from_slice(body).ok()
}
