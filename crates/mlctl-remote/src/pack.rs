//! Packs: many small files in one object.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use mlctl_core::digest::Digest;

use crate::error::{ErrorKind, RemoteError};
use crate::memory::{BUFFER, Buffer};
use crate::names;
use crate::remote::{Amount, Inner, Watch, blocking};

/// The most bytes in a pack.
pub(crate) const PACK: u64 = BUFFER;

/// A small file that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) path: PathBuf,
}

/// Small files that travel together, each content once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packing {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) size: u64,
}

impl Packing {
    /// Shares pieces out, in their order: so the same files give the same packs again.
    pub(crate) fn share_out(pieces: Vec<Piece>) -> Vec<Self> {
        let mut packings: Vec<Self> = Vec::new();
        for piece in pieces {
            match packings.last_mut() {
                Some(last) if last.size + piece.size <= PACK => {
                    last.size += piece.size;
                    last.pieces.push(piece);
                }
                _ => packings.push(Self { size: piece.size, pieces: vec![piece] }),
            }
        }
        packings
    }

    /// Reads the files, and checks each.
    fn read(&self, mut buffer: Buffer) -> Result<(Bytes, Vec<(Digest, u32)>), RemoteError> {
        let bytes = buffer.bytes_mut();
        let mut files = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let start = bytes.len();
            let mut file =
                std::fs::File::open(&piece.path).map_err(|error| RemoteError::io("read", &piece.path, &error))?;
            std::io::copy(&mut std::io::Read::take(&mut file, piece.size), bytes)
                .map_err(|error| RemoteError::io("read", &piece.path, &error))?;
            if Digest::of(&bytes[start..]) != piece.digest {
                let why = format!("{} is damaged: run its step again", piece.path.display());
                return Err(RemoteError::new(ErrorKind::Local, why));
            }
            files.push((piece.digest, start as u32));
        }
        Ok((buffer.into_bytes(), files))
    }
}

impl Inner {
    /// Sends a pack, unless a push that was cut off has already. Gives its digest, and where each file begins.
    pub(crate) async fn send_pack(
        self: &Arc<Self>,
        packing: Packing,
        watch: &Watch,
    ) -> Result<(Digest, Vec<(Digest, u32)>), RemoteError> {
        let size = packing.size;
        let buffer = self.memory.buffer(size).await?;
        let (bytes, files, pack) = blocking(move || {
            let (bytes, files) = packing.read(buffer)?;
            let pack = Digest::of(&bytes);
            Ok((bytes, files, pack))
        })
        .await?;
        let to = names::pack(&self.bucket.prefix, &pack);
        if self.bucket.size(&to).await? != Some(size) {
            self.bucket.put(&to, bytes).await?;
        }
        self.partial.remember_pack(&pack, &files);
        watch(Amount::one(size));
        Ok((pack, files))
    }
}
