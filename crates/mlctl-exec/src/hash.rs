//! Digests of files: BLAKE3 by `pread` in large blocks, with threads for large files. Never mmap: a file truncated
//! under a mapping is a SIGBUS, under `pread` an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use mlctl_core::digest::Digest;
use rustix::fs::{OFlags, Stat};

use crate::store::Stamp;
use crate::store::StoreError;

/// What is read at once, and what one thread takes at a time: a power of two, so that a block is a subtree of BLAKE3.
const BLOCK: usize = 1 << 20;

/// From this size on threads pay.
const PARALLEL_FROM: u64 = 4 << 20;

/// The digest of the file at `path` (not followed if it is a link), with the stamp it had before and after.
pub fn file(path: &Path) -> Result<(Digest, Stamp), StoreError> {
    let (file, stat) = open(path)?;
    let digest = contents(&file, &stat, path, None)?;
    Ok((digest, Stamp::from(&stat)))
}

/// Opens for reading without following a link and without waiting for the other end of a FIFO.
pub(crate) fn open(path: &Path) -> Result<(File, Stat), StoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(StoreError::io("read", path))?;
    let stat = rustix::fs::fstat(&fd).map_err(StoreError::io("read", path))?;
    Ok((File::from(fd), stat))
}

/// The digest of an open file whose `fstat` was `before`; what is read is also written to `copy`. An error if the file
/// is not the same afterwards.
pub(crate) fn contents(file: &File, before: &Stat, path: &Path, copy: Option<&File>) -> Result<Digest, StoreError> {
    let before = Stamp::from(before);
    let digest = match read(file, before.size, copy) {
        Ok(digest) => digest,
        Err(Fault::Short) => return Err(StoreError::Changed { path: path.to_owned() }),
        Err(Fault::Read(source)) => return Err(StoreError::io("read", path)(source)),
        Err(Fault::Write(source)) => return Err(StoreError::io("write a copy of", path)(source)),
    };
    let after = rustix::fs::fstat(file).map_err(StoreError::io("read", path))?;
    if Stamp::from(&after) == before { Ok(digest) } else { Err(StoreError::Changed { path: path.to_owned() }) }
}

/// How many threads hashing and copying use: more than a few only wait for the disk.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
}

/// Calls `work` with 0..count on several threads where that pays, and gives the results in order, or the first error.
pub fn on_threads<T: Send, E: Send>(count: usize, work: impl Fn(usize) -> Result<T, E> + Sync) -> Result<Vec<T>, E> {
    /// What one thread takes at a time: few enough to share out evenly, enough not to contend.
    const BATCH: usize = 16;
    if count <= BATCH {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done: Mutex<Vec<(usize, Vec<T>)>> = Mutex::new(Vec::new());
    let error: Mutex<Option<E>> = Mutex::new(None);
    let run = || {
        while !failed.load(Ordering::Relaxed) {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            if start >= count {
                break;
            }
            match (start..count.min(start + BATCH)).map(&work).collect() {
                Ok(batch) => lock(&done).push((start, batch)),
                Err(e) => {
                    failed.store(true, Ordering::Relaxed);
                    lock(&error).get_or_insert(e);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads() {
            scope.spawn(run);
        }
        run();
    });
    if let Some(error) = lock(&error).take() {
        return Err(error);
    }
    let mut done = std::mem::take(&mut *lock(&done));
    done.sort_unstable_by_key(|(start, _)| *start);
    Ok(done.into_iter().flat_map(|(_, batch)| batch).collect())
}

/// A poisoned lock means that a thread panicked, and the panic is passed on by whoever joins it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Why [`read`] stopped.
enum Fault {
    /// The file is shorter than it was.
    Short,
    Read(io::Error),
    Write(io::Error),
}

fn read(file: &File, size: u64, copy: Option<&File>) -> Result<Digest, Fault> {
    if size < PARALLEL_FROM { read_in_order(file, size, copy) } else { read_in_parallel(file, size, copy) }
}

fn read_in_order(file: &File, size: u64, copy: Option<&File>) -> Result<Digest, Fault> {
    let mut buffer = vec![0; BLOCK.min(size as usize)];
    let mut hasher = Hasher::new();
    let mut offset = 0;
    while offset < size {
        let block = &mut buffer[..BLOCK.min((size - offset) as usize)];
        transfer(file, offset, block, copy)?;
        hasher.update(block);
        offset += block.len() as u64;
    }
    Ok(hasher.finalize().into())
}

fn transfer(file: &File, offset: u64, block: &mut [u8], copy: Option<&File>) -> Result<(), Fault> {
    file.read_exact_at(block, offset)
        .map_err(|e| if e.kind() == io::ErrorKind::UnexpectedEof { Fault::Short } else { Fault::Read(e) })?;
    copy.map_or(Ok(()), |copy| copy.write_all_at(block, offset)).map_err(Fault::Write)
}

/// Each block is a subtree of BLAKE3's tree: threads take the next one each, and the chaining values are merged.
fn read_in_parallel(file: &File, size: u64, copy: Option<&File>) -> Result<Digest, Fault> {
    let count = size.div_ceil(BLOCK as u64) as usize;
    let next = AtomicUsize::new(0);
    let run = || {
        let mut buffer = vec![0; BLOCK];
        let mut values = Vec::with_capacity(count / 2);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(values);
            }
            let offset = index as u64 * BLOCK as u64;
            let block = &mut buffer[..BLOCK.min((size - offset) as usize)];
            if let Err(fault) = transfer(file, offset, block, copy) {
                next.store(count, Ordering::Relaxed);
                return Err(fault);
            }
            values.push((index, Part::at(offset).with(block).value()));
        }
    };
    let parts = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads()).map(|_| scope.spawn(run)).collect();
        let mut parts = vec![run()];
        parts.extend(others.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))));
        parts
    });
    let mut values = vec![ChainingValue::default(); count];
    for part in parts {
        for (index, value) in part? {
            values[index] = value;
        }
    }
    Ok(joined(&values, BLOCK as u64, size))
}

/// A part of some content that is hashed on its own, in whatever order the parts come: a subtree of BLAKE3's tree. Parts
/// have one size, a power of two of at least 1 KiB, but for the last; see [`joined`].
#[derive(Debug)]
pub struct Part(Hasher);

impl Part {
    /// The part that begins at `offset`, a multiple of the parts' size.
    pub fn at(offset: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(offset);
        Self(hasher)
    }

    /// With these bytes of it, which follow those before.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        self.update(bytes);
        self
    }

    /// Takes the next bytes of it.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// What [`joined`] needs of it.
    pub fn value(&self) -> [u8; 32] {
        self.0.finalize_non_root()
    }
}

/// The digest of content of `size` bytes whose parts of `part` bytes have these values, in their order: two parts or more.
pub fn joined(values: &[[u8; 32]], part: u64, size: u64) -> Digest {
    let left = left_subtree_len(size);
    let (a, b) = values.split_at((left / part) as usize);
    merge_subtrees_root(&merge(a, part, left), &merge(b, part, size - left), Mode::Hash).into()
}

/// The chaining value of the subtree whose parts have these, and which is `size` bytes long.
fn merge(values: &[ChainingValue], part: u64, size: u64) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let left = left_subtree_len(size);
    let (a, b) = values.split_at((left / part) as usize);
    merge_subtrees_non_root(&merge(a, part, left), &merge(b, part, size - left), Mode::Hash)
}
