//! Taking secrets out of texts.

/// What of a secret must not be seen: all of it, and, as programs print line by line, each line of it.
pub(crate) fn parts(secret: &str) -> impl Iterator<Item = &str> {
    secret.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.trim().is_empty())
}
