//! Collecting garbage.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_exec::gc::{GcReport, Keep, gc};
use mlctl_exec::sources::Snapshot;
use mlctl_exec::store::Store;

use super::{entry, files_below, store, write};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn later(days: u32) -> SystemTime {
    SystemTime::now() + days * DAY
}

fn unused_for(days: u32) -> Keep {
    Keep { unused_for: days * DAY, ..Keep::default() }
}

fn recorded(store: &Store, text: &str) -> (Digest, Artifact) {
    let (key, artifact) = (Digest::of(text.as_bytes()), store.put_bytes(text.as_bytes()).unwrap());
    store.record(&key, entry(&[("a", artifact)])).unwrap();
    (key, artifact)
}

#[test]
fn what_was_not_used_lately_goes_unless_it_is_named() {
    let (dir, store) = store();
    let (old, old_object) = recorded(&store, "old");
    let (named, named_object) = recorded(&store, "named");
    let alone = store.put_bytes(b"alone").unwrap();
    write(&dir.path().join("out/sub/x"), "12345");
    let directory = store.put_output(&dir.path().join("out")).unwrap();
    let keep = Keep { keys: HashSet::from([named]), artifacts: HashSet::from([alone]), ..unused_for(7) };
    assert_eq!(gc(&store, &keep, later(6), false).unwrap().entries, 0);
    let expected = GcReport { entries: 1, objects: 3, bytes: 3 + 5 + 112, runs: 0, kept_entries: 1, kept_objects: 2 };
    let would = gc(&store, &keep, later(8), true).unwrap();
    assert!(store.contains(&old_object) && store.lookup(&old).is_some(), "a dry run takes nothing");
    assert_eq!(gc(&store, &keep, later(8), false).unwrap(), would);
    assert_eq!(GcReport { bytes: expected.bytes, ..would }, expected);
    assert_eq!(store.lookup(&old), None);
    assert!(store.lookup(&named).is_some());
    assert!(!store.contains(&old_object) && !store.contains(&directory));
    assert!(store.contains(&named_object) && store.contains(&alone));
    assert_eq!(files_below(&store.root().join("trash")), [""; 0]);
    assert_eq!(gc(&store, &Keep::default(), later(8), false).unwrap().objects, 2);
    assert_eq!(files_below(&store.root().join("objects")), [""; 0]);
}

#[test]
fn a_lookup_counts_as_use() {
    let (_dir, store) = store();
    let (key, _) = recorded(&store, "a");
    let hex = key.to_hex();
    let path = store.root().join("actions").join(&hex[..2]).join(&hex);
    fs::File::open(&path).unwrap().set_modified(SystemTime::now() - 10 * DAY).unwrap();
    assert!(store.lookup(&key).is_some());
    assert_eq!(gc(&store, &unused_for(1), SystemTime::now(), false).unwrap().entries, 0);
    fs::File::open(&path).unwrap().set_modified(SystemTime::now() - 10 * DAY).unwrap();
    assert_eq!(gc(&store, &unused_for(1), SystemTime::now(), false).unwrap().entries, 1);
}

#[test]
fn a_run_that_is_alive_keeps_what_it_may_rely_on() {
    let (_dir, store) = store();
    let (key, artifact) = recorded(&store, "a");
    let lease = store.lease("run").unwrap();
    assert!(store.is_alive("run"));
    write(&lease.path().join("slot/file"), "");
    let report = gc(&store, &Keep::default(), later(30), false).unwrap();
    assert_eq!((report.entries, report.objects, report.runs), (0, 0, 0));
    assert!(store.lookup(&key).is_some());
    drop(lease);
    assert!(!store.is_alive("run"));
    let report = gc(&store, &Keep::default(), later(30), false).unwrap();
    assert_eq!((report.entries, report.objects, report.runs), (1, 1, 1));
    assert!(!store.contains(&artifact));
    assert!(!store.run_path("run").exists());
}

#[test]
fn source_trees_that_are_used_keep_their_files() {
    let (dir, store) = store();
    let project = dir.path().join("project");
    write(&project.join("src/a.py"), "a");
    let snapshot = Snapshot::take(&project, Path::new("/dev/null/x")).unwrap();
    let tree = snapshot.tree(None, &[]).unwrap();
    store.put_sources(&tree).unwrap();
    // The file alone is old enough, but for the manifest: named here, as a young one would be.
    let named = Keep { artifacts: HashSet::from([tree.manifest.artifact()]), ..Keep::default() };
    gc(&store, &named, later(30), false).unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    store.checkout(&tree.manifest, &work).unwrap();
    assert_eq!(gc(&store, &Keep::default(), later(30), false).unwrap().objects, 2);
    store.put_sources(&tree).unwrap();
    assert!(store.manifest(&tree.digest).is_ok());
}

#[test]
fn what_killed_writers_left_goes() {
    let (_dir, store) = store();
    write(&store.root().join("tmp/partial"), "");
    write(&store.root().join("trash/removed/by/somebody"), "");
    gc(&store, &Keep::default(), SystemTime::now(), false).unwrap();
    assert_eq!(files_below(&store.root().join("tmp")), ["partial"], "it may be just being written");
    assert_eq!(files_below(&store.root().join("trash")), [""; 0]);
    gc(&store, &Keep::default(), later(2), false).unwrap();
    assert_eq!(files_below(&store.root().join("tmp")), [""; 0]);
}

/// Whoever gets a hit on an old entry has it for good, however often gc runs at that moment.
#[test]
fn a_hit_beside_gc_stays_a_hit() {
    let (_dir, store) = store();
    let _lease = store.lease("run").unwrap();
    let hex = Digest::of(b"a").to_hex();
    let path = store.root().join("actions").join(&hex[..2]).join(&hex);
    let done = AtomicBool::new(false);
    let (mut hits, mut misses) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                gc(&store, &unused_for(2), SystemTime::now(), false).unwrap();
            }
        });
        let end = std::time::Instant::now() + Duration::from_millis(1500);
        while std::time::Instant::now() < end {
            let (key, artifact) = recorded(&store, "a");
            if let Ok(file) = fs::File::open(&path) {
                file.set_modified(SystemTime::now() - 10 * DAY).unwrap();
            }
            if store.lookup(&key).is_none() {
                misses += 1;
                continue;
            }
            hits += 1;
            for _ in 0..3 {
                std::thread::yield_now();
                assert!(store.peek(&key).is_some() && store.contains(&artifact));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(hits > 0 && misses > 0, "both sides must have won: {hits} hits, {misses} misses");
}
