//! Fetching directories and source trees: their small files out of packs, in few requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_exec::store::{Incoming, Store};

use crate::download::checked;
use crate::error::{ErrorKind, RemoteError};
use crate::names;
use crate::pack::PACK;
use crate::push::of_source;
use crate::remote::{Amount, Inner, Watch, blocking, each, with_store};
use crate::tree::{self, File, Tree};
use crate::upload::PART;

/// Bytes between two wanted files that are fetched with them rather than asked around.
const GAP: u64 = 64 * 1024;

/// A file that lies in a pack.
#[derive(Debug, Clone)]
struct Packed {
    path: String,
    offset: u64,
    size: u64,
}

/// Files of one pack that are fetched in one request.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pack: Digest,
    start: u64,
    end: u64,
    files: Vec<Packed>,
}

impl Inner {
    /// The tree of a directory or of sources.
    pub(crate) async fn tree(&self, digest: &Digest) -> Result<Tree, RemoteError> {
        let path = names::tree(&self.bucket.prefix, digest);
        let bytes = self.bucket.get(&path).await?.ok_or_else(|| RemoteError::missing(digest))?;
        let tree = Tree::decode(&bytes, digest);
        if tree.as_ref().is_err_and(|error| error.kind() == ErrorKind::Damaged) {
            let _ = self.bucket.delete(&path).await;
        }
        tree
    }

    /// Fetches a directory into the local store.
    pub(crate) async fn fetch_directory(
        self: &Arc<Self>,
        tree: Tree,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<Artifact, RemoteError> {
        let manifest = tree.manifest.clone();
        let incoming = Arc::new(with_store(store, |store| Ok(store.receive_directory(manifest)?)).await?);
        let get = |reach: Reach| {
            let (inner, incoming, watch) = (self.clone(), incoming.clone(), watch.clone());
            async move { inner.fetch_reach(reach, incoming, &watch).await }
        };
        each(reaches(&tree), self.parallel, get).await?;
        let empty: Vec<String> =
            tree::files(&tree.manifest).filter(|file| file.size == 0).map(|file| file.path.to_owned()).collect();
        let into = incoming.clone();
        blocking(move || empty.iter().try_for_each(|path| checked(into.write(path, b"")))).await?;
        let large = tree::files(&tree.manifest).filter(|file| file.size >= tree::SMALL);
        let large: Vec<(String, Digest, u64)> =
            large.map(|file| (file.path.to_owned(), file.digest, file.size)).collect();
        let get = |(path, digest, size): (String, Digest, u64)| {
            let (inner, incoming, store, watch) = (self.clone(), incoming.clone(), store.clone(), watch.clone());
            async move { inner.twice(&digest, || inner.fetch_into(&path, (digest, size), &incoming, &store, &watch)).await }
        };
        // One of them is itself fetched in several parts at a time.
        each(large, LARGE_AT_A_TIME, get).await?;
        let incoming = Arc::try_unwrap(incoming)
            .map_err(|_| RemoteError::new(ErrorKind::Local, "the directory is still being written"))?;
        blocking(move || checked(incoming.finish())).await
    }

    async fn fetch_reach(&self, reach: Reach, into: Arc<Incoming>, watch: &Watch) -> Result<(), RemoteError> {
        let from = names::pack(&self.bucket.prefix, &reach.pack);
        let _share = self.memory.take(reach.end - reach.start).await?;
        let bytes = self.range(&from, reach.start, reach.end).await?;
        let count = bytes.len() as u64;
        blocking(move || {
            for file in &reach.files {
                let start = (file.offset - reach.start) as usize;
                checked(into.write(&file.path, &bytes[start..start + file.size as usize]))?;
            }
            Ok(())
        })
        .await?;
        watch(Amount::one(count));
        Ok(())
    }

    async fn fetch_into(
        self: &Arc<Self>,
        path: &str,
        (digest, size): (Digest, u64),
        into: &Arc<Incoming>,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        if size <= PART {
            let (_share, bytes) = self.fetch_small(&digest, size).await?;
            let (path, into) = (path.to_owned(), into.clone());
            blocking(move || checked(into.write(&path, &bytes))).await?;
            watch(Amount::one(size));
            return Ok(());
        }
        let fetched = self.fetch_large(&digest, size, store, watch).await?;
        let (path, from, found, into) = (path.to_owned(), fetched.path.clone(), fetched.digest, into.clone());
        let taken = blocking(move || checked(into.take(&path, &from, found))).await;
        fetched.finish();
        taken?;
        watch(Amount::one(0));
        Ok(())
    }

    /// Fetches a source tree into the local store: its files are objects of their own there.
    pub(crate) async fn fetch_sources(
        self: &Arc<Self>,
        tree: Tree,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        let get = |reach: Reach| {
            let (inner, store, watch) = (self.clone(), store.clone(), watch.clone());
            let artifacts: BTreeMap<String, Artifact> = reach
                .files
                .iter()
                .filter_map(|file| Some((file.path.clone(), artifact_at(&tree, &file.path)?)))
                .collect();
            async move { inner.fetch_objects(reach, artifacts, &store, &watch).await }
        };
        each(reaches(&tree), self.parallel, get).await?;
        let others: Vec<Artifact> =
            tree::files(&tree.manifest).filter(|file| !file.is_packed()).map(|file| of_source(&file)).collect();
        let get = |artifact: Artifact| {
            let (inner, store, watch) = (self.clone(), store.clone(), watch.clone());
            async move { inner.fetch(artifact, &store, &watch).await }
        };
        each(others, LARGE_AT_A_TIME, get).await?;
        with_store(store, move |store| Ok(store.receive_sources(&tree.manifest)?)).await
    }

    async fn fetch_objects(
        &self,
        reach: Reach,
        artifacts: BTreeMap<String, Artifact>,
        store: &Arc<Store>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        let from = names::pack(&self.bucket.prefix, &reach.pack);
        let _share = self.memory.take(reach.end - reach.start).await?;
        let bytes = self.range(&from, reach.start, reach.end).await?;
        let count = bytes.len() as u64;
        with_store(store, move |store| {
            for file in &reach.files {
                let start = (file.offset - reach.start) as usize;
                if let Some(artifact) = artifacts.get(&file.path) {
                    checked(store.receive_bytes(&bytes[start..start + file.size as usize], artifact))?;
                }
            }
            Ok(())
        })
        .await?;
        watch(Amount::one(count));
        Ok(())
    }
}

/// Large files of one directory at a time.
const LARGE_AT_A_TIME: usize = 4;

fn artifact_at(tree: &Tree, path: &str) -> Option<Artifact> {
    tree.manifest.get(path)?.node.as_file()
}

/// The requests that fetch a tree's packed files.
pub(crate) fn reaches(tree: &Tree) -> Vec<Reach> {
    let mut packs: BTreeMap<Digest, Vec<Packed>> = BTreeMap::new();
    for (file, place) in tree::files(&tree.manifest).filter(File::is_packed).zip(&tree.places) {
        let packed = Packed { path: file.path.to_owned(), offset: place.offset.into(), size: file.size };
        packs.entry(place.pack).or_default().push(packed);
    }
    let mut reaches: Vec<Reach> = Vec::new();
    for (pack, mut files) in packs {
        files.sort_by_key(|file| file.offset);
        for file in files {
            let end = file.offset + file.size;
            match reaches.last_mut() {
                Some(last)
                    if last.pack == pack && file.offset <= last.end + GAP && end.max(last.end) - last.start <= PACK =>
                {
                    last.end = last.end.max(end);
                    last.files.push(file);
                }
                _ => reaches.push(Reach { pack, start: file.offset, end, files: vec![file] }),
            }
        }
    }
    reaches
}

/// What fetching a tree moves.
pub(crate) fn amount(tree: &Tree) -> Amount {
    let packed = reaches(tree).into_iter().map(|reach| Amount::one(reach.end - reach.start));
    let large = tree::files(&tree.manifest).filter(|file| file.size >= tree::SMALL);
    packed.chain(large.map(|file| Amount::one(file.size))).sum()
}
