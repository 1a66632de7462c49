//! What a power loss may have torn.
//!
//! Entries and objects are not synced when they are written. An entry therefore says in which boot of the machine it
//! was written and when (on the clock that counts from that boot, which nobody sets). In the same boot the kernel
//! guarantees that everybody sees what was written. In a later one the objects of an entry are trusted if `synced`, the
//! marker that [`Store::sync`] leaves after syncing the file system, is of the entry's boot and not before it. The
//! others are rehashed the first time they are used, and the entry is written anew.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::time::ClockId;

use super::{Store, StoreError, open_directory};

/// This boot, and up to when the store was synced in it and in earlier ones.
#[derive(Debug)]
pub(super) struct Boot {
    pub(super) id: String,
    synced: Vec<(String, u64)>,
}

/// The hidden first argument that makes a program of mlctl's sync the store that the second one names.
pub const SYNC: &str = "__sync";

/// How many boots `synced` remembers.
const BOOTS: usize = 64;

impl Boot {
    pub(super) fn read(root: &Path) -> Self {
        let id =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |s| s.trim().into());
        Self { id, synced: read_marker(root) }
    }

    /// Whether what was written then is certainly whole now.
    pub(super) fn is_whole(&self, boot: &str, at: u64) -> bool {
        (boot == self.id && !boot.is_empty()) || self.synced.iter().any(|(id, until)| id == boot && at <= *until)
    }
}

/// What such a program does.
pub fn sync_main<S: AsRef<OsStr>>(arguments: &[S]) -> ExitCode {
    let store = arguments.first().and_then(|root| Store::open(Path::new(root)).ok());
    if store.is_some_and(|store| store.sync().is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Store {
    /// Has a process of its own do [`Store::sync`], and does not wait for it: it may take minutes where other programs
    /// write much, and nothing ends it meanwhile. This program's `main` has to call [`sync_main`].
    pub fn sync_beside(&self) -> io::Result<()> {
        let mut program = Command::new("/proc/self/exe");
        program.arg0("mlctl").arg(SYNC).arg(&self.root).env_clear().process_group(0);
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
    }

    /// Syncs the file system and marks what was recorded so far as safe from a power loss. Not needed after a crash of
    /// a process. It waits for everything that the machine has not yet written to that disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        let at = uptime();
        let root = open_directory(&self.root)?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&root).map_err(StoreError::io("sync", &self.root))?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        drop(root);
        let mut boots = read_marker(&self.root);
        boots.retain(|(id, _)| *id != self.boot.id);
        boots.push((self.boot.id.clone(), at));
        let text: String = boots.iter().rev().take(BOOTS).rev().map(|(id, at)| format!("{id} {at}\n")).collect();
        let temporary = self.temporary();
        let path = self.root.join("synced");
        fs::write(&temporary, text).map_err(StoreError::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(StoreError::io("write", &path))
    }
}

/// A marker that cannot be read, or lines in it that a power loss tore, only mean that more is rehashed.
fn read_marker(root: &Path) -> Vec<(String, u64)> {
    let text = fs::read_to_string(root.join("synced")).unwrap_or_default();
    let line = |line: &str| line.split_once(' ').and_then(|(id, at)| Some((id.to_owned(), at.parse().ok()?)));
    text.lines().filter_map(line).collect()
}

/// Nanoseconds since the machine started.
pub(super) fn uptime() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let now = rustix::time::clock_gettime(CLOCK);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32).as_nanos() as u64
}
