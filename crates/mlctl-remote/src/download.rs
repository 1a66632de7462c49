//! Fetching files: small ones in one request, large ones in parts, which are hashed as they come and need not be fetched
//! again after an interruption.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::TryStreamExt;
use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_exec::hash::{self, Part};
use mlctl_exec::store::{Store, StoreError};
use object_store::path::Path;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::{ErrorKind, RemoteError};
use crate::names;
use crate::partial::Journal;
use crate::remote::{Amount, Inner, Watch, blocking, each, with_store};
use crate::upload::PART;

/// Requests for one file at a time.
const AT_A_TIME: usize = 8;
/// The most parts that are asked for in one request.
const PARTS_OF_A_REQUEST: u64 = 4;
/// What is held of a part that streams in.
const STREAM: u64 = 1 << 20;

/// A file that has come whole, on the store's file system.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) path: PathBuf,
    /// What it holds: not yet compared with what it should.
    pub(crate) digest: Digest,
    /// Removed once the file has been taken.
    journal: Option<Journal>,
}

impl Fetched {
    /// The file has been taken, or was of no use.
    pub(crate) fn finish(self) {
        let _ = fs::remove_file(&self.path);
        if let Some(journal) = self.journal {
            journal.finish();
        }
    }
}

/// A file on its way.
#[derive(Debug)]
struct Download {
    from: Path,
    size: u64,
    file: File,
    path: PathBuf,
    /// Of the parts that are in the file.
    journal: Mutex<Option<Journal>>,
}

/// Parts that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    parts: Range<u64>,
    /// Whether they came before an interruption.
    here: bool,
}

impl Inner {
    /// Fetches a file into the local store.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        artifact: Artifact,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        self.twice(&artifact.digest, || self.fetch_once(artifact, store, watch)).await
    }

    /// Fetches what may have been damaged on its way once more.
    pub(crate) async fn twice<F>(&self, digest: &Digest, fetch: impl Fn() -> F) -> Result<(), RemoteError>
    where
        F: Future<Output = Result<(), RemoteError>> + Send,
    {
        let is_damaged =
            |result: &Result<(), RemoteError>| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Damaged);
        let fetched = fetch().await;
        if !is_damaged(&fetched) {
            return fetched;
        }
        let again = fetch().await;
        if is_damaged(&again) {
            // Of no use to anyone; and while it is there, nobody sends it again.
            let _ = self.bucket.delete(&names::object(&self.bucket.prefix, digest)).await;
        }
        again
    }

    async fn fetch_once(
        self: &Arc<Self>,
        artifact: Artifact,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        if artifact.size <= PART {
            let (_share, bytes) = self.fetch_small(&artifact.digest, artifact.size).await?;
            with_store(store, move |store| checked(store.receive_bytes(&bytes, &artifact))).await?;
            watch(Amount::one(artifact.size));
            return Ok(());
        }
        let fetched = self.fetch_large(&artifact.digest, artifact.size, store, watch).await?;
        let (path, found) = (fetched.path.clone(), fetched.digest);
        let received = with_store(store, move |store| checked(store.receive_file(&path, found, &artifact))).await;
        fetched.finish();
        received?;
        watch(Amount::one(0));
        Ok(())
    }

    /// Fetches a file of one part into memory.
    pub(crate) async fn fetch_small(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<(OwnedSemaphorePermit, Bytes), RemoteError> {
        let share = self.memory.take(size).await?;
        let bytes = match size {
            0 => Some(Bytes::new()),
            _ => self.bucket.get(&names::object(&self.bucket.prefix, digest)).await?,
        };
        Ok((share, bytes.ok_or_else(|| RemoteError::missing(digest))?))
    }

    /// Fetches a file of several parts to a place of its own; goes on where an earlier try was cut off.
    pub(crate) async fn fetch_large(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<Fetched, RemoteError> {
        let from = names::object(&self.bucket.prefix, digest);
        let (journal, path) = match self.partial.download(digest) {
            Some((journal, path)) => (Some(journal), path),
            // Another process fetches the same, or nothing can be remembered.
            None => (None, store.spare_path()),
        };
        let (download, done) = blocking(move || Download::begin(from, size, path, journal)).await?;
        let download = Arc::new(download);
        let there: u64 =
            done.iter().map(|part| download.span(&(*part..part + 1))).map(|span| span.end - span.start).sum();
        watch(Amount::bytes(there));
        let fetch = |run: Run| {
            let (inner, download, watch) = (self.clone(), download.clone(), watch.clone());
            async move {
                let _share = inner.memory.take(STREAM).await?;
                if run.here {
                    return blocking(move || download.read(run.parts)).await;
                }
                inner.stream(&download, run.parts, &watch).await
            }
        };
        let parts = size.div_ceil(PART);
        let mut fetched = each(runs(parts, &done), AT_A_TIME, &fetch).await;
        if fetched.is_err() && self.bucket.ignores_ranges() {
            fetched = each(vec![Run { parts: 0..parts, here: false }], 1, &fetch).await;
        }
        let hashes = fetched.inspect_err(|_| download.abandon())?.concat();
        let journal = download.journal().take();
        Ok(Fetched { path: download.path.clone(), digest: hash::joined(&hashes, PART, size), journal })
    }

    /// Streams parts of an object to their places in the file. Gives their hashes.
    async fn stream(&self, to: &Download, parts: Range<u64>, watch: &Watch) -> Result<Vec<[u8; 32]>, RemoteError> {
        let Range { start, end } = to.span(&parts);
        let range = (end - start < to.size).then_some(start..end);
        let mut chunks = self.bucket.read(&to.from, range).await?.into_stream();
        let (mut hashes, mut number, mut part) = (Vec::new(), parts.start, Part::at(start));
        let mut at = start;
        while let Some(mut chunk) = chunks.try_next().await.map_err(reading(&to.from))? {
            let count = chunk.len() as u64;
            if at + count > end {
                return Err(RemoteError::damaged(to.from.to_string()));
            }
            to.file.write_all_at(&chunk, at).map_err(|error| RemoteError::io("write", &to.path, &error))?;
            while !chunk.is_empty() {
                let end = to.span(&(number..number + 1)).end;
                let piece = chunk.split_to(chunk.len().min((end - at) as usize));
                part.update(&piece);
                at += piece.len() as u64;
                if at == end {
                    hashes.push(part.value());
                    to.add(number);
                    number += 1;
                    part = Part::at(number * PART);
                }
            }
            watch(Amount::bytes(count));
        }
        // Another size than the object must have: another content.
        if at == end { Ok(hashes) } else { Err(RemoteError::damaged(to.from.to_string())) }
    }

    /// Bytes of an object, in memory.
    pub(crate) async fn range(&self, from: &Path, start: u64, end: u64) -> Result<Bytes, RemoteError> {
        let read = async {
            let part = self.bucket.read(from, Some(start..end)).await?;
            part.bytes().await.map_err(reading(from))
        };
        let bytes = match read.await {
            Err(_) if self.bucket.ignores_ranges() => {
                let whole = self.bucket.read(from, None).await?.bytes().await.map_err(reading(from))?;
                whole.slice(whole.len().min(start as usize)..whole.len().min(end as usize))
            }
            read => read?,
        };
        if bytes.len() as u64 == end - start { Ok(bytes) } else { Err(RemoteError::damaged(from.to_string())) }
    }
}

impl Download {
    /// Opens the file. Gives the parts that are in it.
    fn begin(
        from: Path,
        size: u64,
        path: PathBuf,
        mut journal: Option<Journal>,
    ) -> Result<(Self, HashSet<u64>), RemoteError> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(|error| RemoteError::io("create", &path, &error))?;
        let before = file.metadata().map(|data| data.len()).unwrap_or_default();
        file.set_len(size).map_err(|error| RemoteError::io("write", &path, &error))?;
        let mut done: HashSet<u64> = HashSet::new();
        match &mut journal {
            Some(journal) if before == size => {
                done = journal.lines.iter().filter_map(|line| line.parse().ok()).collect()
            }
            Some(journal) => journal.restart(),
            None => {}
        }
        Ok((Self { from, size, file, path, journal: Mutex::new(journal) }, done))
    }

    /// The bytes of parts.
    fn span(&self, parts: &Range<u64>) -> Range<u64> {
        parts.start * PART..self.size.min(parts.end * PART)
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a part has come.
    fn add(&self, part: u64) {
        if let Some(journal) = &mut *self.journal() {
            journal.add(&part.to_string());
        }
    }

    /// What no journal tells of is of no use later.
    fn abandon(&self) {
        if self.journal().is_none() {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// The hashes of parts that came before an interruption. What happened since, as a loss of power, is not known: they
    /// are read.
    fn read(&self, parts: Range<u64>) -> Result<Vec<[u8; 32]>, RemoteError> {
        let mut buffer = vec![0; STREAM as usize];
        let mut hashes = Vec::new();
        for number in parts {
            let Range { start, end } = self.span(&(number..number + 1));
            let mut part = Part::at(start);
            for at in (start..end).step_by(buffer.len()) {
                let piece = &mut buffer[..STREAM.min(end - at) as usize];
                let read = self.file.read_exact_at(piece, at);
                read.map_err(|error| RemoteError::io("read", &self.path, &error))?;
                part.update(piece);
            }
            hashes.push(part.value());
        }
        Ok(hashes)
    }
}

/// Shares out the parts of a file.
fn runs(parts: u64, done: &HashSet<u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for part in 0..parts {
        let here = done.contains(&part);
        match runs.last_mut() {
            Some(Run { parts, here: same }) if *same == here && parts.end - parts.start < PARTS_OF_A_REQUEST => {
                parts.end += 1;
            }
            _ => runs.push(Run { parts: part..part + 1, here }),
        }
    }
    runs
}

fn reading(from: &Path) -> impl Fn(object_store::Error) -> RemoteError + '_ {
    move |error| RemoteError::from(error).doing(format!("read {from}"))
}

/// What the local store finds damaged came so from the remote one.
pub(crate) fn checked<T>(result: Result<T, StoreError>) -> Result<T, RemoteError> {
    result.map_err(|error| match error {
        StoreError::Damaged { digest } => RemoteError::damaged(format!("object {}", digest.short())),
        other => other.into(),
    })
}
