//! Put-if-absent on servers that have it, refuse it, or ignore it.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutResult, Result,
};

use super::*;

/// How a server takes a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Keeps,
    Refuses,
    Ignores,
}

#[derive(Debug)]
struct Server {
    manner: Manner,
    memory: InMemory,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a server")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Server {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let conditional = options.mode == PutMode::Create;
        match self.manner {
            Manner::Refuses if conditional => Err(object_store::Error::NotImplemented {
                operation: "If-None-Match".into(),
                implementer: "a server".into(),
            }),
            Manner::Ignores => self.memory.put(to, payload).await,
            _ => self.memory.put_opts(to, payload, options).await,
        }
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.memory.get_opts(from, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.memory.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

fn bucket(manner: Manner) -> Bucket {
    let backend = Backend::Other(Arc::new(Server { manner, memory: InMemory::new() }));
    Bucket {
        backend,
        prefix: Path::from("x"),
        patience: Duration::from_secs(5),
        conditional: OnceCell::new(),
        ignores_ranges: AtomicBool::new(false),
    }
}

#[tokio::test]
async fn the_first_one_wins_on_every_server() {
    for manner in [Manner::Keeps, Manner::Refuses, Manner::Ignores] {
        let bucket = bucket(manner);
        let path = Path::from("x/actions/1");
        assert_eq!(bucket.create(&path, "first".into()).await.unwrap(), None, "{manner:?}");
        let there = bucket.create(&path, "second".into()).await.unwrap();
        assert_eq!(there.as_deref(), Some(b"first".as_slice()), "{manner:?}");
        assert_eq!(bucket.is_conditional().await.unwrap(), manner == Manner::Keeps, "{manner:?}");
    }
}

#[tokio::test]
async fn a_store_of_a_newer_mlctl_is_refused() {
    let Bucket { backend, .. } = bucket(Manner::Keeps);
    let Backend::Other(server) = backend else { unreachable!() };
    server.put(&Path::from("x/format"), "mlctl remote store 2\n".into()).await.unwrap();
    let opened = Bucket::open(Backend::Other(server), Path::from("x"), Duration::from_secs(5)).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Newer);
}

#[tokio::test]
async fn what_is_not_there_is_no_error() {
    let bucket = bucket(Manner::Keeps);
    let path = Path::from("x/objects/1");
    assert_eq!((bucket.get(&path).await.unwrap(), bucket.size(&path).await.unwrap()), (None, None));
    bucket.delete(&path).await.unwrap();
}
