//! Trees: the manifest of a directory or a source tree, and where its small files are.
//!
//! `mlctl tree 1\n`, the length of the manifest (u32, little endian) and the manifest; how many packs there are (u32) and
//! their digests; then of each packed file, in the manifest's order, the number of its pack (u32) and where it begins in it
//! (u32); last the BLAKE3 of all before. Packed are the files of 1 byte to below 1 MiB; larger ones are objects of their
//! own, empty ones need none. Two machines may pack the same files differently: then either tree will do.

use mlctl_core::digest::Digest;
use mlctl_exec::manifest::{Manifest, Node};

use crate::error::{ErrorKind, RemoteError};

const MAGIC: &[u8] = b"mlctl tree 1\n";
/// Files below this travel in packs.
pub(crate) const SMALL: u64 = 1 << 20;

/// Where a packed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: Digest,
    pub(crate) offset: u32,
}

/// What a directory holds, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) manifest: Manifest,
    /// Of its packed files, in the manifest's order.
    pub(crate) places: Vec<Place>,
}

/// A file that a manifest names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) path: &'a str,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) executable: bool,
}

impl File<'_> {
    pub(crate) const fn is_packed(&self) -> bool {
        self.size > 0 && self.size < SMALL
    }
}

/// The files of a manifest.
pub(crate) fn files(manifest: &Manifest) -> impl Iterator<Item = File<'_>> {
    manifest.entries().iter().filter_map(|entry| match entry.node {
        Node::File { digest, size, executable } => Some(File { path: &entry.path, digest, size, executable }),
        _ => None,
    })
}

impl Tree {
    /// The packs it needs, each once.
    pub(crate) fn packs(&self) -> Vec<Digest> {
        let mut packs: Vec<Digest> = self.places.iter().map(|place| place.pack).collect();
        packs.sort_unstable();
        packs.dedup();
        packs
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (manifest, packs) = (self.manifest.encode(), self.packs());
        let mut out = Vec::with_capacity(MAGIC.len() + 40 + manifest.len() + 32 * packs.len() + 8 * self.places.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(manifest.len() as u32).to_le_bytes());
        out.extend_from_slice(&manifest);
        out.extend_from_slice(&(packs.len() as u32).to_le_bytes());
        packs.iter().for_each(|pack| out.extend_from_slice(pack.as_bytes()));
        for place in &self.places {
            let pack = packs.binary_search(&place.pack).unwrap_or_default() as u32;
            out.extend_from_slice(&pack.to_le_bytes());
            out.extend_from_slice(&place.offset.to_le_bytes());
        }
        let sum = Digest::of(&out);
        out.extend_from_slice(sum.as_bytes());
        out
    }

    /// The tree of the directory with this digest.
    pub(crate) fn decode(bytes: &[u8], digest: &Digest) -> Result<Self, RemoteError> {
        if bytes.starts_with(b"mlctl tree ") && !bytes.starts_with(MAGIC) {
            let why = format!("tree {} has a format that this mlctl does not know", digest.short());
            return Err(RemoteError::new(ErrorKind::Newer, why));
        }
        let tree = || {
            let (bytes, sum) = bytes.split_last_chunk::<32>()?;
            (Digest::of(bytes).as_bytes() == sum).then_some(())?;
            let mut rest = bytes.strip_prefix(MAGIC)?;
            let length = number(&mut rest)? as usize;
            let (manifest, mut rest) = rest.split_at_checked(length)?;
            (Digest::of(manifest) == *digest).then_some(())?;
            let manifest = Manifest::decode(manifest).ok()?;
            let count = number(&mut rest)? as usize;
            let (packs, mut rest) = rest.split_at_checked(count.checked_mul(32)?)?;
            let packs = packs.as_chunks::<32>().0;
            let mut places = Vec::new();
            for _ in files(&manifest).filter(File::is_packed) {
                let pack = Digest::from_bytes(*packs.get(number(&mut rest)? as usize)?);
                places.push(Place { pack, offset: number(&mut rest)? });
            }
            rest.is_empty().then_some(Self { manifest, places })
        };
        tree().ok_or_else(|| RemoteError::damaged(format!("tree {}", digest.short())))
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use mlctl_exec::manifest::Entry;

    use super::*;

    fn example() -> Tree {
        let file = |path: &str, size| Entry {
            path: path.into(),
            node: Node::File { digest: Digest::of(path.as_bytes()), size, executable: false },
        };
        let entries = vec![file("a", 3), file("b", 0), file("c", SMALL), file("d", 7)];
        let place = |text: &str, offset| Place { pack: Digest::of(text.as_bytes()), offset };
        Tree { manifest: Manifest::new(entries).unwrap(), places: vec![place("two", 0), place("one", 9)] }
    }

    #[test]
    fn a_tree_survives_its_encoding() {
        let tree = example();
        assert_eq!(Tree::decode(&tree.encode(), &tree.manifest.artifact().digest).unwrap(), tree);
    }

    #[test]
    fn no_other_bytes_are_taken_for_it() {
        let tree = example();
        let (bytes, digest) = (tree.encode(), tree.manifest.artifact().digest);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Tree::decode(&other, &digest).is_err(), "{at}");
            assert!(Tree::decode(&bytes[..at], &digest).is_err(), "{at}");
        }
        assert!(Tree::decode(&bytes, &Digest::of(b"another")).is_err());
    }
}
