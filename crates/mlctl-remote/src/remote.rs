//! An open remote store.

use std::future::Future;
use std::sync::{Arc, Mutex};

use mlctl_core::digest::Digest;
use mlctl_exec::manifest::Manifest;
use mlctl_exec::store::{Entry, Store};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::bucket::Bucket;
use crate::connect::{self, Options};
use crate::error::{ErrorKind, RemoteError};
use crate::location::Location;
use crate::memory::Memory;
use crate::partial::Partial;
use crate::{entry, names};

/// How much of something there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Objects: requests that carry them.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) const fn one(bytes: u64) -> Self {
        Self { objects: 1, bytes }
    }

    pub(crate) const fn bytes(bytes: u64) -> Self {
        Self { objects: 0, bytes }
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts
            .fold(Self::default(), |all, one| Self { objects: all.objects + one.objects, bytes: all.bytes + one.bytes })
    }
}

/// Told what has just been moved. Together that is what the plan said, but for what was already there.
pub type Watch = Arc<dyn Fn(Amount) + Send + Sync>;

/// An open remote store. What it does blocks the calling thread, and works on threads of its own.
#[derive(Debug)]
pub struct Remote {
    // Before what its tasks use.
    runtime: Runtime,
    inner: Arc<Inner>,
    /// Mostly all entries of one directory are asked for in a row.
    pub(crate) latest_tree: Mutex<Option<(Digest, Arc<Manifest>)>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) bucket: Bucket,
    pub(crate) partial: Partial,
    /// Requests at a time.
    pub(crate) parallel: usize,
    /// For objects on their way.
    pub(crate) memory: Memory,
}

impl Remote {
    /// Opens the store at `location`. One that nothing was ever written to is empty.
    pub fn open(location: &Location, options: &Options) -> Result<Self, RemoteError> {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("mlctl-remote")
            .enable_all()
            .build()
            .map_err(|error| {
                RemoteError::new(ErrorKind::Local, format!("cannot start the network runtime: {error}"))
            })?;
        let opened = runtime.block_on(async {
            let backend = connect::connect(location, options).await?;
            Bucket::open(backend, location.prefix.clone(), options.patience).await
        });
        let bucket = opened.map_err(|error| error.doing(format!("open the store {location}")))?;
        let inner = Inner {
            bucket,
            partial: Partial::new(&options.state, location),
            parallel: options.parallel.max(1),
            memory: Memory::new(options.memory),
        };
        Ok(Self { runtime, inner: Arc::new(inner), latest_tree: Mutex::default() })
    }

    /// The results of keys, as far as there are any. What they name may be missing all the same: [`Remote::pull`] tells.
    pub fn lookup(&self, keys: &[Digest]) -> Result<Vec<Option<Entry>>, RemoteError> {
        self.block_on(|inner| async move { inner.entries(keys.to_vec()).await })
    }

    /// Whether the server has put-if-absent. Without it two machines that compute the same key at the same time may each
    /// go on with a result of its own; both are whole, and the later one stays.
    pub fn is_conditional(&self) -> Result<bool, RemoteError> {
        self.block_on(|inner| async move { inner.bucket.is_conditional().await })
    }

    pub(crate) fn block_on<F: Future>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> F::Output {
        self.runtime.block_on(work(self.inner.clone()))
    }
}

impl Inner {
    /// The results of keys, in their order.
    pub(crate) async fn entries(self: &Arc<Self>, keys: Vec<Digest>) -> Result<Vec<Option<Entry>>, RemoteError> {
        let inner = self.clone();
        let get = move |key: Digest| {
            let inner = inner.clone();
            async move { inner.entry(&key).await }
        };
        each(keys, self.parallel, get).await
    }

    async fn entry(&self, key: &Digest) -> Result<Option<Entry>, RemoteError> {
        let bytes = self.bucket.get(&names::action(&self.bucket.prefix, key)).await?;
        Ok(bytes.and_then(|bytes| entry::decode(&bytes)))
    }
}

/// Does `work` for all items, at most `limit` at a time, on the runtime's threads; results are in the items' order. The
/// first error ends it all.
pub(crate) async fn each<T, R, F>(items: Vec<T>, limit: usize, work: impl Fn(T) -> F) -> Result<Vec<R>, RemoteError>
where
    R: Send + 'static,
    F: Future<Output = Result<R, RemoteError>> + Send + 'static,
{
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    // Dropped, it ends what still runs.
    let mut running = JoinSet::new();
    let mut items = items.into_iter().enumerate();
    loop {
        while running.len() < limit
            && let Some((index, item)) = items.next()
        {
            let future = work(item);
            running.spawn(async move { (index, future.await) });
        }
        let Some(done) = running.join_next().await else { break };
        let (index, result) = done.map_err(|error| RemoteError::new(ErrorKind::Local, error.to_string()))?;
        match result {
            Ok(result) => results[index] = Some(result),
            Err(error) => {
                // Nothing of it goes on behind the back of whoever tries again.
                running.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(results.into_iter().flatten().collect())
}

/// Does what blocks on a thread that may.
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, RemoteError> + Send + 'static,
) -> Result<R, RemoteError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(RemoteError::new(ErrorKind::Local, error.to_string())))
}

/// The local store, on a thread that may block.
pub(crate) async fn with_store<R: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Arc<Store>) -> Result<R, RemoteError> + Send + 'static,
) -> Result<R, RemoteError> {
    let store = store.clone();
    blocking(move || work(&store)).await
}
