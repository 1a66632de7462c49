//! What the store keeps to save time and can do without: it goes when nobody used it for long, whenever that is.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Between two times that a use is noted down.
const NOTED: Duration = Duration::from_secs(24 * 60 * 60);

/// Notes down, at most once a day, that the file or directory at `path` was used.
pub(crate) fn used(path: &Path) {
    // What cannot be noted down may have to be made again.
    let _ = File::open(path).and_then(|file| {
        let is_noted = file.metadata().is_ok_and(|found| age(&found) < NOTED);
        if is_noted { Ok(()) } else { file.set_modified(SystemTime::now()) }
    });
}

/// The time since something was used.
pub(crate) fn age(found: &Metadata) -> Duration {
    found.modified().ok().and_then(|used| used.elapsed().ok()).unwrap_or_default()
}

/// Removes what in `directory` was not used for so long.
pub(crate) fn collect(directory: &Path, unused_for: Duration) -> io::Result<()> {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        match collect_one(&entry?.path(), unused_for) {
            // Somebody else collects too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn collect_one(path: &Path, unused_for: Duration) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if age(&found) <= unused_for {
        return Ok(());
    }
    if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_of_late_stays() {
        const DAY: Duration = NOTED;
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for name in ["old", "used", "young"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), "x").unwrap();
        }
        fs::write(at("file"), "x").unwrap();
        for name in ["old", "used", "file"] {
            File::open(at(name)).unwrap().set_modified(SystemTime::now() - DAY * 40).unwrap();
        }
        used(&at("used"));
        used(&at("nothing"));
        collect(place.path(), DAY * 30).unwrap();
        assert_eq!(["old", "used", "young", "file"].map(|name| at(name).exists()), [false, true, true, false]);
        collect(&at("nothing"), DAY).unwrap();
    }
}
