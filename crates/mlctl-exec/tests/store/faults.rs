//! What is not as it should be: outputs that cannot be stored, objects and entries that were damaged, stores that cannot
//! be used, power losses.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_exec::store::{Store, StoreError};

use super::{entry, files_below, store, write};

/// Writes to an object as only somebody with the right to could.
fn damage(path: &Path, text: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

#[test]
fn outputs_that_cannot_be_stored_name_what_is_wrong() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    let refused = |make: &dyn Fn(&Path)| {
        mlctl_exec::store::remove_tree(&out).unwrap();
        make(&out);
        let error = store.put_output(&out).unwrap_err();
        assert!(error.is_content(), "{error}");
        error.to_string().replace(&format!("{}/", dir.path().display()), "")
    };
    let inside = |make: &dyn Fn(&Path)| {
        refused(&|out| {
            fs::create_dir(out).unwrap();
            make(&out.join("x"));
        })
    };
    let fifo = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    };
    assert_eq!(refused(&|out| symlink("x", out).unwrap()), "out is a symbolic link, not a file or directory");
    assert_eq!(refused(&fifo), "out is a FIFO");
    assert_eq!(refused(&|out| drop(UnixListener::bind(out).unwrap())), "out is a socket");
    assert_eq!(inside(&fifo), "out/x is a FIFO");
    assert_eq!(inside(&|x| symlink("/etc", x).unwrap()), "out/x is a symbolic link with an absolute target, /etc");
    assert_eq!(
        inside(&|x| symlink("../y", x).unwrap()),
        "out/x is a symbolic link that leads out of the directory, to ../y"
    );
    assert_eq!(
        inside(&|x| fs::write(
            x.with_file_name(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff")),
            ""
        )
        .unwrap()),
        "out/\u{fffd} has a name or target that is not UTF-8"
    );
    assert_eq!(store.put_output(Path::new("/dev/null")).unwrap_err().to_string(), "/dev/null is a device");
    let missing = store.put_output(&dir.path().join("nothing")).unwrap_err();
    assert!(!missing.is_content() && missing.to_string().contains("No such file"), "{missing}");
}

#[test]
fn a_file_with_other_names_is_copied() {
    let (dir, store) = store();
    let (out, other) = (dir.path().join("out"), dir.path().join("other"));
    write(&out, "text");
    fs::hard_link(&out, &other).unwrap();
    let artifact = store.put_output(&out).unwrap();
    fs::write(&other, "written through the other name").unwrap();
    assert_eq!(fs::read(store.object_path(&artifact)).unwrap(), b"text");
    // The same below a directory, where both names are outputs.
    write(&out.join("a"), "twin");
    fs::hard_link(out.join("a"), out.join("b")).unwrap();
    let artifact = store.put_output(&out).unwrap();
    let object = store.object_path(&artifact);
    let stat = |name: &str| rustix::fs::stat(object.join(name)).unwrap();
    assert_eq!((stat("a").st_nlink, stat("b").st_nlink), (1, 1));
    store.verify(&artifact).unwrap();
}

#[test]
fn many_names_of_one_file_in_a_directory_do_not_disturb_each_other() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    write(&out.join("f"), &"x".repeat(1 << 20));
    (0..99).for_each(|name| fs::hard_link(out.join("f"), out.join(name.to_string())).unwrap());
    let artifact = store.put_output(&out).unwrap();
    assert_eq!(store.manifest(&artifact.digest).unwrap().entries().len(), 100);
    store.verify(&artifact).unwrap();
}

#[test]
fn a_damaged_object_is_a_miss_and_is_moved_away() {
    let (dir, store) = store();
    let key = Digest::of(b"key");
    let artifact = store.put_bytes(b"right").unwrap();
    store.record(&key, entry(&[("a", artifact)])).unwrap();
    damage(&store.object_path(&artifact), "wrong");
    assert_eq!(Store::open(store.root()).unwrap().lookup(&key), None);
    assert!(!store.contains(&artifact));
    // What is put in its place is found again by the same entry.
    let out = dir.path().join("out");
    write(&out, "right");
    store.put_output(&out).unwrap();
    assert!(store.lookup(&key).is_some());
}

#[test]
fn putting_what_is_there_but_damaged_heals_it() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    let artifact = store.put_bytes(b"right").unwrap();
    damage(&store.object_path(&artifact), "wrong");
    for reopened in [false, true] {
        let other = Store::open(store.root()).unwrap();
        write(&out, "right");
        assert_eq!(if reopened { &other } else { &store }.put_output(&out).unwrap(), artifact);
        assert_eq!(fs::read(store.object_path(&artifact)).unwrap(), b"right");
        damage(&store.object_path(&artifact), "wrong");
    }
}

#[test]
fn a_damaged_directory_is_noticed() {
    let (dir, store) = store();
    let key = Digest::of(b"key");
    let put = || -> Artifact {
        let out = dir.path().join("out");
        write(&out.join("sub/a"), "a");
        store.put_output(&out).unwrap()
    };
    let artifact = put();
    let object = store.object_path(&artifact);
    store.record(&key, entry(&[("d", artifact)])).unwrap();
    assert!(store.lookup(&key).is_some());
    // In its root: by a lookup.
    fs::set_permissions(&object, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(object.join("extra"), "").unwrap();
    assert_eq!(store.lookup(&key), None);
    assert_eq!(put(), artifact);
    assert!(store.lookup(&key).is_some());
    // Its manifest.
    let manifest = object.with_extension("m");
    damage(&manifest, "mlctl manifest 1\n");
    assert!(matches!(store.manifest(&artifact.digest), Err(StoreError::Damaged { .. })));
    assert_eq!(store.lookup(&key), None);
    assert_eq!(put(), artifact);
    assert!(store.lookup(&key).is_some());
    // Below: by verifying, and by copying out.
    damage(&object.join("sub/a"), "b");
    assert!(store.lookup(&key).is_some());
    let copied = store.copy_out(&artifact, Some("sub"), &dir.path().join("copy"));
    assert!(matches!(copied, Err(StoreError::Damaged { .. })));
    assert_eq!(put(), artifact);
    damage(&object.join("sub/a"), "b");
    assert!(matches!(store.verify(&artifact), Err(StoreError::Damaged { .. })));
    assert_eq!(store.lookup(&key), None);
}

fn entry_path(store: &Store, key: &Digest) -> std::path::PathBuf {
    let hex = key.to_hex();
    store.root().join("actions").join(&hex[..2]).join(&hex)
}

#[test]
fn a_torn_entry_is_a_miss_and_is_replaced() {
    let (_dir, store) = store();
    let key = Digest::of(b"key");
    let entry = entry(&[("a", store.put_bytes(b"a").unwrap())]);
    store.record(&key, entry.clone()).unwrap();
    let path = entry_path(&store, &key);
    let whole = fs::read(&path).unwrap();
    for cut in [0, 1, 14, 20, 31, 32, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(store.lookup(&key), None, "{cut}");
        assert_eq!(store.record(&key, entry.clone()).unwrap(), entry);
        assert_eq!(store.lookup(&key), Some(entry.clone()));
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(store.lookup(&key), None, "{at}");
    }
}

#[test]
fn an_entry_is_not_recorded_for_what_is_not_there() {
    let (_dir, store) = store();
    let artifact = store.put_bytes(b"a").unwrap();
    fs::remove_file(store.object_path(&artifact)).unwrap();
    let recorded = store.record(&Digest::of(b"key"), entry(&[("a", artifact)]));
    assert!(matches!(recorded, Err(StoreError::Missing { .. })));
    assert_eq!(store.lookup(&Digest::of(b"key")), None);
}

#[test]
fn forcing_replaces_an_entry() {
    let (_dir, store) = store();
    let key = Digest::of(b"key");
    let old = entry(&[("a", store.put_bytes(b"old").unwrap())]);
    let new = entry(&[("a", store.put_bytes(b"new").unwrap())]);
    store.replace(&key, &old).unwrap();
    assert_eq!(store.lookup(&key), Some(old));
    store.replace(&key, &new).unwrap();
    assert_eq!(store.lookup(&key), Some(new));
}

/// Rewrites the entry as if it had been written in another boot, with the stamps that its object has now.
fn as_of_boot(store: &Store, key: &Digest, boot: &str, artifact: &Artifact) {
    let path = entry_path(store, key);
    let text = fs::read_to_string(&path).unwrap();
    let mut body: serde_json::Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    let stat = rustix::fs::stat(store.object_path(artifact)).unwrap();
    let nanos = |s: i64, n: u64| s * 1_000_000_000 + n as i64;
    body["boot"] = boot.into();
    body["stamps"] = serde_json::json!([[
        stat.st_size,
        stat.st_ino,
        nanos(stat.st_mtime, stat.st_mtime_nsec),
        nanos(stat.st_ctime, stat.st_ctime_nsec)
    ]]);
    let body = body.to_string();
    fs::write(&path, format!("mlctl entry 1 {}\n{body}", &Digest::of(body.as_bytes()).to_hex()[..16])).unwrap();
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

#[test]
fn after_a_power_loss_objects_are_rehashed_once() {
    let (_dir, store) = store();
    let key = Digest::of(b"key");
    let artifact = store.put_bytes(b"right").unwrap();
    let recorded = entry(&[("a", artifact)]);
    store.record(&key, recorded.clone()).unwrap();
    // Whole: a hit, and the entry is of this boot then.
    as_of_boot(&store, &key, "another-boot", &artifact);
    assert_eq!(Store::open(store.root()).unwrap().lookup(&key), Some(recorded));
    assert!(fs::read_to_string(entry_path(&store, &key)).unwrap().contains(&boot_id()));
    let torn = |boot: &str| {
        store.put_bytes(b"right").unwrap();
        damage(&store.object_path(&artifact), "torn!");
        as_of_boot(&store, &key, boot, &artifact);
        Store::open(store.root()).unwrap().lookup(&key).is_some()
    };
    assert!(!torn("another-boot"), "its stamp is right and its content is not");
    assert!(torn(&boot_id()), "in the same boot stamps are trusted: this is what they save");
    fs::write(store.root().join("synced"), format!("another-boot {}\n", u64::MAX)).unwrap();
    assert!(torn("another-boot"), "what was synced is trusted too");
    fs::write(store.root().join("synced"), "another-boot 0\n\0\0\0rubbish\n").unwrap();
    assert!(!torn("another-boot"), "what was recorded after the sync is not");
}

#[test]
fn a_sync_covers_what_was_recorded_before_it() {
    let (_dir, store) = store();
    fs::write(store.root().join("synced"), "another-boot 5\n").unwrap();
    store.sync().unwrap();
    let marker = fs::read_to_string(store.root().join("synced")).unwrap();
    let lines: Vec<&str> = marker.lines().collect();
    assert_eq!(lines[0], "another-boot 5");
    assert!(lines[1].starts_with(&boot_id()) && lines.len() == 2, "{marker}");
}

#[test]
fn stores_that_cannot_be_used_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let told = |root: &Path| Store::open(root).unwrap_err().to_string();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(
        told(&file).contains("cannot open the store") && told(&file).contains("Not a directory"),
        "{}",
        told(&file)
    );
    assert!(told(Path::new("/proc/nothing")).contains("cannot create the store's directory /proc/nothing"));
    let newer = dir.path().join("newer");
    Store::open(&newer).unwrap();
    fs::write(newer.join("format"), "mlctl store 2\n").unwrap();
    assert!(matches!(Store::open(&newer), Err(StoreError::Newer { .. })));
    assert!(told(&newer).contains("has format `mlctl store 2`") && told(&newer).contains("use a newer mlctl"));
}

#[test]
fn a_store_cut_off_while_it_was_made_is_made_complete() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("objects/00")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let artifact = store.put_bytes(b"x").unwrap();
    // A shard's directory that somebody removed comes back.
    let shard = store.object_path(&artifact).parent().unwrap().to_owned();
    fs::remove_dir_all(&shard).unwrap();
    store.put_bytes(b"x").unwrap();
    assert!(store.contains(&artifact));
}

/// A disk that is full, as a file size limit: the write of the copy fails half-way.
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let (dir, store) = store();
    let big = dir.path().join("big");
    fs::write(&big, vec![7; 3 << 20]).unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" --exact faults::child_with_little_room --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("MLCTL_TEST_CHILD", dir.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("File too large"), "{output}");
    assert_eq!(files_below(&store.root().join("objects")), [""; 0]);
    assert_eq!(files_below(&store.root().join("tmp")), [""; 0]);
    store.put_copy(&big).unwrap();
}

#[test]
fn child_with_little_room() {
    let Some(dir) = std::env::var_os("MLCTL_TEST_CHILD") else { return };
    let dir = Path::new(&dir);
    let store = Store::open(&dir.join("store")).unwrap();
    println!("{}", store.put_copy(&dir.join("big")).unwrap_err());
    println!("{}", store.put_bytes(&vec![1; 3 << 20]).unwrap_err());
}

#[test]
fn an_output_on_another_file_system_is_copied() {
    let (dir, store) = store();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let device = |path: &Path| rustix::fs::stat(path).unwrap().st_dev;
    assert_ne!(device(other.path()), device(dir.path()), "the test needs two file systems");
    let out = other.path().join("out");
    write(&out, "text");
    let file = store.put_output(&out).unwrap();
    assert!(!out.exists());
    assert_eq!(fs::read(store.object_path(&file)).unwrap(), b"text");
    write(&out.join("sub/a"), "a");
    let directory = store.put_output(&out).unwrap();
    assert!(!out.exists());
    store.verify(&directory).unwrap();
}

#[test]
fn what_may_not_be_written_can_be_stored_and_removed() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    write(&out.join("a/b/c"), "c");
    for path in [out.join("a/b"), out.join("a"), out.clone()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let artifact = store.put_output(&out).unwrap();
    let object = store.object_path(&artifact);
    for path in [object.clone(), object.join("a"), object.join("a/b")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o555);
    }
    mlctl_exec::store::remove_tree(&object).unwrap();
    assert!(!object.exists());
    mlctl_exec::store::remove_tree(&object).unwrap();
}

/// Root may do what others may not: so the same tests again without.
#[test]
fn all_of_this_holds_without_root_too() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = Command::new(&program)
        .args(["faults::", "gc::", "sources::"])
        .env("TMPDIR", dir.path())
        .current_dir(dir.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("running 0 tests"), "{text}");
}

#[test]
fn what_may_not_be_read_or_written_is_told() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, store) = store();
    let project = dir.path().join("project");
    write(&project.join("secret/inside"), "");
    write(&project.join("unreadable"), "");
    write(&project.join("fine"), "");
    let forbid = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    forbid(&project.join("secret"));
    forbid(&project.join("unreadable"));
    let snapshot = || mlctl_exec::sources::Snapshot::take(&project, &dir.path().join("stamps")).unwrap();
    let told: Vec<String> = snapshot().tree(None, &[]).unwrap_err().iter().map(ToString::to_string).collect();
    assert!(told.len() == 2 && told[0].starts_with("secret cannot be read: "), "{told:?}");
    assert!(told[1].starts_with("unreadable cannot be read: Permission denied"), "{told:?}");
    assert!(snapshot().tree(Some(&["secret/*.py".to_owned()]), &[]).is_err(), "it may hold what is wanted");
    assert!(snapshot().tree(Some(&["fine".to_owned()]), &[]).is_ok());
    write(&project.join(".mlctlignore"), "secret\nunreadable\n");
    assert!(snapshot().tree(None, &[]).is_ok());
    // An output whose parts may not be read, and a store that may not be written.
    let out = dir.path().join("out");
    write(&out.join("part"), "");
    forbid(&out.join("part"));
    let error = store.put_output(&out).unwrap_err().to_string();
    assert!(error.contains("out/part: Permission denied"), "{error}");
    let tmp = store.root().join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o555)).unwrap();
    let error = store.put_bytes(b"x").unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot create {}/", tmp.display())), "{error}");
    fs::set_permissions(project.join("secret"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_seal_breaks_with_anything_it_covers() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    write(&out.join("sub/a"), "a");
    let artifacts = [store.put_bytes(b"file").unwrap(), store.put_output(&out).unwrap()];
    let result = entry(&[("f", artifacts[0]), ("d", artifacts[1])]).result;
    let seal = store.seal([&*result].into_iter()).unwrap().unwrap();
    let holds = |seal: &[u8]| Store::open(store.root()).unwrap().is_sealed(seal);
    assert!(holds(&seal));
    for cut in [0, 1, 39, seal.len() - 1] {
        assert!(!holds(&seal[..cut]), "{cut}");
    }
    let mut other_boot = seal.clone();
    other_boot[0] ^= 1;
    assert!(!holds(&other_boot));
    damage(&store.object_path(&artifacts[0]), "wrong");
    assert!(!holds(&seal));
    fs::remove_file(store.object_path(&artifacts[0])).unwrap();
    assert!(!holds(&seal));
    assert_eq!(store.seal([&*result].into_iter()).unwrap(), None);
}
