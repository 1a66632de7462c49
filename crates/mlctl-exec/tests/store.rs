//! The store as its callers see it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "store/concurrency.rs"]
mod concurrency;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/gc.rs"]
mod gc;
#[path = "store/manifest.rs"]
mod manifest;
#[path = "store/sources.rs"]
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_exec::store::{Entry, Provenance, Store};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn entry(artifacts: &[(&str, Artifact)]) -> Entry {
    let artifacts = artifacts.iter().map(|(name, artifact)| ((*name).to_owned(), *artifact)).collect();
    Entry {
        result: Arc::new(ActionResult { artifacts, ..ActionResult::default() }),
        components: BTreeMap::from([("command".to_owned(), Digest::of(b"command"))]),
        provenance: Provenance { run: "r1".to_owned(), instance: "step".to_owned(), attempt: 1, finished: 1 },
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The files below a directory, sorted.
fn files_below(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_file_output_is_renamed_in_and_read_only() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    write(&out, "hello");
    let artifact = store.put_output(&out).unwrap();
    assert_eq!(artifact, Artifact { kind: ArtifactKind::File, digest: Digest::of(b"hello"), size: 5 });
    assert!(!out.exists());
    let object = store.object_path(&artifact);
    assert_eq!(fs::read(&object).unwrap(), b"hello");
    assert_eq!(fs::metadata(&object).unwrap().permissions().mode() & 0o777, 0o444);
    // The same again is dropped.
    write(&out, "hello");
    assert_eq!(store.put_output(&out).unwrap(), artifact);
    assert!(!out.exists());
}

#[test]
fn a_directory_output_keeps_links_modes_and_empty_directories() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    write(&out.join("a/b.txt"), "b");
    write(&out.join("run.sh"), "x");
    fs::set_permissions(out.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(out.join("empty")).unwrap();
    symlink("a/b.txt", out.join("link")).unwrap();
    let artifact = store.put_output(&out).unwrap();
    assert!(!out.exists());
    let manifest = store.manifest(&artifact.digest).unwrap();
    assert_eq!(manifest.names(), ["a", "empty", "link", "run.sh"]);
    assert_eq!(store.sub(&artifact, "link").unwrap(), store.sub(&artifact, "a/b.txt").unwrap());
    let copy = dir.path().join("copy");
    store.copy_out(&artifact, None, &copy).unwrap();
    assert!(copy.join("empty").is_dir());
    assert_eq!(fs::metadata(copy.join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(store.put_output(&copy).unwrap(), artifact);
}

#[test]
fn the_first_entry_of_a_key_wins_and_a_missing_object_is_a_miss() {
    let (_dir, store) = store();
    let key = Digest::of(b"key");
    assert_eq!(store.lookup(&key), None);
    let first = entry(&[("a", store.put_bytes(b"one").unwrap())]);
    let second = entry(&[("a", store.put_bytes(b"two").unwrap())]);
    assert_eq!(store.record(&key, first.clone()).unwrap(), first);
    assert_eq!(store.record(&key, second.clone()).unwrap(), first);
    assert_eq!(store.lookup(&key), Some(first.clone()));
    fs::remove_file(store.object_path(&first.result.artifacts["a"])).unwrap();
    assert_eq!(store.lookup(&key), None);
    assert_eq!(store.record(&key, second.clone()).unwrap(), second);
    assert_eq!(store.lookup(&key), Some(second));
}
