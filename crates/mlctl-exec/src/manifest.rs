//! Manifests: what a stored directory holds. Of modes only the executable bit counts; owners, times and extended
//! attributes do not. Empty directories are kept.
//!
//! There is exactly one encoding of a manifest, and its BLAKE3 is the directory's digest:
//! `mlctl manifest 1\n`, then the entries in the byte order of their paths, each a letter (`d` directory, `f` file,
//! `x` executable, `l` link), the path with its length (u32, little endian) before it, and of a file its size (u64,
//! little endian) and digest, of a link its target with its length (u32) before it.

use std::collections::BTreeSet;
use std::fmt;

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;

use crate::store::Unfit;

const MAGIC: &[u8] = b"mlctl manifest 1\n";

/// What a directory holds, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// One file, directory or link of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Relative to the directory, parts separated by `/`.
    pub path: String,
    /// What it is.
    pub node: Node,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A regular file.
    File {
        /// Of its content.
        digest: Digest,
        /// Bytes.
        size: u64,
        /// Whether it has an executable bit.
        executable: bool,
    },
    /// A directory; what it holds has entries of its own.
    Directory,
    /// A symbolic link with a relative target that does not leave the tree; it may lead nowhere.
    Link {
        /// The target, as it is.
        target: String,
    },
}

impl Node {
    pub(crate) const fn of(artifact: &Artifact) -> Self {
        let Artifact { kind, digest, size } = *artifact;
        match kind {
            ArtifactKind::Directory => Self::Directory,
            _ => Self::File { digest, size, executable: matches!(kind, ArtifactKind::Executable) },
        }
    }

    /// A file as an artifact of its own.
    pub fn as_file(&self) -> Option<Artifact> {
        let Self::File { digest, size, executable } = *self else { return None };
        let kind = if executable { ArtifactKind::Executable } else { ArtifactKind::File };
        Some(Artifact { kind, digest, size })
    }
}

/// Why something is no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestError {
    /// Bytes that [`Manifest::encode`] never writes.
    Malformed,
    /// Links that lead out of the tree: their paths, and what is wrong with them.
    Links(Vec<(String, Unfit)>),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not a manifest"),
            Self::Links(links) => {
                for (index, (path, why)) in links.iter().enumerate() {
                    write!(f, "{}{path} {why}", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// The manifest of these entries, in any order. Every path must be relative, without `.` and `..`, given once, and
    /// its parents must be given too; links may not lead out.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            // Stable, which is fast where long runs are sorted already.
            entries.sort_by(|a, b| a.path.cmp(&b.path));
        }
        let manifest = Self { entries };
        manifest.check()?;
        Ok(manifest)
    }

    /// All entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at this path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|e| e.path.as_str().cmp(path)).ok()?;
        self.entries.get(index)
    }

    /// The names directly in the directory, sorted: what a dynamic axis iterates over.
    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|e| e.path.as_str()).filter(|path| !path.contains('/')).collect()
    }

    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.entries.iter().map(|e| if let Node::File { size, .. } = e.node { size } else { 0 }).sum()
    }

    /// The directory as an artifact.
    pub fn artifact(&self) -> Artifact {
        Artifact { kind: ArtifactKind::Directory, digest: Digest::of(&self.encode()), size: self.size() }
    }

    /// The artifact that the entry at `path` is, links followed; `None` if there is none, or a link leads nowhere. A
    /// directory's digest is that of the manifest of what is below it; where links lead out of it to other parts of the
    /// whole, it is of the whole too, for that can be read through them.
    pub fn sub(&self, path: &str) -> Option<Artifact> {
        let (path, node) = self.resolve(path)?;
        if let Some(file) = node.as_file() {
            return Some(file);
        }
        let below = self.below(&path);
        let artifact = below.artifact();
        if below.check().is_ok() {
            return Some(artifact);
        }
        let digest = Digest::of(&[below.encode(), self.encode()].concat());
        Some(Artifact { digest, ..artifact })
    }

    /// Where the entry at `path` really is, links followed, and its node: never a link. `""` is the directory itself.
    pub(crate) fn resolve(&self, path: &str) -> Option<(String, Node)> {
        /// As many links in a row as Linux follows.
        const MAX_LINKS: usize = 40;
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.step(&path)? {
                Step::At(node) => return Some((path, node.clone())),
                Step::Follow(next) => path = next,
            }
        }
        None
    }

    /// What stands at `path`: its node, or where the first link on the way leads.
    fn step(&self, path: &str) -> Option<Step<'_>> {
        if path.is_empty() {
            return Some(Step::At(&Node::Directory));
        }
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let node = &self.get(&path[..end])?.node;
            if let Node::Link { target } = node {
                return Some(Step::Follow(join(&path[..end], target, &path[end..])?));
            }
            if end == path.len() {
                return Some(Step::At(node));
            }
        }
        None
    }

    /// The manifest of the directory at `path`: `""` is all of it.
    pub fn below(&self, path: &str) -> Self {
        if path.is_empty() {
            return self.clone();
        }
        let prefix = format!("{path}/");
        let start = self.entries.partition_point(|e| e.path.as_str() < prefix.as_str());
        let entries = self.entries[start..]
            .iter()
            .map_while(|e| {
                e.path.strip_prefix(&prefix).map(|rest| Entry { path: rest.to_owned(), node: e.node.clone() })
            })
            .collect();
        Self { entries }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + self.entries.iter().map(|e| e.path.len() + 48).sum::<usize>());
        out.extend_from_slice(MAGIC);
        for entry in &self.entries {
            out.push(match entry.node {
                Node::Directory => b'd',
                Node::File { executable: false, .. } => b'f',
                Node::File { executable: true, .. } => b'x',
                Node::Link { .. } => b'l',
            });
            put_text(&mut out, &entry.path);
            match &entry.node {
                Node::Directory => {}
                Node::File { digest, size, .. } => {
                    out.extend_from_slice(&size.to_le_bytes());
                    out.extend_from_slice(digest.as_bytes());
                }
                Node::Link { target } => put_text(&mut out, target),
            }
        }
        out
    }

    /// The manifest with these bytes: strictly what [`Self::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(ManifestError::Malformed)?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            entries.push(decode_entry(&mut rest).ok_or(ManifestError::Malformed)?);
        }
        let manifest = Self { entries };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let mut links = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let sorted = index == 0 || self.entries[index - 1].path < entry.path;
            if !sorted || !is_plain(&entry.path) || !self.has_parent(index) {
                return Err(ManifestError::Malformed);
            }
            if let Node::Link { target } = &entry.node
                && let Err(why) = self.check_link(&entry.path, target)
            {
                links.push((entry.path.clone(), why));
            }
        }
        if links.is_empty() { Ok(()) } else { Err(ManifestError::Links(links)) }
    }

    fn has_parent(&self, index: usize) -> bool {
        let Some((parent, _)) = self.entries[index].path.rsplit_once('/') else { return true };
        // Mostly the entry before is the parent or a sibling; only else is it searched for.
        let before = index.checked_sub(1).map(|i| self.entries[i].path.as_str());
        let sibling = before.and_then(|path| path.rsplit_once('/')).is_some_and(|(p, _)| p == parent);
        sibling || self.get(parent).is_some_and(|e| e.node == Node::Directory)
    }

    /// A target may go up only through real directories of the tree: `..` after a link could lead anywhere.
    fn check_link(&self, path: &str, target: &str) -> Result<(), Unfit> {
        if target.starts_with('/') {
            return Err(Unfit::AbsoluteLink(target.to_owned()));
        }
        let escaping = || Unfit::EscapingLink(target.to_owned());
        if target.is_empty() || target.contains('\0') {
            return Err(escaping());
        }
        let mut at = parent_of(path).to_owned();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    let real = at.is_empty() || self.get(&at).is_some_and(|e| e.node == Node::Directory);
                    if at.is_empty() || !real {
                        return Err(escaping());
                    }
                    at = parent_of(&at).to_owned();
                }
                name => {
                    if !at.is_empty() {
                        at.push('/');
                    }
                    at.push_str(name);
                }
            }
        }
        Ok(())
    }
}

enum Step<'a> {
    At(&'a Node),
    Follow(String),
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Where `rest` below the link at `link` is.
fn join(link: &str, target: &str, rest: &str) -> Option<String> {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/').chain(rest.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn is_plain(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn decode_entry(rest: &mut &[u8]) -> Option<Entry> {
    let [letter] = take(rest)?;
    let path = take_text(rest)?;
    let node = match letter {
        b'd' => Node::Directory,
        b'f' | b'x' => Node::File {
            size: u64::from_le_bytes(take(rest)?),
            digest: Digest::from_bytes(take(rest)?),
            executable: letter == b'x',
        },
        b'l' => Node::Link { target: take_text(rest)? },
        _ => return None,
    };
    Some(Entry { path, node })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let len = u32::from_le_bytes(take(rest)?) as usize;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    String::from_utf8(bytes.to_vec()).ok()
}

/// The entries for these files and links, with the directories they need.
pub(crate) fn with_parents(mut leaves: Vec<Entry>) -> Vec<Entry> {
    let mut directories = BTreeSet::new();
    let mut last = "";
    for leaf in &leaves {
        let mut parent = parent_of(&leaf.path);
        // Neighbours mostly share it.
        if parent == last {
            continue;
        }
        last = parent;
        while !parent.is_empty() && directories.insert(parent.to_owned()) {
            parent = parent_of(parent);
        }
    }
    leaves.extend(directories.into_iter().map(|path| Entry { path, node: Node::Directory }));
    leaves
}
