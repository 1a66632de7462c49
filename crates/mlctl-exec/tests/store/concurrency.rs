//! Several threads and processes in one store, and processes that are killed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_exec::store::{Entry, Store};

use super::{entry, store, write};

const KEYS: usize = 200;

fn key(index: usize) -> Digest {
    Digest::of(format!("key {index}").as_bytes())
}

/// What one writer does: puts a file and a directory of its own under each key, and gives what it then has.
fn work(root: &Path, writer: &str) -> Vec<Entry> {
    let store = Store::open(root).unwrap();
    let out = root.join(format!("out-{writer}"));
    let (file, directory) = (out.join("file"), out.join("directory"));
    let one = |index: usize| {
        write(&file, &format!("{writer} {index}"));
        write(&directory.join("sub/same"), &format!("{}", index % 5));
        fs::create_dir_all(directory.join("empty")).unwrap();
        let artifacts = [("f", store.put_output(&file).unwrap()), ("d", store.put_output(&directory).unwrap())];
        store.record(&key(index), entry(&artifacts)).unwrap()
    };
    (0..KEYS).map(one).collect()
}

fn check(store: &Store) {
    let objects = store.root().join("objects");
    for shard in fs::read_dir(&objects).unwrap() {
        for object in fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let (digest, kind) = match name.split_once('.') {
                None => (name, ArtifactKind::File),
                Some((digest, "d")) => (digest, ArtifactKind::Directory),
                Some((digest, suffix)) => {
                    assert_eq!(suffix, "m");
                    store.manifest(&digest.parse().unwrap()).unwrap();
                    continue;
                }
            };
            let artifact = Artifact { kind, digest: digest.parse().unwrap(), size: 0 };
            store.verify(&artifact).unwrap();
            if kind == ArtifactKind::File {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
            }
        }
    }
}

#[test]
fn threads_agree_on_every_key() {
    let (_dir, store) = store();
    let root = store.root();
    let all: Vec<Vec<Entry>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || work(root, &n.to_string()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for index in 0..KEYS {
        let found = store.lookup(&key(index)).unwrap();
        assert!(all.iter().all(|entries| entries[index] == found), "{index}");
    }
    check(&store);
}

fn child(root: &Path, writer: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "concurrency::child_that_works", "--nocapture"])
        .env("MLCTL_TEST_ROOT", root)
        .env("MLCTL_TEST_WRITER", writer)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn child_that_works() {
    let Some(root) = std::env::var_os("MLCTL_TEST_ROOT") else { return };
    let writer = std::env::var("MLCTL_TEST_WRITER").unwrap();
    let digest = Digest::of(format!("{:?}", work(Path::new(&root), &writer)).as_bytes());
    println!("adopted {digest}");
}

#[test]
fn processes_agree_on_every_key_also_where_an_entry_was_torn() {
    let (_dir, store) = store();
    for index in (0..KEYS).step_by(7) {
        let hex = key(index).to_hex();
        write(&store.root().join("actions").join(&hex[..2]).join(&hex), "mlctl entry 1 torn");
    }
    let children: Vec<Child> = (0..3).map(|n| child(store.root(), &n.to_string())).collect();
    let adopted: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{text}");
            text.lines().find_map(|line| line.split_once("adopted ")).unwrap().1.to_owned()
        })
        .collect();
    let found: Vec<Entry> = (0..KEYS).map(|index| store.lookup(&key(index)).unwrap()).collect();
    let found = Digest::of(format!("{found:?}").as_bytes()).to_string();
    assert_eq!(adopted, [found.clone(), found.clone(), found]);
    check(&store);
}

#[test]
fn a_process_killed_anywhere_leaves_nothing_half_written() {
    let (_dir, store) = store();
    let mut finished = 0;
    for round in 0..40 {
        let mut child = child(store.root(), &format!("round{round}"));
        std::thread::sleep(Duration::from_millis(3 + round * 7 % 60));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        finished += usize::from(text.contains("adopted"));
        let store = Store::open(store.root()).unwrap();
        for entry in (0..KEYS).filter_map(|index| store.lookup(&key(index))) {
            for artifact in entry.result.artifacts.values() {
                store.verify(artifact).unwrap();
            }
        }
    }
    check(&store);
    assert!(finished < 40, "no process was killed in its work");
    // And all the same the work can be done.
    assert_eq!(work(store.root(), "last").len(), KEYS);
}
