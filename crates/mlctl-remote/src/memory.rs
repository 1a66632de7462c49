//! The memory for objects on their way: so many bytes, and no more. Large buffers are used again rather than given back:
//! an allocator keeps what it is given back, and a store would come to hold several times what it may.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ErrorKind, RemoteError};
use crate::remote::blocking;

/// A share is a multiple of this.
const UNIT: u64 = 1024;
/// The size of the buffers that are used again.
pub(crate) const BUFFER: u64 = 8 << 20;

/// All that may be held.
#[derive(Debug)]
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    /// In units.
    all: u32,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A share of the memory. Its bytes are its own until the last of them is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
    _share: OwnedSemaphorePermit,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { free: Arc::new(Semaphore::new(all as usize)), all, idle: Arc::default() }
    }

    /// Waits until so many bytes may be held. What is larger than all of it takes all of it.
    pub(crate) async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, RemoteError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.all);
        let closed = |_| RemoteError::new(ErrorKind::Local, "the store is being closed");
        self.free.clone().acquire_many_owned(units).await.map_err(closed)
    }

    /// An empty buffer for so many bytes.
    pub(crate) async fn buffer(&self, bytes: u64) -> Result<Buffer, RemoteError> {
        let pooled = (BUFFER / 2..=BUFFER).contains(&bytes);
        let share = self.take(if pooled { BUFFER } else { bytes }).await?;
        let idle = if pooled { lock(&self.idle).pop() } else { None };
        let capacity = if pooled { BUFFER } else { bytes };
        let bytes = idle.unwrap_or_else(|| Vec::with_capacity(capacity as usize));
        Ok(Buffer { bytes, idle: self.idle.clone(), _share: share })
    }

    /// Part of a file.
    pub(crate) async fn read(&self, path: &Path, offset: u64, length: u64) -> Result<Bytes, RemoteError> {
        let mut buffer = self.buffer(length).await?;
        let path = path.to_owned();
        blocking(move || {
            buffer.bytes.resize(length as usize, 0);
            let read = File::open(&path).and_then(|file| file.read_exact_at(&mut buffer.bytes, offset));
            read.map_err(|error| RemoteError::io("read", &path, &error))?;
            Ok(buffer.into_bytes())
        })
        .await
    }
}

impl Buffer {
    /// What it holds: nothing at first.
    pub(crate) const fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() as u64 == BUFFER {
            bytes.clear();
            lock(&self.idle).push(bytes);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn buffers_are_used_again_and_the_whole_is_bounded() {
        let memory = Memory::new(2 * BUFFER);
        let (mut one, two) = (memory.buffer(BUFFER).await.unwrap(), memory.buffer(BUFFER - 1).await.unwrap());
        one.bytes_mut().push(7);
        let place = one.bytes.as_ptr();
        assert_eq!(memory.free.available_permits(), 0);
        let bytes = one.into_bytes();
        let slice = bytes.slice(..1);
        drop(bytes);
        assert_eq!(memory.free.available_permits(), 0, "a slice of it is still there");
        drop(slice);
        let again = memory.buffer(BUFFER).await.unwrap();
        assert_eq!((again.bytes.as_ptr(), again.bytes.len()), (place, 0));
        drop((two, again));
        assert_eq!(memory.take(u64::MAX).await.unwrap().num_permits(), memory.all as usize);
    }
}
