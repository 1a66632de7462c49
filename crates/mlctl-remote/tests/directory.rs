//! Two machines that share a directory as their remote store.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_exec::store::{Entry, Provenance, Store};
use mlctl_remote::{ErrorKind, Location, Options, Remote, Watch};
use tempfile::TempDir;

/// A machine: a store of its own.
struct Machine {
    dir: TempDir,
    store: Arc<Store>,
    remote: Remote,
    moved: Arc<AtomicU64>,
}

impl Machine {
    fn new(shared: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
        let location = Location::parse(&format!("file://{}", shared.display())).unwrap();
        let remote = Remote::open(&location, &Options::new(store.root().join("remotes"))).unwrap();
        Self { dir, store, remote, moved: Arc::default() }
    }

    fn watch(&self) -> Watch {
        let moved = self.moved.clone();
        Arc::new(move |amount| {
            moved.fetch_add(amount.bytes, Ordering::Relaxed);
        })
    }

    /// Computes: stores the directory or file as the result of a key.
    fn compute(&self, key: &str, path: &Path) -> (Digest, Artifact) {
        let artifact = self.store.put_copy(path).unwrap();
        let key = Digest::of(key.as_bytes());
        let result = ActionResult { artifacts: [("out".to_owned(), artifact)].into(), ..ActionResult::default() };
        let provenance = Provenance { run: "r".into(), instance: "step".into(), attempt: 1, finished: 1 };
        let entry = Entry { result: Arc::new(result), components: BTreeMap::new(), provenance };
        self.store.record(&key, entry).unwrap();
        (key, artifact)
    }

    /// Pushes, and gives how many bytes the plan spoke of.
    fn push(&self, keys: &[Digest]) -> u64 {
        let plan = self.remote.plan_push(&self.store, keys).unwrap();
        let planned = plan.amount().bytes;
        self.remote.push(plan, &self.watch()).unwrap();
        planned
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn shared() -> &'static Path {
    static BASE: OnceLock<TempDir> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let base = BASE.get_or_init(|| tempfile::tempdir().unwrap());
    let path = base.path().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir(&path).unwrap();
    Box::leak(path.into_boxed_path())
}

/// A directory with files of many sizes, links and an empty directory.
fn sample(at: &Path, small: usize) {
    fs::create_dir_all(at.join("deep/er/empty")).unwrap();
    for index in 0..small {
        fs::write(at.join(format!("deep/{index}")), format!("file {index} ").repeat(index % 50 + 1)).unwrap();
    }
    fs::write(at.join("nothing"), "").unwrap();
    fs::write(at.join("large"), "large ".repeat(400_000)).unwrap();
    fs::write(at.join("huge"), (0..2_500_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    fs::write(at.join("program"), "#!/bin/sh\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(at.join("program"), executable).unwrap();
    std::os::unix::fs::symlink("../large", at.join("deep/link")).unwrap();
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn what_one_machine_computed_another_has() {
    let shared = shared();
    let (one, two) = (Machine::new(shared), Machine::new(shared));
    sample(&one.path("d"), 500);
    let (key, artifact) = one.compute("key", &one.path("d"));
    let planned = one.push(&[key]);
    assert_eq!(planned, one.moved.load(Ordering::Relaxed), "what the plan says is what is moved");
    let small = files_below(&shared.join("packs")).len();
    assert_eq!(small, 1, "500 small files are one object");

    let plan = two.remote.plan_pull(&two.store, &[key, Digest::of(b"unknown")]).unwrap();
    assert_eq!((plan.keys().count(), plan.absent().len()), (1, 1));
    let pulled = two.remote.pull(&two.store, plan, &two.watch()).unwrap();
    assert_eq!(pulled.received, [key]);
    two.store.verify(&artifact).unwrap();
    let entry = two.store.lookup(&key).unwrap();
    assert_eq!(entry.provenance.instance, "step");
    assert_eq!(fs::read_dir(two.store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_is_there_is_not_sent_again() {
    let shared = shared();
    let one = Machine::new(shared);
    sample(&one.path("d"), 100);
    let (key, _) = one.compute("key", &one.path("d"));
    one.push(&[key]);
    let plan = one.remote.plan_push(&one.store, &[key]).unwrap();
    assert_eq!((plan.amount().objects, plan.there().len()), (0, 1));
    // One file more: only it travels, with the list of all and the result.
    fs::write(one.path("d/deep/new"), "new").unwrap();
    let (key, artifact) = one.compute("another", &one.path("d"));
    let planned = one.push(&[key]);
    let manifest = one.store.manifest(&artifact.digest).unwrap().encode().len() as u64;
    assert!(planned < manifest + 1000, "{planned} of which {manifest} are the manifest");
    let two = Machine::new(shared);
    let plan = two.remote.plan_pull(&two.store, &[key]).unwrap();
    two.remote.pull(&two.store, plan, &two.watch()).unwrap();
    two.store.verify(&artifact).unwrap();
}

#[test]
fn a_missing_object_is_a_miss_and_is_sent_again() {
    let shared = shared();
    let (one, two) = (Machine::new(shared), Machine::new(shared));
    sample(&one.path("d"), 10);
    let (key, _) = one.compute("key", &one.path("d"));
    for lost in ["packs", "objects", "trees"] {
        one.push(&[key]);
        for file in files_below(&shared.join(lost)) {
            fs::remove_file(file).unwrap();
        }
        let plan = two.remote.plan_pull(&two.store, &[key]).unwrap();
        let pulled = two.remote.pull(&two.store, plan, &two.watch()).unwrap();
        assert_eq!((pulled.received.len(), pulled.lost.len()), (0, 1), "{lost}");
        assert!(two.store.lookup(&key).is_none());
    }
    one.push(&[key]);
    let plan = two.remote.plan_pull(&two.store, &[key]).unwrap();
    assert_eq!(two.remote.pull(&two.store, plan, &two.watch()).unwrap().received, [key]);
}

#[test]
fn a_damaged_object_is_refused() {
    let shared = shared();
    let (one, two) = (Machine::new(shared), Machine::new(shared));
    sample(&one.path("d"), 10);
    fs::write(one.path("f"), "content").unwrap();
    let (directory, _) = one.compute("directory", &one.path("d"));
    let (file, _) = one.compute("file", &one.path("f"));
    for (key, damaged) in [(file, "objects"), (directory, "objects"), (directory, "packs"), (directory, "trees")] {
        one.push(&[key]);
        for file in files_below(&shared.join(damaged)) {
            let mut bytes = fs::read(&file).unwrap();
            bytes[0] ^= 1;
            fs::write(file, bytes).unwrap();
        }
        let plan = two.remote.plan_pull(&two.store, &[key]).unwrap();
        let pulled = two.remote.pull(&two.store, plan, &two.watch()).unwrap();
        let (lost, error) = &pulled.lost[0];
        assert_eq!((*lost, error.kind()), (key, ErrorKind::Damaged), "{damaged}");
        assert!(two.store.lookup(&key).is_none(), "{damaged}");
    }
}

#[test]
fn the_first_result_of_a_key_stays() {
    let shared = shared();
    let (one, two) = (Machine::new(shared), Machine::new(shared));
    for (machine, text) in [(&one, "one"), (&two, "two")] {
        fs::write(machine.path("f"), text).unwrap();
    }
    let (key, _) = one.compute("key", &one.path("f"));
    two.compute("key", &two.path("f"));
    let late = two.remote.plan_push(&two.store, &[key]).unwrap();
    one.push(&[key]);
    let pushed = two.remote.push(late, &two.watch()).unwrap();
    assert_eq!(pushed.adopted, [key]);
    let entry = one.remote.lookup(&[key]).unwrap().remove(0).unwrap();
    assert_eq!(entry.result.artifacts["out"].digest, Digest::of(b"one"));
}

#[test]
fn a_torn_result_is_a_miss_and_is_written_anew() {
    let shared = shared();
    let one = Machine::new(shared);
    fs::write(one.path("f"), "text").unwrap();
    let (key, _) = one.compute("key", &one.path("f"));
    one.push(&[key]);
    let path = files_below(&shared.join("actions")).remove(0);
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert_eq!(one.remote.lookup(&[key]).unwrap(), [None]);
    one.push(&[key]);
    assert!(one.remote.lookup(&[key]).unwrap()[0].is_some());
}

#[test]
fn records_are_named_by_run() {
    let shared = shared();
    let one = Machine::new(shared);
    let name = "results/train@depth=2,x=a b.json";
    assert_eq!(one.remote.create_record("run-1", name, b"1".to_vec()).unwrap(), None);
    assert_eq!(one.remote.create_record("run-1", name, b"2".to_vec()).unwrap().unwrap(), "1");
    one.remote.put_record("run-1", "attempts/1", b"3".to_vec()).unwrap();
    one.remote.put_record("run-2", "attempts/1", b"4".to_vec()).unwrap();
    assert_eq!(one.remote.record("run-1", name).unwrap().unwrap(), "1");
    assert_eq!(one.remote.record("run-1", "none").unwrap(), None);
    assert_eq!(one.remote.records("run-1", "results").unwrap(), [name]);
    assert_eq!(one.remote.records("run-1", "").unwrap(), ["attempts/1", name]);
    assert_eq!(one.remote.runs().unwrap(), ["run-1", "run-2"]);
    assert_eq!(Machine::new(self::shared()).remote.runs().unwrap(), [""; 0]);
}

#[test]
fn what_is_there_can_be_asked_for_without_being_fetched() {
    let shared = shared();
    let (one, two) = (Machine::new(shared), Machine::new(shared));
    sample(&one.path("d"), 10);
    let (key, artifact) = one.compute("key", &one.path("d"));
    assert_eq!(two.remote.tree(&artifact.digest).unwrap(), None);
    assert!(!two.remote.exists(&[artifact]).unwrap());
    one.push(&[key]);
    assert!(two.remote.exists(&[artifact]).unwrap());
    let manifest = two.remote.tree(&artifact.digest).unwrap().unwrap();
    assert_eq!(*manifest, one.store.manifest(&artifact.digest).unwrap());
    for lost in ["packs", "objects"] {
        fs::remove_file(&files_below(&shared.join(lost))[0]).unwrap();
        assert!(!two.remote.exists(&[artifact]).unwrap(), "{lost}");
        one.push(&[key]);
    }
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let location = Location::parse("file:///nonexistent/mlctl").unwrap();
    let error = Remote::open(&location, &Options::new("/nonexistent/state")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoBucket);
}
