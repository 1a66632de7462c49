//! A daemon at a socket of this machine, as the store remembers it: it starts programs to say what it is, which takes
//! longer than all else that an unchanged environment costs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bollard::Docker;
use mlctl_core::digest::Digest;
use tokio::runtime::Runtime;

use super::address::Address;
use super::find::{self, Wanted};
use super::{Daemon, NOTES, open, variable};

/// A daemon that was not asked what it is. Good for looking at what it has, and nothing else: behind its socket may be
/// another one by now.
pub(crate) struct Remembered {
    runtime: Runtime,
    client: Docker,
    platform: String,
}

impl Remembered {
    /// The daemon that [`Daemon::connect`] would give, if it is at a socket, which is the same as when it was asked last.
    pub(crate) fn find(store: &Path) -> Option<Self> {
        let sockets = match find::wanted(&variable).ok()? {
            Wanted::Named(Address::Unix(path), _) => vec![path],
            Wanted::Named(..) => return None,
            Wanted::Any(sockets) => sockets,
        };
        let socket = sockets.iter().find_map(|path| Socket::at(path))?;
        let platform = socket.note(store)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let client = runtime.block_on(open::connect(&Address::Unix(socket.path))).ok()?;
        Some(Self { runtime, client, platform })
    }

    /// The client.
    pub(crate) fn client(&self) -> &Docker {
        &self.client
    }

    /// Waits for `future`.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Where its containers ran, as the lock writes platforms.
    pub(crate) fn platform(&self) -> &str {
        &self.platform
    }
}

/// A socket, as it is.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// Another one for each that is made, under whatever name.
    stamp: String,
}

impl Socket {
    /// The one that is there.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let stamp = format!("{}:{}:{}.{:09}", found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
        Some(Self { path: path.to_owned(), stamp })
    }

    fn file(&self, store: &Path) -> PathBuf {
        store.join(NOTES).join(&Digest::of(self.path.as_os_str().as_encoded_bytes()).to_hex()[..32])
    }

    /// The platform that was noted for it.
    fn note(&self, store: &Path) -> Option<String> {
        let text = fs::read_to_string(self.file(store)).ok()?;
        // The stamp is last: what is cut off is of no use.
        let (platform, stamp) = text.strip_suffix('\n')?.split_once('\n')?;
        (stamp == self.stamp).then(|| platform.to_owned())
    }
}

impl Daemon {
    /// Notes in the store what it is, if it is at a socket. Without the note it is asked again.
    pub(crate) fn remember(&self, store: &Path) {
        let Some(socket) = &self.socket else { return };
        let text = format!("{}\n{}\n", self.platform(), socket.stamp);
        let _ = fs::create_dir_all(store.join(NOTES)).and_then(|()| fs::write(socket.file(store), text));
    }
}
