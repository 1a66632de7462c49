//! Names of images: `registry/path/name:tag@digest`.

use crate::error::CommandError;

/// The registry of names that say none.
pub(super) const HUB: &str = "docker.io";

/// A name in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) struct Reference<'a> {
    /// All of it.
    pub(in crate::image) text: &'a str,
    /// Without tag and digest.
    pub(in crate::image) name: &'a str,
    /// The tag, if it names one.
    pub(in crate::image) tag: Option<&'a str>,
    /// The digest, if it names one.
    pub(in crate::image) digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Takes a name apart.
    pub(in crate::image) fn parse(text: &'a str) -> Result<Self, CommandError> {
        let bad =
            |reason: &str| CommandError::usage(format!("`{text}` is no name of an image")).cause(reason.to_owned());
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(bad("after `@` comes `sha256:` and 64 hexadecimal digits"));
        }
        // The colon of a port is before a slash.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let word = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/[]".contains(&byte))
        };
        if !word(name) || tag.is_some_and(|tag| !word(tag)) {
            return Err(bad("it is `[REGISTRY/]NAME[:TAG]` of letters, digits, `.`, `_` and `-`"));
        }
        let reference = Self { text, name, tag, digest };
        if reference.repository().1.chars().any(char::is_uppercase) {
            return Err(bad("only the tag may have capital letters"));
        }
        Ok(reference)
    }

    /// The registry's host, as Docker's settings know it.
    pub(in crate::image) fn host(&self) -> &'a str {
        self.parts().0
    }

    /// The host, and the path there.
    pub(in crate::image) fn repository(&self) -> (&'a str, String) {
        let (host, path) = self.parts();
        let short = host == HUB && !path.contains('/');
        (host, if short { format!("library/{path}") } else { path.to_owned() })
    }

    fn parts(&self) -> (&'a str, &'a str) {
        match self.name.split_once('/') {
            // As Docker tells hosts from the first part of a path.
            Some(("index.docker.io", path)) => (HUB, path),
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (HUB, self.name),
        }
    }
}

/// Whether this is a digest that registries use.
pub(in crate::image) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("python@{digest}");
        for (text, host, path, tag) in [
            ("python", "docker.io", "library/python", None),
            ("python:3.11-slim", "docker.io", "library/python", Some("3.11-slim")),
            ("acme/train", "docker.io", "acme/train", None),
            ("docker.io/acme/train:1", "docker.io", "acme/train", Some("1")),
            ("index.docker.io/library/python", "docker.io", "library/python", None),
            ("localhost/train", "localhost", "train", None),
            ("localhost:5001/train", "localhost:5001", "train", None),
            ("ghcr.io/acme/train:1.4", "ghcr.io", "acme/train", Some("1.4")),
            ("[::1]:5000/train:X", "[::1]:5000", "train", Some("X")),
            (&pinned, "docker.io", "library/python", None),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.repository(), (host, path.to_owned()), "{text}");
            assert_eq!(reference.tag, tag, "{text}");
            assert_eq!(reference.digest.is_some(), text.contains('@'), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "a b", "python:", "python@sha256:1", "Python", "-x y", "a\nb"] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
