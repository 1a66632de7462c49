//! A bucket as the rest of this crate wants it: whole small objects by path, and put-if-absent.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3;
use object_store::azure::MicrosoftAzure;
use object_store::gcp::GoogleCloudStorage;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::OnceCell;

use crate::error::{ErrorKind, RemoteError};

const FORMAT_FILE: &str = "format";
const FORMAT: &str = "mlctl remote store 1\n";
/// How the format of a machine's own store begins.
const MACHINE: &[u8] = b"mlctl store ";

/// The client of a service.
#[derive(Debug)]
pub(crate) enum Backend {
    S3(AmazonS3),
    Gcs(GoogleCloudStorage),
    Azure(MicrosoftAzure),
    File(LocalFileSystem),
    #[cfg(test)]
    Other(std::sync::Arc<dyn ObjectStore>),
}

/// An open bucket, and the prefix below which everything is.
#[derive(Debug)]
pub(crate) struct Bucket {
    backend: Backend,
    pub(crate) prefix: Path,
    /// Of a request that moves little.
    patience: Duration,
    /// Whether the server has put-if-absent: found out by whoever writes first.
    conditional: OnceCell<bool>,
    /// Whether the server was seen to send a whole object where a part was asked for.
    ignores_ranges: AtomicBool,
}

impl Bucket {
    /// Opens it: the first request tells whether it is there, may be read, and can be understood.
    pub(crate) async fn open(backend: Backend, prefix: Path, patience: Duration) -> Result<Self, RemoteError> {
        let bucket =
            Self { backend, prefix, patience, conditional: OnceCell::new(), ignores_ranges: AtomicBool::new(false) };
        match bucket.get(&bucket.format_path()).await? {
            Some(text) if text.starts_with(MACHINE) => {
                let why = "it is the own store of a machine, which no other may write to: name another directory";
                Err(RemoteError::new(ErrorKind::Location, why))
            }
            Some(text) if text != FORMAT => {
                let text = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
                Err(RemoteError::new(
                    ErrorKind::Newer,
                    format!("it has format `{text}`, which this mlctl does not know"),
                ))
            }
            _ => Ok(bucket),
        }
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        match &self.backend {
            Backend::S3(store) => store,
            Backend::Gcs(store) => store,
            Backend::Azure(store) => store,
            Backend::File(store) => store,
            #[cfg(test)]
            Backend::Other(store) => store,
        }
    }

    /// What sends objects in parts that survive this process.
    pub(crate) fn multipart(&self) -> Option<&dyn MultipartStore> {
        match &self.backend {
            Backend::S3(store) => Some(store),
            Backend::Gcs(store) => Some(store),
            // There a part that was sent cannot be told from one of another upload of the same object.
            Backend::Azure(_) | Backend::File(_) => None,
            #[cfg(test)]
            Backend::Other(_) => None,
        }
    }

    /// An object, whole; `None`: there is none.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>, RemoteError> {
        let get = async { self.store().get(path).await?.bytes().await };
        found(self.patiently(get).await).map_err(|error| error.doing(format!("read {path}")))
    }

    /// Begins to read an object, or a part of it.
    pub(crate) async fn read(&self, path: &Path, range: Option<Range<u64>>) -> Result<GetResult, RemoteError> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        self.store().get_opts(path, options).await.map_err(|error| {
            // The client says that in no other way.
            if error.to_string().contains("non-partial response") {
                self.ignores_ranges.store(true, Ordering::Relaxed);
            }
            RemoteError::from(error).doing(format!("read {path}"))
        })
    }

    /// Whether [`Bucket::read`] can only read whole objects: known after the first one that was asked for a part.
    pub(crate) fn ignores_ranges(&self) -> bool {
        self.ignores_ranges.load(Ordering::Relaxed)
    }

    /// The size of an object; `None`: there is none.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, RemoteError> {
        let head = async { Ok(self.store().head(path).await?.size) };
        found(self.patiently(head).await).map_err(|error| error.doing(format!("look for {path}")))
    }

    /// Writes an object, whatever was there.
    pub(crate) async fn put(&self, path: &Path, bytes: impl Into<PutPayload>) -> Result<(), RemoteError> {
        let put = self.store().put(path, bytes.into()).await;
        put.map(drop).map_err(|error| RemoteError::from(error).doing(format!("write {path}")))
    }

    /// Writes an object unless there is one. Gives what is there instead.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<Option<Bytes>, RemoteError> {
        if self.is_conditional().await? {
            if self.put_new(path, bytes.clone()).await? == Put::Done {
                return Ok(None);
            }
            // Gone again: whoever removed it wanted it away.
            return self.get(path).await;
        }
        // Two may both find nothing and both write: the later one stays, and is what either finds afterwards, but for
        // the moment between. Both are whole and right for the same key.
        if let Some(there) = self.get(path).await? {
            return Ok(Some(there));
        }
        self.put(path, bytes.clone()).await?;
        Ok(self.get(path).await?.filter(|there| *there != bytes))
    }

    pub(crate) async fn delete(&self, path: &Path) -> Result<(), RemoteError> {
        let delete = self.patiently(async { self.store().delete(path).await }).await;
        found(delete).map(drop).map_err(|error| error.doing(format!("remove {path}")))
    }

    /// Whether the server keeps put-if-absent, tried on the format file: writing it is also what makes a bucket a store.
    pub(crate) async fn is_conditional(&self) -> Result<bool, RemoteError> {
        let probe = || async {
            for _ in 0..2 {
                match self.put_new(&self.format_path(), Bytes::from_static(FORMAT.as_bytes())).await? {
                    Put::Done => {}
                    Put::Exists => return Ok(true),
                    Put::Unknown => {
                        self.put(&self.format_path(), Bytes::from_static(FORMAT.as_bytes())).await?;
                        return Ok(false);
                    }
                }
            }
            // It was written twice: the condition is ignored.
            Ok(false)
        };
        self.conditional.get_or_try_init(probe).await.copied()
    }

    async fn put_new(&self, path: &Path, bytes: Bytes) -> Result<Put, RemoteError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.patiently(async { self.store().put_opts(path, bytes.into(), options).await }).await {
            Ok(_) => Ok(Put::Done),
            Err(Failed::Store(object_store::Error::AlreadyExists { .. })) => Ok(Put::Exists),
            Err(Failed::Store(object_store::Error::NotImplemented { .. })) => Ok(Put::Unknown),
            // As servers say that they do not know the header.
            Err(Failed::Store(error)) if error.to_string().contains("status code: 501") => Ok(Put::Unknown),
            Err(failed) => Err(RemoteError::from(failed).doing(format!("write {path}"))),
        }
    }

    fn format_path(&self) -> Path {
        self.prefix.clone().join(FORMAT_FILE)
    }

    async fn patiently<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T, Failed> {
        tokio::time::timeout(self.patience, request)
            .await
            .map_or(Err(Failed::Silent), |done| done.map_err(Failed::Store))
    }
}

/// What became of a put-if-absent.
#[derive(Debug, PartialEq, Eq)]
enum Put {
    Done,
    Exists,
    /// The server does not know the condition.
    Unknown,
}

enum Failed {
    Silent,
    Store(object_store::Error),
}

impl From<Failed> for RemoteError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Silent => Self::new(ErrorKind::Unreachable, "the server is silent"),
            Failed::Store(error) => error.into(),
        }
    }
}

/// That there is nothing is no error.
fn found<T>(result: Result<T, Failed>) -> Result<Option<T>, RemoteError> {
    match result.map_err(RemoteError::from) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
