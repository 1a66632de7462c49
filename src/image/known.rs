//! What this machine remembers of images: so that plans need no daemon, and two that want the same image build it once.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mlctl_core::digest::Digest;

use super::registry;
use crate::spare;

/// Below the store's root: a file for each tag that holds the image's id.
const DIRECTORY: &str = "images";

/// In that: of each context the digests of its files.
const CONTEXTS: &str = "contexts";

/// How often it is tried to become the one who builds.
const RETRY: Duration = Duration::from_millis(100);

/// The id of the image with this content tag, as it was when a build or a look-up last saw it. That is a use: gc leaves
/// alone what was used of late.
pub(crate) fn id(store: &Path, tag: &str) -> Option<String> {
    let path = store.join(DIRECTORY).join(tag);
    let (id, _) = read(&path)?;
    spare::used(&path);
    Some(id)
}

/// Every tag that is known, with its image's id and the time since it was used.
pub(super) fn all(store: &Path) -> HashMap<String, (String, Duration)> {
    let entries = fs::read_dir(store.join(DIRECTORY)).into_iter().flatten().flatten();
    let known = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, read(&entry.path())?)));
    known.collect()
}

fn read(path: &Path) -> Option<(String, Duration)> {
    let id = fs::read_to_string(path).ok()?;
    let age = spare::age(&fs::metadata(path).ok()?);
    id.starts_with("sha256:").then_some((id, age))
}

/// Remembers the id of a tag. What cannot be remembered is looked up again.
pub(super) fn remember(store: &Path, tag: &str, id: &str) {
    if self::id(store, tag).as_deref() == Some(id) {
        return;
    }
    write(&store.join(DIRECTORY).join(tag), id);
}

/// Forgets a tag that the daemon does not have any more.
pub(super) fn forget(store: &Path, tag: &str) {
    let _ = fs::remove_file(store.join(DIRECTORY).join(tag));
}

/// The digest by which a registry has an image of this name, as it was pushed or found there last; needs no network.
pub(crate) fn pushed(store: &Path, remote: &str) -> Option<String> {
    let digest = fs::read_to_string(pushed_note(store, remote)).ok()?;
    registry::is_digest(&digest).then_some(digest)
}

/// Remembers what a registry has an image as. What cannot be remembered is looked up again.
pub(super) fn remember_pushed(store: &Path, remote: &str, digest: &str) {
    if pushed(store, remote).as_deref() != Some(digest) {
        write(&pushed_note(store, remote), digest);
    }
}

fn pushed_note(store: &Path, remote: &str) -> PathBuf {
    store.join(DIRECTORY).join("pushed").join(Digest::of(remote.as_bytes()).to_hex())
}

/// Writes a small file whole, or not at all.
pub(super) fn write(path: &Path, text: &str) {
    let temporary = path.with_extension(std::process::id().to_string());
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    if made.and_then(|()| fs::write(&temporary, text)).and_then(|()| fs::rename(&temporary, path)).is_err() {
        let _ = fs::remove_file(temporary);
    }
}

/// Where the digests of a context's files are remembered: not in the project, which may be that context.
pub(super) fn stamps(store: &Path, dir: &Path, dockerfile: &Path) -> PathBuf {
    let both = [dir, dockerfile].map(|path| path.as_os_str().as_encoded_bytes()).join(&0);
    let stamps = store.join(DIRECTORY).join(CONTEXTS).join(Digest::of(&both).to_hex());
    spare::used(&stamps);
    stamps
}

/// Forgets the digests of contexts that nobody looked at for so long.
pub(super) fn forget_contexts(store: &Path, unused_for: Duration) -> io::Result<()> {
    spare::collect(&store.join(DIRECTORY).join(CONTEXTS), unused_for)
}

/// Held while an image is built; the system releases it when the holder dies. `waiting` is told of another holder.
pub(super) async fn exclusive(store: &Path, tag: &str, waiting: impl FnOnce()) -> io::Result<File> {
    let path: PathBuf = store.join(DIRECTORY).join("building");
    fs::create_dir_all(&path)?;
    let file = File::options().create(true).append(true).open(path.join(tag))?;
    let mut waiting = Some(waiting);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A thread that waits in the system could not be interrupted.
            Err(TryLockError::WouldBlock) => {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn an_id_is_remembered_replaced_and_forgotten() {
        let store = tempfile::tempdir().unwrap();
        assert_eq!(id(store.path(), "a"), None);
        remember(store.path(), "a", "sha256:1");
        remember(store.path(), "a", "sha256:2");
        assert_eq!(id(store.path(), "a").as_deref(), Some("sha256:2"));
        let file = || File::options().append(true).open(store.path().join("images/a")).unwrap();
        file().set_modified(SystemTime::now() - DAY * 2).unwrap();
        assert!(all(store.path())["a"].1 > DAY);
        assert_eq!(id(store.path(), "a").as_deref(), Some("sha256:2"));
        assert!(all(store.path())["a"].1 < DAY, "a look-up is a use");
        forget(store.path(), "a");
        assert_eq!(id(store.path(), "a"), None);
    }
}
