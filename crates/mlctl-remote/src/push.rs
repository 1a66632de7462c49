//! From this machine to the remote store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_exec::manifest::Manifest;
use mlctl_exec::store::{Entry, Store};

use crate::error::RemoteError;
use crate::pack::{Packing, Piece};
use crate::remote::{Amount, Inner, Remote, Watch, each, with_store};
use crate::tree::{self, File, Place, Tree};
use crate::upload::Blob;
use crate::{entry, names};

/// The most packs of earlier pushes that a tree's files may be spread over: more are read too slowly.
const SPREAD: usize = 64;

/// What a push would send.
#[derive(Debug, Default)]
pub struct Push {
    entries: Vec<Planned>,
    blobs: Vec<Blob>,
    trees: Vec<Manifest>,
    packings: Vec<Packing>,
    /// Files of the trees that earlier pushes have packed.
    known: HashMap<Digest, Place>,
    there: Vec<Digest>,
    absent: Vec<Digest>,
}

/// A result that is to be recorded.
#[derive(Debug, Clone)]
struct Planned {
    key: Digest,
    entry: Arc<Entry>,
    /// One is there whose objects are not: it is of no use to anyone.
    replace: bool,
}

/// What a push did.
#[derive(Debug, Clone, Default)]
pub struct Pushed {
    /// Results that were recorded.
    pub recorded: Vec<Digest>,
    /// Keys that somebody else recorded first: theirs stay.
    pub adopted: Vec<Digest>,
}

impl Push {
    /// What is to be sent, results included.
    pub fn amount(&self) -> Amount {
        let blobs = self.blobs.iter().map(|blob| Amount::one(blob.size));
        let packs = self.packings.iter().map(|packing| Amount::one(packing.size));
        let trees = self.trees.iter().map(|tree| Amount::one(tree.encode().len() as u64));
        let entries = self.entries.iter().map(|planned| Amount::one(entry::encode(&planned.entry).len() as u64));
        blobs.chain(packs).chain(trees).chain(entries).sum()
    }

    /// The keys whose results are to be recorded.
    pub fn keys(&self) -> impl Iterator<Item = &Digest> {
        self.entries.iter().map(|planned| &planned.key)
    }

    /// The keys whose results are there already, whole.
    pub fn there(&self) -> &[Digest] {
        &self.there
    }

    /// The keys that this machine has no result of.
    pub fn absent(&self) -> &[Digest] {
        &self.absent
    }
}

impl Remote {
    /// Finds out what a push of these keys' results would send.
    pub fn plan_push(&self, store: &Arc<Store>, keys: &[Digest]) -> Result<Push, RemoteError> {
        self.block_on(|inner| async move { inner.plan_push(store, keys.to_vec()).await })
    }

    /// Finds out what a push of artifacts and source trees would send: for those who name them in other ways than by results.
    pub fn plan_objects(
        &self,
        store: &Arc<Store>,
        artifacts: &[Artifact],
        sources: &[Digest],
    ) -> Result<Push, RemoteError> {
        self.block_on(|inner| async move {
            let mut push = Push::default();
            let gaps = inner.gaps(artifacts.iter().copied().collect(), sources.iter().copied().collect()).await?;
            inner.fill(&mut push, store, gaps).await?;
            Ok(push)
        })
    }

    /// Whether all that these artifacts consist of is there.
    pub fn exists(&self, artifacts: &[Artifact]) -> Result<bool, RemoteError> {
        self.block_on(|inner| async move { inner.exist(artifacts).await })
    }

    /// Sends what the plan says. What was sent before an error need not be sent again.
    pub fn push(&self, push: Push, watch: &Watch) -> Result<Pushed, RemoteError> {
        self.block_on(|inner| async move { inner.push(push, watch).await })
    }
}

/// What is not there.
#[derive(Debug, Default)]
struct Gaps {
    artifacts: HashSet<Artifact>,
    sources: BTreeSet<Digest>,
}

impl Inner {
    async fn plan_push(self: &Arc<Self>, store: &Arc<Store>, keys: Vec<Digest>) -> Result<Push, RemoteError> {
        self.partial.sweep();
        let mut push = Push::default();
        let wanted = keys.clone();
        let look = move |store: &Arc<Store>| Ok(wanted.iter().map(|key| store.lookup(key)).collect::<Vec<_>>());
        let mut here: BTreeMap<Digest, Entry> = BTreeMap::new();
        for (key, found) in keys.iter().zip(with_store(store, look).await?) {
            match found {
                Some(entry) => drop(here.insert(*key, entry)),
                None => push.absent.push(*key),
            }
        }
        let keys: Vec<Digest> = here.keys().copied().collect();
        let there: BTreeMap<Digest, Option<Entry>> =
            keys.iter().copied().zip(self.entries(keys.clone()).await?).collect();
        let named = |entry: &Entry| entry.result.artifacts.values().copied().collect::<Vec<_>>();
        let all = here.values().chain(there.values().flatten()).flat_map(named).collect();
        let mut gaps = self.gaps(all, BTreeSet::new()).await?;
        for (key, entry) in here {
            let theirs = there.get(&key).and_then(Option::as_ref);
            let whole = |entry: &Entry| named(entry).iter().all(|artifact| !gaps.artifacts.contains(artifact));
            match theirs {
                Some(theirs) if whole(theirs) => push.there.push(key),
                other => push.entries.push(Planned { key, entry: entry.into(), replace: other.is_some() }),
            }
        }
        let needed: HashSet<Artifact> = push.entries.iter().flat_map(|planned| named(&planned.entry)).collect();
        gaps.artifacts.retain(|artifact| needed.contains(artifact));
        self.fill(&mut push, store, gaps).await?;
        Ok(push)
    }

    pub(crate) async fn exist(self: &Arc<Self>, artifacts: &[Artifact]) -> Result<bool, RemoteError> {
        Ok(self.gaps(artifacts.iter().copied().collect(), BTreeSet::new()).await?.artifacts.is_empty())
    }

    /// Which of these the remote store lacks, in whole or in part.
    async fn gaps(
        self: &Arc<Self>,
        artifacts: HashSet<Artifact>,
        sources: BTreeSet<Digest>,
    ) -> Result<Gaps, RemoteError> {
        let of_trees = sources.into_iter().map(|digest| (digest, None));
        let asked: Vec<(Digest, Option<Artifact>)> =
            artifacts.into_iter().map(|artifact| (artifact.digest, Some(artifact))).chain(of_trees).collect();
        let look = |(digest, artifact): (Digest, Option<Artifact>)| {
            let inner = self.clone();
            async move {
                let whole = match artifact {
                    Some(Artifact { kind: ArtifactKind::File | ArtifactKind::Executable, size, .. }) => {
                        size == 0 || inner.has_object(&digest, size).await?
                    }
                    _ => inner.has_tree(&digest).await?,
                };
                Ok((!whole).then_some((digest, artifact)))
            }
        };
        let mut gaps = Gaps::default();
        for (digest, artifact) in each(asked, self.parallel, look).await?.into_iter().flatten() {
            match artifact {
                Some(artifact) => drop(gaps.artifacts.insert(artifact)),
                None => drop(gaps.sources.insert(digest)),
            }
        }
        Ok(gaps)
    }

    async fn has_object(&self, digest: &Digest, size: u64) -> Result<bool, RemoteError> {
        Ok(self.bucket.size(&names::object(&self.bucket.prefix, digest)).await? == Some(size))
    }

    /// Whether a tree is there with all that it names.
    async fn has_tree(self: &Arc<Self>, digest: &Digest) -> Result<bool, RemoteError> {
        let Some(bytes) = self.bucket.get(&names::tree(&self.bucket.prefix, digest)).await? else { return Ok(false) };
        // One that is damaged is written anew.
        let Ok(tree) = Tree::decode(&bytes, digest) else { return Ok(false) };
        let large = tree::files(&tree.manifest).filter(|file| file.size >= tree::SMALL);
        let large: BTreeSet<(Digest, u64)> = large.map(|file| (file.digest, file.size)).collect();
        let has_large = self.missing_objects(large.into_iter().collect()).await?.is_empty();
        Ok(has_large && self.missing_packs(tree.packs()).await?.is_empty())
    }

    async fn missing_objects(self: &Arc<Self>, asked: Vec<(Digest, u64)>) -> Result<HashSet<Digest>, RemoteError> {
        let look = |(digest, size): (Digest, u64)| {
            let inner = self.clone();
            async move { Ok((!inner.has_object(&digest, size).await?).then_some(digest)) }
        };
        Ok(each(asked, self.parallel, look).await?.into_iter().flatten().collect())
    }

    async fn missing_packs(self: &Arc<Self>, packs: Vec<Digest>) -> Result<HashSet<Digest>, RemoteError> {
        let look = |pack: Digest| {
            let inner = self.clone();
            async move {
                let size = inner.bucket.size(&names::pack(&inner.bucket.prefix, &pack)).await?;
                Ok(size.is_none().then_some(pack))
            }
        };
        Ok(each(packs, self.parallel, look).await?.into_iter().flatten().collect())
    }

    /// Plans to send what is missing.
    async fn fill(self: &Arc<Self>, push: &mut Push, store: &Arc<Store>, gaps: Gaps) -> Result<(), RemoteError> {
        let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
        let mut of_trees: BTreeMap<Digest, Blob> = BTreeMap::new();
        let mut pieces: Vec<Piece> = Vec::new();
        for artifact in gaps.artifacts.iter().filter(|artifact| artifact.kind != ArtifactKind::Directory) {
            let Artifact { digest, size, .. } = *artifact;
            blobs.insert(digest, Blob { digest, size, path: store.object_path(artifact), verified: true });
        }
        let directories = gaps.artifacts.iter().filter(|artifact| artifact.kind == ArtifactKind::Directory);
        let directories = directories.map(|artifact| (artifact.digest, Some(store.object_path(artifact))));
        let mut trees: Vec<(Digest, Option<PathBuf>)> = directories.collect();
        trees.extend(gaps.sources.iter().map(|digest| (*digest, None)));
        // The same order gives the same packs.
        trees.sort_unstable();
        for (digest, directory) in trees {
            let manifest = store.manifest(&digest)?;
            for file in tree::files(&manifest).filter(|file| file.size > 0) {
                let path = match &directory {
                    Some(directory) => directory.join(file.path),
                    None => store.object_path(&of_source(&file)),
                };
                let File { digest, size, .. } = file;
                if file.is_packed() {
                    pieces.push(Piece { digest, size, path });
                } else {
                    of_trees.insert(digest, Blob { digest, size, path, verified: false });
                }
            }
            push.trees.push(manifest);
        }
        of_trees.retain(|digest, _| !blobs.contains_key(digest));
        let missing = self.missing_objects(of_trees.values().map(|blob| (blob.digest, blob.size)).collect()).await?;
        of_trees.retain(|digest, _| missing.contains(digest));
        push.blobs = blobs.into_values().chain(of_trees.into_values()).collect();
        let mut seen = HashSet::new();
        pieces.retain(|piece| seen.insert(piece.digest));
        push.known = self.known_places(&seen).await?;
        pieces.retain(|piece| !push.known.contains_key(&piece.digest));
        push.packings = Packing::share_out(pieces);
        Ok(())
    }

    /// Where earlier pushes of this machine have put these files, as far as that is still there.
    async fn known_places(self: &Arc<Self>, files: &HashSet<Digest>) -> Result<HashMap<Digest, Place>, RemoteError> {
        if files.is_empty() {
            return Ok(HashMap::new());
        }
        let mut known = self.partial.packed();
        known.retain(|digest, _| files.contains(digest));
        let packs: BTreeSet<Digest> = known.values().map(|place| place.pack).collect();
        if packs.len() > SPREAD {
            return Ok(HashMap::new());
        }
        let gone = self.missing_packs(packs.into_iter().collect()).await?;
        gone.iter().for_each(|pack| self.partial.forget_pack(pack));
        known.retain(|_, place| !gone.contains(&place.pack));
        Ok(known)
    }

    async fn push(self: &Arc<Self>, push: Push, watch: &Watch) -> Result<Pushed, RemoteError> {
        if push.amount().objects == 0 {
            return Ok(Pushed::default());
        }
        // Also what makes a bucket a store, before there is anything in it.
        self.bucket.is_conditional().await?;
        let Push { entries, blobs, trees, packings, mut known, .. } = push;
        let send = |blob: Blob| {
            let (inner, watch) = (self.clone(), watch.clone());
            async move { inner.send(blob, &watch).await }
        };
        each(blobs, self.parallel, send).await?;
        let send = |packing: Packing| {
            let (inner, watch) = (self.clone(), watch.clone());
            async move { inner.send_pack(packing, &watch).await }
        };
        for (pack, files) in each(packings, self.parallel, send).await? {
            known.extend(files.into_iter().map(|(digest, offset)| (digest, Place { pack, offset })));
        }
        let known = Arc::new(known);
        let send = |manifest: Manifest| {
            let (inner, known, watch) = (self.clone(), known.clone(), watch.clone());
            async move { inner.send_tree(manifest, &known, &watch).await }
        };
        each(trees, self.parallel, send).await?;
        let record = |planned: Planned| {
            let (inner, watch) = (self.clone(), watch.clone());
            async move { inner.record(planned, &watch).await }
        };
        let mut pushed = Pushed::default();
        for (key, adopted) in each(entries, self.parallel, record).await? {
            if adopted { pushed.adopted.push(key) } else { pushed.recorded.push(key) }
        }
        Ok(pushed)
    }

    async fn send_tree(
        &self,
        manifest: Manifest,
        known: &HashMap<Digest, Place>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        let packed = tree::files(&manifest).filter(File::is_packed);
        let places: Option<Vec<Place>> = packed.map(|file| known.get(&file.digest).copied()).collect();
        let digest = manifest.artifact().digest;
        let places = places.ok_or_else(|| RemoteError::missing(&digest))?;
        let size = manifest.encode().len() as u64;
        let bytes = Tree { manifest, places }.encode();
        self.bucket.put(&names::tree(&self.bucket.prefix, &digest), bytes).await?;
        watch(Amount::one(size));
        Ok(())
    }

    /// Records a result; tells whether somebody else's is there.
    async fn record(&self, planned: Planned, watch: &Watch) -> Result<(Digest, bool), RemoteError> {
        let path = names::action(&self.bucket.prefix, &planned.key);
        let bytes = Bytes::from(entry::encode(&planned.entry));
        let size = bytes.len() as u64;
        let there = if planned.replace { None } else { Some(self.bucket.create(&path, bytes.clone()).await?) };
        let adopted = there.as_ref().is_some_and(|there| there.as_deref().and_then(entry::decode).is_some());
        // Something is there, but no result.
        if !adopted && !matches!(there, Some(None)) {
            self.bucket.put(&path, bytes).await?;
        }
        watch(Amount::one(size));
        Ok((planned.key, adopted))
    }
}

/// A file of a source tree, which is an object of its own.
pub(crate) const fn of_source(file: &File<'_>) -> Artifact {
    let kind = if file.executable { ArtifactKind::Executable } else { ArtifactKind::File };
    Artifact { kind, digest: file.digest, size: file.size }
}
