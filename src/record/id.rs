//! Run ids: eight letters and digits, at random, so that a few of them are enough to name a run.

/// No vowels and nothing that looks like something else: ids are read aloud, and spell no words.
const ALPHABET: &[u8] = b"bcdfghjkmnpqrstvwxz23456789";

/// The first sign is a letter, so that an id never looks like a number.
const LETTERS: usize = 19;

/// A new id.
pub(super) fn new() -> String {
    let mut random = [0_u8; 8];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(random.len()) {
        // Only ancient kernels and early boot get here; a clash is found when the directory is made.
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        random.copy_from_slice(&mlctl_core::digest::Digest::of(&nanos.to_le_bytes()).as_bytes()[..8]);
    }
    random
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            let among = if at == 0 { LETTERS } else { ALPHABET.len() };
            char::from(ALPHABET[usize::from(*byte) % among])
        })
        .collect()
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
