//! Records of runs: small objects that machines tell each other about a run by.

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::error::RemoteError;
use crate::names;
use crate::remote::Remote;

impl Remote {
    /// Writes a record unless there is one of that name; gives what is there instead.
    pub fn create_record(&self, run: &str, name: &str, bytes: Vec<u8>) -> Result<Option<Bytes>, RemoteError> {
        self.block_on(|inner| async move {
            inner.bucket.create(&names::record(&inner.bucket.prefix, run, name), bytes.into()).await
        })
    }

    /// Writes a record, whatever was there.
    pub fn put_record(&self, run: &str, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        self.block_on(
            |inner| async move { inner.bucket.put(&names::record(&inner.bucket.prefix, run, name), bytes).await },
        )
    }

    /// A record; `None`: there is none.
    pub fn record(&self, run: &str, name: &str) -> Result<Option<Bytes>, RemoteError> {
        self.block_on(|inner| async move { inner.bucket.get(&names::record(&inner.bucket.prefix, run, name)).await })
    }

    /// The names of the records of a run below `directory` (`""`: all), sorted.
    pub fn records(&self, run: &str, directory: &str) -> Result<Vec<String>, RemoteError> {
        self.block_on(|inner| async move {
            let all = names::record(&inner.bucket.prefix, run, "");
            let below = names::record(&inner.bucket.prefix, run, directory);
            let listed: Vec<_> = inner.bucket.store().list(Some(&below)).try_collect().await?;
            let mut names: Vec<String> = listed
                .into_iter()
                .filter_map(|object| {
                    let parts = object.location.prefix_match(&all)?;
                    Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
                })
                .collect();
            names.sort_unstable();
            Ok(names)
        })
    }
}
