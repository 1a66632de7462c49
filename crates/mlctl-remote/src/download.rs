//! Fetching files: small ones in one request, large ones in parts that need not be fetched again after an interruption.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::TryStreamExt;
use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_exec::store::{Store, StoreError};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStoreExt};

use crate::error::{ErrorKind, RemoteError};
use crate::names;
use crate::partial::Journal;
use crate::remote::{Amount, Inner, Watch, blocking, each, with_store};
use crate::upload::PART;

/// Parts of one file at a time.
const PARTS_AT_A_TIME: usize = 8;
/// What is held of a part that streams in.
const STREAM: u64 = 1 << 20;

/// A file that has come, on the store's file system; not checked yet.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) path: PathBuf,
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

impl Inner {
    /// Fetches a file into the local store.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        artifact: Artifact,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        let from = names::object(&self.bucket.prefix, &artifact.digest);
        let fetched = self.fetch_once(artifact, &from, store, watch).await;
        let Err(error) = fetched else { return Ok(()) };
        if error.kind() != ErrorKind::Damaged {
            return Err(error);
        }
        // It may have been damaged on its way.
        let again = self.fetch_once(artifact, &from, store, watch).await;
        if again.as_ref().is_err_and(|error| error.kind() == ErrorKind::Damaged) {
            // Of no use to anyone; and while it is there, nobody sends it again.
            let _ = self.bucket.delete(&from).await;
        }
        again
    }

    async fn fetch_once(
        self: &Arc<Self>,
        artifact: Artifact,
        from: &Path,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        if artifact.size <= PART {
            let _share = self.memory.take(artifact.size).await?;
            let bytes = match artifact.size {
                0 => Bytes::new(),
                _ => self.bucket.get(from).await?.ok_or_else(|| RemoteError::missing(&artifact.digest))?,
            };
            with_store(store, move |store| checked(store.receive_bytes(&bytes, &artifact))).await?;
            watch(Amount::one(artifact.size));
            return Ok(());
        }
        let fetched = self.fetch_large(&artifact.digest, artifact.size, store, watch).await?;
        let path = fetched.path.clone();
        let received = with_store(store, move |store| checked(store.receive_file(&path, &artifact))).await;
        fetched.finish();
        received?;
        watch(Amount::one(0));
        Ok(())
    }

    /// Fetches a large file to a place of its own; goes on where an earlier try was cut off.
    pub(crate) async fn fetch_large(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<Fetched, RemoteError> {
        let from = names::object(&self.bucket.prefix, digest);
        let (mut journal, path) = match self.partial.download(digest) {
            Some((journal, path)) => (Some(journal), path),
            // Another process fetches the same, or nothing can be remembered.
            None => (None, store.spare_path()),
        };
        let opened = blocking({
            let path = path.clone();
            move || {
                let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
                let file = open.map_err(|error| RemoteError::io("create", &path, &error))?;
                let before = file.metadata().map(|data| data.len()).unwrap_or_default();
                file.set_len(size).map_err(|error| RemoteError::io("write", &path, &error))?;
                Ok((file, before))
            }
        });
        let (file, before) = opened.await?;
        let parts = size.div_ceil(PART);
        let mut missing: Vec<u64> = (0..parts).collect();
        if let Some(journal) = &mut journal {
            if before == size {
                let done: std::collections::HashSet<u64> =
                    journal.lines.iter().filter_map(|line| line.parse().ok()).collect();
                missing.retain(|part| !done.contains(part));
            } else {
                journal.restart();
            }
        }
        let there = parts - missing.len() as u64;
        watch(Amount::bytes((there * PART).min(size)));
        let (file, shared) = (Arc::new(file), Arc::new(Mutex::new(journal)));
        let get = |part: u64| {
            let (inner, file, from) = (self.clone(), file.clone(), from.clone());
            let (shared, watch, path) = (shared.clone(), watch.clone(), path.clone());
            async move {
                let (offset, length) = (part * PART, PART.min(size - part * PART));
                let _share = inner.memory.take(STREAM).await?;
                inner.stream(&from, offset, length, &file, &path, &watch).await?;
                if let Some(journal) = &mut *shared.lock().unwrap_or_else(PoisonError::into_inner) {
                    journal.add(&part.to_string());
                }
                Ok(())
            }
        };
        let fetched = each(missing, PARTS_AT_A_TIME, get).await;
        let journal = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if journal.is_none() && fetched.is_err() {
            let _ = fs::remove_file(&path);
        }
        fetched?;
        Ok(Fetched { path, journal })
    }

    /// Streams a part of an object to its place in a file.
    async fn stream(
        &self,
        from: &Path,
        offset: u64,
        length: u64,
        file: &Arc<File>,
        path: &std::path::Path,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        let options = GetOptions { range: Some((offset..offset + length).into()), ..GetOptions::default() };
        let response = self.bucket.store().get_opts(from, options).await.map_err(reading(from))?;
        let mut chunks = response.into_stream();
        let mut at = offset;
        while let Some(chunk) = chunks.try_next().await.map_err(reading(from))? {
            let count = chunk.len() as u64;
            if at + count > offset + length {
                break;
            }
            file.write_all_at(&chunk, at).map_err(|error| RemoteError::io("write", path, &error))?;
            at += count;
            watch(Amount::bytes(count));
        }
        // Another size than the object must have: another content.
        if at == offset + length { Ok(()) } else { Err(RemoteError::damaged(from.to_string())) }
    }

    /// Bytes of an object, in memory.
    pub(crate) async fn range(&self, from: &Path, start: u64, end: u64) -> Result<Bytes, RemoteError> {
        let bytes = self.bucket.store().get_range(from, start..end).await.map_err(reading(from))?;
        if bytes.len() as u64 == end - start { Ok(bytes) } else { Err(RemoteError::damaged(from.to_string())) }
    }
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
