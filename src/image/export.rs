//! What the daemon exports an image as, rewritten on the fly: an archive that containerd takes in, without the layers that
//! are there already. Nothing larger than a description is held in memory, and nothing is written to disk.
//!
//! Daemons of Docker 25 and newer name each layer by its digest. Older ones name it by an id of the image format that came
//! before, with the description that the id is a digest of beside it: so it can be found out which layer it is before it
//! is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use tar::{Entry, EntryType};

use super::archive::{self, Archive, header};
use super::oci::{self, Blob, Sha256};

/// No description of an image is longer.
const LONGEST: u64 = 4 << 20;
/// Where an export says what it holds.
const CONTENTS: &str = "manifest.json";

/// What is to become of an export.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// What the image is to be called.
    pub(super) name: String,
    /// The digests of its layers without compression, the lowest first.
    pub(super) layers: Vec<String>,
    /// The digests of what need not be sent.
    pub(super) there: Arc<HashSet<String>>,
}

/// The export as an archive for containerd. The bytes of what is left out are counted.
pub(super) fn rewritten(
    export: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    wanted: Wanted,
    left_out: Arc<AtomicU64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let runtime = tokio::runtime::Handle::current();
    let incoming = Incoming { runtime, stream: Box::pin(export), chunk: Bytes::new() };
    archive::streamed(move |out| rewrite(incoming, out, &wanted, &left_out))
}

/// A stream, for a thread that waits for it.
struct Incoming<S> {
    runtime: tokio::runtime::Handle,
    stream: Pin<Box<S>>,
    chunk: Bytes,
}

impl<S: Stream<Item = io::Result<Bytes>>> Read for Incoming<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let taken = self.chunk.split_to(buffer.len().min(self.chunk.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

/// What was read of an export.
#[derive(Default)]
struct Export {
    /// Descriptions, by path.
    texts: HashMap<String, Vec<u8>>,
    /// Layers, by path.
    layers: HashMap<String, Blob>,
    /// Layers that are another one's: by path, the other path.
    links: HashMap<String, String>,
}

fn rewrite(input: impl Read, out: &mut Archive, wanted: &Wanted, left_out: &AtomicU64) -> io::Result<()> {
    let mut export = Export::default();
    for entry in tar::Archive::new(input).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        match entry.header().entry_type() {
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default().to_string_lossy().into_owned();
                export.links.insert(path.clone(), resolved(&path, &target));
            }
            EntryType::Regular | EntryType::Continuous => {
                let (size, mut start) = (entry.size(), Vec::new());
                entry.by_ref().take(if size > LONGEST { 512 } else { LONGEST }).read_to_end(&mut start)?;
                if size <= LONGEST && serde_json::from_slice::<serde::de::IgnoredAny>(&start).is_ok() {
                    export.texts.insert(path, start);
                } else if path.starts_with("blobs/") || path.ends_with("layer.tar") {
                    let known = digest_in(&path).or_else(|| export.layer_of(&path, &wanted.layers));
                    let blob = match known.filter(|digest| wanted.there.contains(digest)) {
                        Some(digest) => {
                            left_out.fetch_add(size, Ordering::Relaxed);
                            Blob { media_type: media_type(&start).to_owned(), digest, size }
                        }
                        None => send(&mut entry, &start, out, &path)?,
                    };
                    export.layers.insert(path, blob);
                }
            }
            _ => {}
        }
    }
    export.describe(out, &wanted.name)
}

/// Passes a layer on. What containerd calls it is its digest, under whatever path it comes.
fn send(entry: &mut Entry<'_, impl Read>, start: &[u8], out: &mut Archive, path: &str) -> io::Result<Blob> {
    let size = entry.size();
    out.entry(path.as_bytes(), &[], &mut header(EntryType::Regular, 0o644, size))?;
    let mut hasher = Sha256::new();
    hasher.write_all(start)?;
    out.write_all(start)?;
    let mut rest = size - start.len() as u64;
    while rest > 0 {
        rest -= out.fill(rest, |chunk| {
            entry.read_exact(chunk)?;
            hasher.write_all(chunk)
        })?;
    }
    out.pad(size)?;
    Ok(Blob { media_type: media_type(start).to_owned(), digest: hasher.finish(), size })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    config: String,
    layers: Vec<String>,
}

impl Export {
    /// Ends the archive with what the image is.
    fn describe(&self, out: &mut Archive, name: &str) -> io::Result<()> {
        let lacks = |what: &str| io::Error::other(format!("the daemon's export of the image has no `{what}`"));
        let contents = self.texts.get(CONTENTS).ok_or_else(|| lacks(CONTENTS))?;
        let contents: Vec<Contents> = serde_json::from_slice(contents)?;
        let contents = contents.into_iter().next().ok_or_else(|| lacks("Config"))?;
        let config = self.texts.get(&contents.config).ok_or_else(|| lacks(&contents.config))?;
        let layer = |path: &String| {
            let path = self.links.get(path).unwrap_or(path);
            self.layers.get(path).cloned().ok_or_else(|| lacks(path))
        };
        let layers = contents.layers.iter().map(layer).collect::<io::Result<Vec<Blob>>>()?;
        let manifest = self.manifest(&oci::sha256(config), &layers);
        let manifest = manifest.unwrap_or_else(|| oci::manifest(&Blob::config(config), &layers));
        out.file(oci::LAYOUT_FILE.0, oci::LAYOUT_FILE.1)?;
        for bytes in [config, &manifest] {
            out.file(&oci::path(&oci::sha256(bytes)), bytes)?;
        }
        out.file(oci::INDEX_FILE, &oci::index(&Blob::of(oci::MANIFEST, &manifest), name))
    }

    /// The manifest that the daemon has itself, where it keeps images as registries do.
    fn manifest(&self, config: &str, layers: &[Blob]) -> Option<Vec<u8>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Manifest {
            media_type: String,
            config: Descriptor,
            layers: Vec<Descriptor>,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            digest: String,
        }
        let is_it = |bytes: &&Vec<u8>| {
            serde_json::from_slice::<Manifest>(bytes).is_ok_and(|manifest| {
                manifest.media_type == oci::MANIFEST
                    && manifest.config.digest == config
                    && manifest.layers.iter().map(|layer| &layer.digest).eq(layers.iter().map(|layer| &layer.digest))
            })
        };
        self.texts.values().find(is_it).cloned()
    }

    /// Which layer `ID/layer.tar` is, by the description that the id is a digest of. `ID/json` has all of that description,
    /// and besides the id itself; instead of the digest of the layer with all below it, which it hashes, it says nothing.
    fn layer_of(&self, path: &str, layers: &[String]) -> Option<String> {
        let id = path.strip_suffix("/layer.tar")?;
        let text = self.texts.get(&format!("{id}/json"))?;
        let mut fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(text).ok()?;
        fields.remove("id")?;
        let parent = fields.remove("parent").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let os = fields.remove("os");
        let mut chain = String::new();
        for layer in layers {
            chain = if chain.is_empty() { layer.clone() } else { oci::sha256(format!("{chain} {layer}").as_bytes()) };
            // Only the topmost layer's description hashes the system.
            for os in [None, os] {
                let mut all: BTreeMap<&str, String> =
                    fields.iter().map(|(key, raw)| (*key, raw.get().to_owned())).collect();
                all.extend(os.map(|raw| ("os", raw.get().to_owned())));
                all.extend(parent.as_ref().map(|parent| ("parent", format!("\"sha256:{parent}\""))));
                all.insert("layer_id", format!("\"{chain}\""));
                let fields: Vec<String> = all.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                let hashed = oci::sha256(format!("{{{}}}", fields.join(",")).as_bytes());
                if hashed.strip_prefix("sha256:") == Some(id) {
                    return Some(layer.clone());
                }
            }
        }
        None
    }
}

/// The digest that a path of an image layout says.
fn digest_in(path: &str) -> Option<String> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    Some(format!("{algorithm}:{hex}"))
}

/// Where a link from `path` leads.
fn resolved(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// How a layer is compressed, by how it begins.
fn media_type(start: &[u8]) -> &'static str {
    match start {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => oci::LAYER,
    }
}

#[cfg(test)]
mod tests;
