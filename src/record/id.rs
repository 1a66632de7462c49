//! Run ids: eight letters and digits, at random, so that a few of them are enough to name a run.

use std::hash::{BuildHasher, RandomState};

/// No vowels and nothing that looks like something else: ids are read aloud, and spell no words.
const ALPHABET: &[u8] = b"bcdfghjkmnpqrstvwxz23456789";

/// How many signs an id has.
const LENGTH: usize = 8;

/// The first sign is a letter, so that an id never looks like a number.
const LETTERS: usize = 19;

/// A new id.
pub(crate) fn new() -> String {
    // Hashers are seeded by the system: chance enough for a name whose clashes are found when its directory is made.
    let mut random = RandomState::new().hash_one(std::process::id());
    let mut next = |among: usize| {
        let digit = random % among as u64;
        random /= among as u64;
        char::from(ALPHABET[digit as usize])
    };
    let first = next(LETTERS);
    std::iter::once(first).chain((1..LENGTH).map(|_| next(ALPHABET.len()))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_short_and_differ() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| super::new()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 8 && id.starts_with(|c: char| c.is_ascii_lowercase())));
    }
}
