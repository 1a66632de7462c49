//! One result at a time: what a pod asks, which has no results of its own that could be synced.

use std::sync::Arc;

use bytes::Bytes;
use mlctl_core::digest::Digest;
use mlctl_exec::store::Entry;

use crate::error::RemoteError;
use crate::remote::{Inner, Remote, each};
use crate::{entry, names};

impl Remote {
    /// The result of a key, if everything that it names is there.
    pub fn result(&self, key: &Digest) -> Result<Option<Entry>, RemoteError> {
        self.block_on(|inner| async move {
            let Some(found) = inner.entries(vec![*key]).await?.pop().flatten() else { return Ok(None) };
            Ok(if inner.is_whole(&found).await? { Some(found) } else { None })
        })
    }

    /// The same for many keys, in their order.
    pub fn results(&self, keys: &[Digest]) -> Result<Vec<Option<Entry>>, RemoteError> {
        self.block_on(|inner| async move {
            let found = inner.entries(keys.to_vec()).await?;
            let whole = |entry: Option<Entry>| {
                let inner = inner.clone();
                async move {
                    let Some(entry) = entry else { return Ok(None) };
                    Ok(if inner.is_whole(&entry).await? { Some(entry) } else { None })
                }
            };
            each(found, inner.parallel, whole).await
        })
    }

    /// Records the result of a key, whose objects are there, unless there is one that is whole; gives the one that is
    /// there then. `replace`: whatever was there.
    pub fn record_result(&self, key: &Digest, entry: Entry, replace: bool) -> Result<Entry, RemoteError> {
        self.block_on(|inner| async move {
            let path = names::action(&inner.bucket.prefix, key);
            let bytes = Bytes::from(entry::encode(&entry));
            if !replace {
                let Some(there) = inner.bucket.create(&path, bytes.clone()).await? else { return Ok(entry) };
                if let Some(theirs) = entry::decode(&there)
                    && inner.is_whole(&theirs).await?
                {
                    return Ok(theirs);
                }
            }
            inner.bucket.put(&path, bytes).await?;
            Ok(entry)
        })
    }
}

impl Inner {
    async fn is_whole(self: &Arc<Self>, entry: &Entry) -> Result<bool, RemoteError> {
        self.exist(&entry.result.artifacts.values().copied().collect::<Vec<_>>()).await
    }
}
