//! Digests remembered with the stamps their files had: what makes an unchanged tree cheap to recognise.
//!
//! One file: `mlctl stamps 1\n`, the BLAKE3 of the rest, then for each file its path with its length (u32) before it,
//! the stamp's four numbers and the digest; all little endian. It is a cache: replaced atomically, and ignored if it is
//! not whole.
//!
//! A file may change twice within one tick of the file system's clock, and keep its stamp. So a digest is only
//! remembered if the file's ctime was well past when it was hashed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use mlctl_core::digest::Digest;
use rustix::fs::Stat;

use crate::hash;
use crate::manifest::Node;
use crate::store::{Stamp, StoreError, node, now};

const MAGIC: &[u8] = b"mlctl stamps 1\n";

/// The remembered digests, and those that are new.
#[derive(Debug)]
pub struct Stamps {
    path: PathBuf,
    /// Read when it is first needed: a run with nothing to do never does.
    known: OnceLock<HashMap<Box<str>, (Stamp, Digest)>>,
    new: Mutex<HashMap<Box<str>, (Stamp, Digest)>>,
}

impl Stamps {
    /// What the file at `path` remembers; it may be missing or damaged.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), known: OnceLock::new(), new: Mutex::default() }
    }

    /// What cannot be read is empty.
    fn known(&self) -> &HashMap<Box<str>, (Stamp, Digest)> {
        self.known.get_or_init(|| fs::read(&self.path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default())
    }

    /// Whether anything is remembered of this path.
    pub fn knows(&self, path: &str) -> bool {
        self.known().contains_key(path)
    }

    /// The digest of a file that has this stamp, if it is remembered.
    pub fn get(&self, path: &str, stamp: Stamp) -> Option<Digest> {
        self.known().get(path).and_then(|known| (known.0 == stamp).then_some(known.1))
    }

    /// Hashes the file `full`, and remembers it as `path`.
    pub fn hash(&self, path: &str, full: &Path) -> Result<Node, StoreError> {
        let begun = now();
        let (file, stat) = hash::open(full)?;
        let digest = hash::contents(&file, &stat, full, None)?;
        self.remember(path, &stat, digest, begun);
        Ok(node(&stat, digest))
    }

    /// Remembers the digest of a file that had this `fstat` when its hashing began.
    fn remember(&self, path: &str, stat: &Stat, digest: Digest, begun: i64) {
        let stamp = Stamp::from(stat);
        if is_settled(stamp.ctime, begun) {
            hash::lock(&self.new).insert(path.into(), (stamp, digest));
        }
    }

    /// Writes what is known to the file, unless nothing is new. Of what was known before only what `keep` wants.
    pub fn save(&self, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let new = hash::lock(&self.new);
        if new.is_empty() {
            return Ok(());
        }
        let old = self.known().iter().filter(|(path, _)| !new.contains_key(*path) && keep(path));
        let mut body = Vec::new();
        for (path, (stamp, digest)) in old.chain(new.iter()) {
            body.extend_from_slice(&(path.len() as u32).to_le_bytes());
            body.extend_from_slice(path.as_bytes());
            let (size, ino, mtime, ctime) = (*stamp).into();
            for number in [size, ino, mtime as u64, ctime as u64] {
                body.extend_from_slice(&number.to_le_bytes());
            }
            body.extend_from_slice(digest.as_bytes());
        }
        let bytes = [MAGIC, Digest::of(&body).as_bytes(), &body].concat();
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        }
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &self.path))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .map_err(StoreError::io("write", &self.path))
    }
}

/// Whether a later change would certainly give another ctime. Clocks of file systems tick every few milliseconds, of
/// some every one or two seconds: those show whole seconds.
pub(crate) const fn is_settled(ctime: i64, begun: i64) -> bool {
    const FINE: i64 = 50_000_000;
    const COARSE: i64 = 3_000_000_000;
    let tick = if ctime % 1_000_000_000 == 0 { COARSE } else { FINE };
    ctime < begun - tick
}

fn decode(bytes: &[u8]) -> Option<HashMap<Box<str>, (Stamp, Digest)>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, mut rest) = rest.split_first_chunk::<32>()?;
    (Digest::of(rest).as_bytes() == sum).then_some(())?;
    let mut known = HashMap::with_capacity(rest.len() / 100);
    while !rest.is_empty() {
        let len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (path, after) = rest.split_at_checked(len)?;
        rest = after;
        let mut number = || take(&mut rest).map(u64::from_le_bytes);
        let stamp = Stamp::from((number()?, number()?, number()? as i64, number()? as i64));
        let digest = Digest::from_bytes(take(&mut rest)?);
        known.insert(std::str::from_utf8(path).ok()?.into(), (stamp, digest));
    }
    Some(known)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}
