//! Taking secrets out of texts. Only what stands there literally is found: not what a program encoded first.

use std::collections::BTreeMap;

/// What stands in the place of a secret.
const MASK: &[u8] = b"***";

/// What is shorter, in bytes, stands in ordinary words too: of logs without it little would be left, and what was left
/// out could be told from the rest.
const SHORTEST: usize = 4;

/// What of a secret must not be seen: as programs print line by line, each line of it that is long enough.
pub(crate) fn parts(secret: &str) -> impl Iterator<Item = &str> {
    secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST)
}

/// Whether anything of a secret is taken out.
pub fn hides(secret: &str) -> bool {
    parts(secret).next().is_some()
}

/// `text` without the secrets.
pub(crate) fn text(secrets: &BTreeMap<String, String>, text: String) -> String {
    if secrets.is_empty() {
        return text;
    }
    let mut clean = Vec::with_capacity(text.len());
    let mut filter = Filter::new(secrets);
    filter.push(text.as_bytes(), &mut clean);
    filter.finish(&mut clean);
    String::from_utf8_lossy(&clean).into_owned()
}

/// Takes secrets out of a stream that comes in pieces.
#[derive(Debug)]
pub struct Filter {
    secrets: Vec<Vec<u8>>,
    /// Bytes that a secret starts with.
    starts: [bool; 256],
    /// What may be the beginning of a secret that goes on in the next piece.
    held: Vec<u8>,
    /// How much of `held` belongs to a secret already seen.
    covered: usize,
}

impl Filter {
    /// Takes out these secrets.
    pub fn new(secrets: &BTreeMap<String, String>) -> Self {
        let secrets: Vec<_> = secrets.values().flat_map(|secret| parts(secret)).map(|part| part.into()).collect();
        let mut starts = [false; 256];
        for secret in &secrets {
            let secret: &Vec<u8> = secret;
            starts[usize::from(secret[0])] = true;
        }
        Self { secrets, starts, held: Vec::new(), covered: 0 }
    }

    /// Appends to `clean` what of the stream is certain by now.
    pub fn push(&mut self, piece: &[u8], clean: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        self.advance(false, clean);
    }

    /// The stream ends here.
    pub fn finish(&mut self, clean: &mut Vec<u8>) {
        self.advance(true, clean);
    }

    /// Secrets may overlap: what any of them covers is masked, once for each stretch.
    fn advance(&mut self, ended: bool, clean: &mut Vec<u8>) {
        let (mut at, mut covered) = (0, self.covered);
        while at < self.held.len() {
            let rest = &self.held[at..];
            if self.starts[usize::from(rest[0])] {
                let open = |secret: &&Vec<u8>| secret.len() > rest.len() && secret.starts_with(rest);
                if !ended && self.secrets.iter().any(|secret| open(&secret)) {
                    break;
                }
                let found = self.secrets.iter().filter(|secret| rest.starts_with(secret)).map(Vec::len).max();
                if let Some(length) = found {
                    if at >= covered {
                        clean.extend_from_slice(MASK);
                    }
                    covered = covered.max(at + length);
                }
            }
            if at >= covered {
                clean.push(rest[0]);
            }
            at += 1;
        }
        self.held.drain(..at);
        self.covered = covered.saturating_sub(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(secrets: &[&str], pieces: &[&str]) -> String {
        let named = secrets.iter().enumerate().map(|(at, secret)| (at.to_string(), (*secret).to_owned())).collect();
        let mut filter = Filter::new(&named);
        let mut clean = Vec::new();
        pieces.iter().for_each(|piece| filter.push(piece.as_bytes(), &mut clean));
        filter.finish(&mut clean);
        String::from_utf8(clean).unwrap()
    }

    #[test]
    fn a_secret_is_found_wherever_the_stream_is_cut() {
        let text = "token=hunter2, twice hunter2hunter2 and hunter";
        for cut in 0..=text.len() {
            let (one, two) = text.split_at(cut);
            assert_eq!(clean(&["hunter2"], &[one, two]), "token=***, twice ****** and hunter", "{cut}");
        }
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(clean(&["hunter2"], &bytes), "token=***, twice ****** and hunter");
    }

    #[test]
    fn overlapping_secrets_leave_nothing() {
        assert_eq!(clean(&["abcd", "bcde"], &["xab", "cdex"]), "x***x");
        assert_eq!(clean(&["abcd", "abcdefg"], &["abcd", "efx abcdefg"]), "***efx ***");
    }

    #[test]
    fn secrets_of_several_lines_are_found_line_by_line() {
        assert_eq!(clean(&["-BEGIN-\nMIIE\n-END-\n"], &["key: MIIE\n-END-"]), "key: ***\n***");
        assert_eq!(clean(&["{\n  \"key\": 7\n}\n"], &["{x} \"key\": 7\n"]), "{x} ***\n");
    }

    #[test]
    fn what_is_empty_or_short_hides_nothing() {
        assert_eq!(clean(&["", "\n", " ", "a", "the"], &["a b, the c\n"]), "a b, the c\n");
        assert_eq!(
            ["", "a\n", "the", " the\n", "then", "a\nthen"].map(hides),
            [false, false, false, false, true, true]
        );
    }

    #[test]
    fn what_cannot_be_a_secret_is_not_held_back() {
        let mut filter = Filter::new(&BTreeMap::from([("A".to_owned(), "hunter2".to_owned())]));
        let mut clean = Vec::new();
        filter.push(b"progress 10 %\n", &mut clean);
        assert_eq!(clean, b"progress 10 %\n");
    }
}
