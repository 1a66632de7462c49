//! Removing environments that nobody has used for long.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::once::USED;

/// What was taken, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Collected {
    /// Environments.
    pub(crate) environments: u64,
    /// Bytes of their files.
    pub(crate) bytes: u64,
}

/// Takes the environments under `store` that were not used for so long, and that no process is using.
pub(crate) fn collect(store: &Path, unused_for: Duration, dry_run: bool) -> io::Result<Collected> {
    let mut collected = Collected::default();
    for entry in store.join("environments").read_dir()? {
        let place = entry?.path();
        let Ok(used) = File::open(place.join(USED)) else { continue };
        let age = SystemTime::now().duration_since(used.metadata()?.modified()?).unwrap_or_default();
        if age <= unused_for || used.try_lock().is_err() {
            continue;
        }
        collected.environments += 1;
        collected.bytes += bytes(&place);
        if !dry_run {
            // Moved first, so that nobody finds a part of it; the lock goes with it.
            let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let trash = store.join("trash").join(format!("environment-{name}-{}", std::process::id()));
            fs::rename(&place, &trash)?;
            // What is left there, the next gc removes.
            let _ = fs::remove_dir_all(&trash);
        }
    }
    Ok(collected)
}

fn bytes(directory: &Path) -> u64 {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    };
    entries.map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::once;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// An environment that was used so long ago.
    fn environment(store: &Path, name: &str, age: Duration) {
        let place = store.join("environments").join(name);
        fs::create_dir_all(place.join("made/bin")).unwrap();
        fs::write(place.join("made/bin/python"), "12345").unwrap();
        let used = File::create(place.join(USED)).unwrap();
        used.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn only_what_is_old_and_unused_is_taken() {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir(store.path().join("trash")).unwrap();
        environment(store.path(), "old", DAY * 40);
        environment(store.path(), "young", DAY * 20);
        environment(store.path(), "running", DAY * 40);
        let lease = once::lease(&store.path().join("environments/running")).unwrap();
        // A run that began long ago.
        lease.set_modified(SystemTime::now() - DAY * 40).unwrap();
        let expected = Collected { environments: 1, bytes: 5 };
        assert_eq!(collect(store.path(), DAY * 30, true).unwrap(), expected);
        assert_eq!(collect(store.path(), DAY * 30, false).unwrap(), expected);
        assert_eq!(collect(store.path(), DAY * 30, false).unwrap(), Collected::default());
        let left = |name: &str| store.path().join("environments").join(name).exists();
        assert_eq!(["old", "young", "running"].map(left), [false, true, true]);
        assert_eq!(store.path().join("trash").read_dir().unwrap().count(), 0);
    }
}
