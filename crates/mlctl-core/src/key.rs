//! The cache key of an action: what it is made of, encoded so that no two actions share bytes.
//!
//! An action's *components* are digests by name: `command`, `env`, `outputs`, `sources`, `environment`, `param:NAME`,
//! `matrix:AXIS`, `input:NAME`, and `settings`, `secrets` where there are any. The key is the digest of
//! [`CONTRACT`], the number of components, and each with its name, sorted by name; so it does not depend on the order in
//! which a spec writes things. The components are stored beside a result: `why` compares them by name.
//!
//! Not keyed: the step's name, `export` and `kind` of outputs, resources, retries, timeouts, the names of caches and the
//! checkpoint (directories whose content is not keyed either; a command that uses one says so itself), the *values* of
//! settings and secrets.

use std::collections::BTreeMap;

use crate::action::{Artifact, ArtifactKind, CONTRACT, TaskOutput};
use crate::digest::Digest;
use crate::template::{Piece, Template};
use crate::value::Value;

/// A digest over fields, each with its length in front.
#[derive(Default)]
pub struct Encoder(blake3::Hasher);

impl Encoder {
    /// A digest whose first field says what is encoded.
    pub fn new(what: &str) -> Self {
        let mut encoder = Self::default();
        encoder.text(what);
        encoder
    }

    /// A number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
        self
    }

    /// A text that may be absent.
    pub fn option(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.number(0),
            Some(text) => self.number(1).text(text),
        }
    }

    /// A digest: its length is known.
    pub fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.0.update(digest.as_bytes());
        self
    }

    /// A list of texts.
    pub fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
        self
    }

    /// A value with its type.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        self.text(value.type_of().name()).text(&value.to_string())
    }

    /// A template, piece by piece: as it is written, before any value is put in.
    pub fn template(&mut self, template: &Template) -> &mut Self {
        self.number(template.0.len() as u64);
        for piece in &template.0 {
            let (kind, text) = match piece {
                Piece::Text(text) => ("text", text.as_str()),
                Piece::Param(name) => ("param", name.as_str()),
                Piece::Matrix(name) => ("matrix", name.as_str()),
                Piece::Input(name) => ("input", name.as_str()),
                Piece::Output(name) => ("output", name.as_str()),
                Piece::RunId => ("run.id", ""),
                Piece::RunStatus => ("run.status", ""),
            };
            self.text(kind).text(text);
        }
        self
    }

    /// An artifact.
    pub fn artifact(&mut self, artifact: &Artifact) -> &mut Self {
        let kind = match artifact.kind {
            ArtifactKind::File => "file",
            ArtifactKind::Executable => "executable",
            ArtifactKind::Directory => "directory",
        };
        self.text(kind).digest(&artifact.digest)
    }

    /// The declaration of an output.
    pub fn output(&mut self, name: &str, output: &TaskOutput) -> &mut Self {
        self.text(name).option(output.at.as_deref());
        let Some(value) = &output.value else { return self.number(0) };
        self.number(1).text(value.ty.name());
        match &value.from {
            None => self.number(0),
            Some((output, keys)) => self.number(1).text(output).texts(keys.iter().map(String::as_str)),
        }
    }

    /// The digest of all fields.
    pub fn finish(&self) -> Digest {
        self.0.finalize().into()
    }
}

/// The key of an action with these components, which must come sorted by name.
pub fn key<'a>(components: impl ExactSizeIterator<Item = (&'a str, Digest)>) -> Digest {
    let mut encoder = Encoder::new("mlctl action");
    encoder.number(CONTRACT.into()).number(components.len() as u64);
    for (name, digest) in components {
        encoder.text(name).digest(&digest);
    }
    encoder.finish()
}

/// The names of the components in which two actions differ: what makes a result not reusable, sorted.
pub fn differing<'a>(ours: &'a BTreeMap<String, Digest>, theirs: &'a BTreeMap<String, Digest>) -> Vec<&'a str> {
    let mut names: Vec<&str> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(fields: &[&str]) -> Digest {
        let mut encoder = Encoder::new("test");
        fields.iter().for_each(|field| {
            encoder.text(field);
        });
        encoder.finish()
    }

    #[test]
    fn fields_do_not_run_together() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["ab", ""]), digest(&["ab"]));
    }

    #[test]
    fn values_of_two_types_with_one_text_differ() {
        let of = |value: Value| Encoder::new("v").value(&value).finish();
        assert_ne!(of(Value::Int(1)), of(Value::String("1".into())));
        assert_ne!(of(Value::Float(1.0)), of(Value::String("1.0".into())));
    }

    #[test]
    fn a_reference_is_not_its_text() {
        let text = Template(vec![Piece::Text("seed".into())]);
        let param = Template(vec![Piece::Param("seed".into())]);
        assert_ne!(Encoder::new("t").template(&text).finish(), Encoder::new("t").template(&param).finish());
    }

    #[test]
    fn differing_names_what_changed_and_what_only_one_has() {
        let components = |of: &[(&str, &str)]| {
            of.iter().map(|(name, text)| ((*name).to_owned(), Digest::of(text.as_bytes()))).collect()
        };
        let (ours, theirs) =
            (components(&[("command", "a"), ("env", "e"), ("x", "1")]), components(&[("command", "b"), ("env", "e")]));
        assert_eq!(differing(&ours, &theirs), ["command", "x"]);
    }

    /// Keys are promises across machines and versions: this one may change only together with [`CONTRACT`].
    #[test]
    fn the_encoding_is_pinned() {
        let components = [("command", Digest::of(b"c")), ("sources", Digest::of(b"s"))];
        assert_eq!(key(components.into_iter()).short(), "1919e84f50c3");
    }
}
