//! Records of runs: small objects that machines tell each other about a run by.

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::error::RemoteError;
use crate::names;
use crate::remote::{Inner, Remote, each};

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
        self.block_on(|inner| async move { inner.records(run, directory).await })
    }

    /// Many records at once, in the order of their names.
    pub fn record_each(&self, run: &str, names: &[String]) -> Result<Vec<Option<Bytes>>, RemoteError> {
        self.block_on(|inner| async move {
            let prefix = &inner.bucket.prefix;
            let paths = names.iter().map(|name| names::record(prefix, run, name)).collect();
            let get = |path| {
                let inner = inner.clone();
                async move { inner.bucket.get(&path).await }
            };
            each(paths, inner.parallel, get).await
        })
    }

    /// The record of this name of each run that has one.
    pub fn record_of_runs(&self, name: &str) -> Result<Vec<(String, Bytes)>, RemoteError> {
        let runs = self.runs()?;
        self.block_on(|inner| async move {
            let get = |run: String| {
                let (inner, name) = (inner.clone(), name.to_owned());
                async move {
                    let record = inner.bucket.get(&names::record(&inner.bucket.prefix, &run, &name)).await?;
                    Ok(record.map(|bytes| (run, bytes)))
                }
            };
            Ok(each(runs, inner.parallel, get).await?.into_iter().flatten().collect())
        })
    }

    /// The names of the records of a run below each of these directories.
    pub fn records_below(&self, run: &str, directories: &[String]) -> Result<Vec<String>, RemoteError> {
        self.block_on(|inner| async move {
            let list = |directory: String| {
                let (inner, run) = (inner.clone(), run.to_owned());
                async move { inner.records(&run, &directory).await }
            };
            Ok(each(directories.to_vec(), inner.parallel, list).await?.concat())
        })
    }

    /// The runs that have records, sorted.
    pub fn runs(&self) -> Result<Vec<String>, RemoteError> {
        self.block_on(|inner| async move {
            let all = names::runs(&inner.bucket.prefix);
            let listed = inner.bucket.store().list_with_delimiter(Some(&all)).await?;
            let mut runs: Vec<String> =
                listed.common_prefixes.iter().filter_map(|run| Some(run.filename()?.to_owned())).collect();
            runs.sort_unstable();
            Ok(runs)
        })
    }
}

impl Inner {
    async fn records(&self, run: &str, directory: &str) -> Result<Vec<String>, RemoteError> {
        let all = names::record(&self.bucket.prefix, run, "");
        let below = names::record(&self.bucket.prefix, run, directory);
        let listed: Vec<_> = self.bucket.store().list(Some(&below)).try_collect().await?;
        let mut names: Vec<String> = listed
            .into_iter()
            .filter_map(|object| {
                let parts = object.location.prefix_match(&all)?;
                Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
            })
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}
