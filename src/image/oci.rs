//! What an image is to registries and to containerd: the forms of the Open Container Initiative.

use std::io::{self, Write};

use serde_json::json;

/// The type of a manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The type of a config.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The type of a layer that is not compressed.
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The annotation by which containerd knows how an image of an archive is called.
const NAME: &str = "io.containerd.image.name";

/// Names the form that an archive has.
pub(super) const LAYOUT_FILE: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
/// Where an archive says which images it holds.
pub(super) const INDEX_FILE: &str = "index.json";

/// Some bytes that others name by their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// What they are.
    pub(super) media_type: String,
    /// `sha256:...`
    pub(super) digest: String,
    /// How many.
    pub(super) size: u64,
}

impl Blob {
    /// The config of an image.
    pub(super) fn config(bytes: &[u8]) -> Self {
        Self::of(CONFIG, bytes)
    }

    /// Bytes of this type.
    pub(super) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: sha256(bytes), size: bytes.len() as u64 }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
}

/// The manifest of an image.
pub(super) fn manifest(config: &Blob, layers: &[Blob]) -> Vec<u8> {
    let layers: Vec<_> = layers.iter().map(Blob::to_json).collect();
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config.to_json(), "layers": layers });
    manifest.to_string().into_bytes()
}

/// The index of an archive with one image, for containerd to call it `name`.
pub(super) fn index(manifest: &Blob, name: &str) -> Vec<u8> {
    let mut entry = manifest.to_json();
    entry["annotations"] = json!({ NAME: name });
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string().into_bytes()
}

/// Where an archive has a blob.
pub(super) fn path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// `sha256:...`
pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.0.update(bytes);
    hasher.finish()
}

/// SHA-256 of what comes in pieces, as images write it. (Of gigabytes: this one is quick also where nothing is optimised.)
pub(super) struct Sha256(ring::digest::Context);

impl Sha256 {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// `sha256:...`
    pub(super) fn finish(self) -> String {
        let digest = self.0.finish();
        digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }
}

impl Write for Sha256 {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
