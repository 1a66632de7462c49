//! From the remote store to this machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_exec::manifest::Manifest;
use mlctl_exec::store::{Entry, Store};

use crate::directory;
use crate::error::{ErrorKind, RemoteError};
use crate::remote::{Amount, Inner, Remote, Watch, each, with_store};
use crate::tree::Tree;

/// What a pull would fetch.
#[derive(Debug, Default)]
pub struct Pull {
    entries: Vec<(Digest, Entry)>,
    files: Vec<Artifact>,
    trees: Vec<(Artifact, Tree)>,
    here: Vec<Digest>,
    absent: Vec<Digest>,
    /// Artifacts that cannot be had, and why.
    lost: HashMap<Artifact, RemoteError>,
}

/// What a pull did.
#[derive(Debug, Clone, Default)]
pub struct Pulled {
    /// Results that this machine has now.
    pub received: Vec<Digest>,
    /// Results whose objects are not all there, or are damaged: they are of no use.
    pub lost: Vec<(Digest, RemoteError)>,
}

impl Pull {
    /// What is to be fetched. (Results and manifests were fetched to find that out.)
    pub fn amount(&self) -> Amount {
        let files = self.files.iter().map(|artifact| Amount::one(artifact.size));
        files.chain(self.trees.iter().map(|(_, tree)| directory::amount(tree))).sum()
    }

    /// The keys whose results there are to be had, as far as is known yet.
    pub fn keys(&self) -> impl Iterator<Item = &Digest> {
        let lost = |entry: &Entry| entry.result.artifacts.values().any(|artifact| self.lost.contains_key(artifact));
        self.entries.iter().filter(move |(_, entry)| !lost(entry)).map(|(key, _)| key)
    }

    /// The keys whose results this machine has already.
    pub fn here(&self) -> &[Digest] {
        &self.here
    }

    /// The keys that have no result there.
    pub fn absent(&self) -> &[Digest] {
        &self.absent
    }
}

impl Remote {
    /// Finds out what a pull of these keys' results would fetch.
    pub fn plan_pull(&self, store: &Arc<Store>, keys: &[Digest]) -> Result<Pull, RemoteError> {
        self.block_on(|inner| async move { inner.plan_pull(store, keys.to_vec()).await })
    }

    /// Fetches what the plan says, and records the results here. What is missing or damaged there costs only what needs it.
    pub fn pull(&self, store: &Arc<Store>, pull: Pull, watch: &Watch) -> Result<Pulled, RemoteError> {
        self.block_on(|inner| async move { inner.pull(store, pull, watch).await })
    }

    /// What a directory or a source tree holds, without its files; `None`: it is not there.
    pub fn tree(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>, RemoteError> {
        let mut latest = self.latest_tree.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, manifest)) = latest.as_ref().filter(|(of, _)| of == digest) {
            return Ok(Some(manifest.clone()));
        }
        match self.block_on(|inner| async move { inner.tree(digest).await }) {
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
            Ok(tree) => Ok(Some(latest.insert((*digest, Arc::new(tree.manifest))).1.clone())),
        }
    }

    /// Fetches artifacts and source trees: for those who name them in other ways than by results. All must be there.
    pub fn fetch(
        &self,
        store: &Arc<Store>,
        artifacts: &[Artifact],
        sources: &[Digest],
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        self.block_on(|inner| async move {
            let mut pull = Pull::default();
            inner.plan_objects(&mut pull, store, artifacts.iter().copied().collect()).await?;
            let lost = inner.fetch_all(store, &mut pull, watch).await?;
            if let Some((_, error)) = lost.into_iter().next() {
                return Err(error);
            }
            for digest in sources {
                if store.manifest(digest).is_err() {
                    let tree = inner.tree(digest).await?;
                    inner.fetch_sources(tree, store, watch).await?;
                }
            }
            Ok(())
        })
    }
}

impl Inner {
    async fn plan_pull(self: &Arc<Self>, store: &Arc<Store>, keys: Vec<Digest>) -> Result<Pull, RemoteError> {
        self.partial.sweep();
        let mut pull = Pull::default();
        let wanted = keys.clone();
        let look =
            move |store: &Arc<Store>| Ok(wanted.iter().map(|key| store.lookup(key).is_some()).collect::<Vec<_>>());
        let here = with_store(store, look).await?;
        let (here, keys): (Vec<_>, Vec<_>) = keys.into_iter().zip(here).partition(|(_, here)| *here);
        pull.here = here.into_iter().map(|(key, _)| key).collect();
        let keys: BTreeSet<Digest> = keys.into_iter().map(|(key, _)| key).collect();
        let keys: Vec<Digest> = keys.into_iter().collect();
        for (key, entry) in keys.iter().zip(self.entries(keys.clone()).await?) {
            match entry {
                Some(entry) => pull.entries.push((*key, entry)),
                None => pull.absent.push(*key),
            }
        }
        let artifacts = pull.entries.iter().flat_map(|(_, entry)| entry.result.artifacts.values().copied());
        let artifacts = artifacts.collect();
        self.plan_objects(&mut pull, store, artifacts).await?;
        Ok(pull)
    }

    /// Plans to fetch what is not here.
    async fn plan_objects(
        self: &Arc<Self>,
        pull: &mut Pull,
        store: &Arc<Store>,
        artifacts: std::collections::HashSet<Artifact>,
    ) -> Result<(), RemoteError> {
        let look = move |store: &Arc<Store>| {
            let mut missing = Vec::new();
            for artifact in artifacts {
                if !store.is_right(&artifact)? {
                    missing.push(artifact);
                }
            }
            Ok(missing)
        };
        let missing = with_store(store, look).await?;
        let (directories, files): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|artifact| artifact.kind == ArtifactKind::Directory);
        pull.files = files;
        let get = |artifact: Artifact| {
            let inner = self.clone();
            async move { Ok((artifact, of_use(inner.tree(&artifact.digest).await)?)) }
        };
        for (artifact, tree) in each(directories, self.parallel, get).await? {
            match tree {
                Ok(tree) => pull.trees.push((artifact, tree)),
                Err(error) => drop(pull.lost.insert(artifact, error)),
            }
        }
        Ok(())
    }

    async fn pull(self: &Arc<Self>, store: &Arc<Store>, mut pull: Pull, watch: &Watch) -> Result<Pulled, RemoteError> {
        let lost = self.fetch_all(store, &mut pull, watch).await?;
        let entries = std::mem::take(&mut pull.entries);
        with_store(store, move |store| {
            let mut pulled = Pulled::default();
            for (key, entry) in entries {
                match entry.result.artifacts.values().find_map(|artifact| lost.get(artifact)) {
                    Some(error) => pulled.lost.push((key, error.clone())),
                    None => {
                        store.record(&key, entry)?;
                        pulled.received.push(key);
                    }
                }
            }
            Ok(pulled)
        })
        .await
    }

    /// Fetches files and directories, and gives those that cannot be had.
    async fn fetch_all(
        self: &Arc<Self>,
        store: &Arc<Store>,
        pull: &mut Pull,
        watch: &Watch,
    ) -> Result<HashMap<Artifact, RemoteError>, RemoteError> {
        let mut lost = std::mem::take(&mut pull.lost);
        // Two artifacts may be the same content, executable and not: the second is found here.
        let mut by_digest: BTreeMap<Digest, Vec<Artifact>> = BTreeMap::new();
        for artifact in std::mem::take(&mut pull.files) {
            by_digest.entry(artifact.digest).or_default().push(artifact);
        }
        let get = |artifacts: Vec<Artifact>| {
            let (inner, store, watch) = (self.clone(), store.clone(), watch.clone());
            async move {
                let mut done = Vec::new();
                for artifact in artifacts {
                    done.push((artifact, of_use(inner.fetch(artifact, &store, &watch).await)?));
                }
                Ok(done)
            }
        };
        let files = each(by_digest.into_values().collect(), self.parallel, get).await?;
        let get = |(artifact, tree): (Artifact, Tree)| {
            let (inner, store, watch) = (self.clone(), store.clone(), watch.clone());
            async move {
                let fetched = inner.fetch_directory(tree, &store, &watch).await.map(drop);
                Ok((artifact, of_use(fetched)?))
            }
        };
        // Each is itself fetched in many requests.
        let trees = each(std::mem::take(&mut pull.trees), TREES_AT_A_TIME, get).await?;
        for (artifact, result) in files.into_iter().flatten().chain(trees) {
            if let Err(error) = result {
                lost.insert(artifact, error);
            }
        }
        Ok(lost)
    }
}

/// Directories at a time.
const TREES_AT_A_TIME: usize = 8;

/// That an object is missing or damaged costs what needs it; anything else ends the whole.
fn of_use<T>(result: Result<T, RemoteError>) -> Result<Result<T, RemoteError>, RemoteError> {
    match result {
        Err(error) if !matches!(error.kind(), ErrorKind::Missing | ErrorKind::Damaged) => Err(error),
        other => Ok(other),
    }
}
