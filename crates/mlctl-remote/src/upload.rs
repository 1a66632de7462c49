//! Sending files: small ones in one request, large ones in parts that need not be sent again after an interruption.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mlctl_core::digest::Digest;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use tokio::task::JoinSet;

use crate::error::{ErrorKind, RemoteError};
use crate::memory::BUFFER;
use crate::names;
use crate::partial::Journal;
use crate::remote::{Amount, Inner, Watch, blocking, each};

/// Parts of large files: large enough for a fast connection, small enough for a slow one to send within the time for
/// which a server may be silent.
pub(crate) const PART: u64 = BUFFER;
/// The most parts that S3 takes.
const MOST_PARTS: u64 = 10_000;
/// Parts of one file at a time.
const PARTS_AT_A_TIME: usize = 8;

/// A file that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) path: PathBuf,
    /// Whether its content was found right a moment ago.
    pub(crate) verified: bool,
}

/// An upload that is going on.
struct Upload {
    id: String,
    part: u64,
    /// The parts that have been sent, by number.
    sent: Vec<Option<PartId>>,
}

impl Inner {
    /// Sends a file.
    pub(crate) async fn send(self: &Arc<Self>, blob: Blob, watch: &Watch) -> Result<(), RemoteError> {
        let to = names::object(&self.bucket.prefix, &blob.digest);
        if !blob.verified {
            verify(&blob).await?;
        }
        if blob.size <= PART {
            let bytes = self.memory.read(&blob.path, 0, blob.size).await?;
            self.bucket.put(&to, bytes).await?;
            watch(Amount::one(blob.size));
            return Ok(());
        }
        let sent = match self.bucket.multipart() {
            Some(_) => self.send_resumable(&blob, &to, watch).await,
            None => self.send_at_once(&blob, &to, watch).await,
        };
        sent.map_err(|error| error.doing(format!("write {to}")))?;
        watch(Amount::one(0));
        Ok(())
    }

    async fn send_resumable(self: &Arc<Self>, blob: &Blob, to: &Path, watch: &Watch) -> Result<(), RemoteError> {
        let mut journal = self.partial.upload(&blob.digest);
        let resumed = journal.as_mut().and_then(|journal| resumed(journal, blob.size));
        if let Some(upload) = resumed {
            let there: u64 =
                (0..).zip(&upload.sent).filter(|(_, sent)| sent.is_some()).map(|(n, _)| length(n, &upload, blob)).sum();
            watch(Amount::bytes(there));
            match self.send_parts(blob, to, upload, &mut journal, watch).await {
                // The server does not know the upload any more, or not all of its parts.
                Err(error) if matches!(error.kind(), ErrorKind::Missing | ErrorKind::Refused) => {}
                other => {
                    other?;
                    done(journal);
                    return Ok(());
                }
            }
        }
        if let Some(journal) = &mut journal {
            journal.restart();
        }
        let part = PART.max(blob.size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
        let upload = Upload {
            id: self.multipart_store()?.create_multipart(to).await?,
            part,
            sent: vec![None; blob.size.div_ceil(part) as usize],
        };
        if let Some(journal) = &mut journal {
            journal.add(&format!("{} {}", upload.part, upload.id));
        }
        self.send_parts(blob, to, upload, &mut journal, watch).await?;
        done(journal);
        Ok(())
    }

    async fn send_parts(
        self: &Arc<Self>,
        blob: &Blob,
        to: &Path,
        mut upload: Upload,
        journal: &mut Option<Journal>,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        let missing: Vec<u64> =
            (0..).zip(&upload.sent).filter(|(_, sent)| sent.is_none()).map(|(number, _)| number).collect();
        let shared = Arc::new(Mutex::new(journal.take()));
        let send = |number: u64| {
            let (inner, to, id, watch) = (self.clone(), to.clone(), upload.id.clone(), watch.clone());
            let (path, offset, length) = (blob.path.clone(), number * upload.part, length(number, &upload, blob));
            let shared = shared.clone();
            async move {
                let bytes = inner.memory.read(&path, offset, length).await?;
                let part = inner.multipart_store()?.put_part(&to, &id, number as usize, bytes.into()).await?;
                if let Some(journal) = &mut *shared.lock().unwrap_or_else(PoisonError::into_inner) {
                    journal.add(&format!("{number} {}", part.content_id));
                }
                watch(Amount::bytes(length));
                Ok((number, part))
            }
        };
        let sent = each(missing, PARTS_AT_A_TIME, send).await;
        *journal = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (number, part) in sent? {
            upload.sent[number as usize] = Some(part);
        }
        let parts = upload.sent.into_iter().flatten().collect();
        self.multipart_store()?.complete_multipart(to, &upload.id, parts).await?;
        Ok(())
    }

    /// For services whose parts cannot be found again.
    async fn send_at_once(self: &Arc<Self>, blob: &Blob, to: &Path, watch: &Watch) -> Result<(), RemoteError> {
        let mut upload = self.bucket.store().put_multipart(to).await?;
        let sent = self.send_in_order(blob, upload.as_mut(), watch).await;
        if sent.is_err() {
            // What remains of it the service removes in time.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn send_in_order(
        self: &Arc<Self>,
        blob: &Blob,
        upload: &mut dyn MultipartUpload,
        watch: &Watch,
    ) -> Result<(), RemoteError> {
        let mut running = JoinSet::new();
        let part = PART.max(blob.size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
        let mut offset = 0;
        while offset < blob.size || !running.is_empty() {
            if offset < blob.size && running.len() < PARTS_AT_A_TIME {
                let length = part.min(blob.size - offset);
                let bytes = self.memory.read(&blob.path, offset, length).await?;
                let sending = upload.put_part(bytes.into());
                let watch = watch.clone();
                running.spawn(async move {
                    sending.await?;
                    watch(Amount::bytes(length));
                    Ok::<_, RemoteError>(())
                });
                offset += length;
                continue;
            }
            if let Some(done) = running.join_next().await {
                done.map_err(|error| RemoteError::new(ErrorKind::Local, error.to_string()))??;
            }
        }
        upload.complete().await?;
        Ok(())
    }

    fn multipart_store(&self) -> Result<&dyn MultipartStore, RemoteError> {
        let none = || RemoteError::new(ErrorKind::Refused, "the service takes no parts");
        self.bucket.multipart().ok_or_else(none)
    }
}

fn done(journal: Option<Journal>) {
    if let Some(journal) = journal {
        journal.finish();
    }
}

/// The upload that a journal tells of.
fn resumed(journal: &mut Journal, size: u64) -> Option<Upload> {
    let (part, id) = journal.lines.first()?.split_once(' ')?;
    let part: u64 = part.parse().ok().filter(|part| *part > 0)?;
    let mut sent = vec![None; size.div_ceil(part) as usize];
    for line in &journal.lines[1..] {
        let (number, content_id) = line.split_once(' ')?;
        *sent.get_mut(number.parse::<usize>().ok()?)? = Some(PartId { content_id: content_id.to_owned() });
    }
    Some(Upload { id: id.to_owned(), part, sent })
}

fn length(number: u64, upload: &Upload, blob: &Blob) -> u64 {
    upload.part.min(blob.size - number * upload.part)
}

async fn verify(blob: &Blob) -> Result<(), RemoteError> {
    let Blob { path, digest, .. } = blob.clone();
    blocking(move || {
        if mlctl_exec::hash::file(&path)?.0 == digest {
            return Ok(());
        }
        Err(RemoteError::new(ErrorKind::Local, format!("{} is damaged: run its step again", path.display())))
    })
    .await
}
