//! Sources and project inputs as their callers see them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use mlctl_core::action::ArtifactKind;
use mlctl_exec::sources::{Inputs, Snapshot};
use mlctl_exec::store::{Store, StoreError};

struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(project.root()).unwrap();
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn stamps(&self) -> PathBuf {
        self.root().join(".mlctl/cache/sources")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.root(), &self.stamps()).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.dir.path().join("store")).unwrap()
    }

    fn paths(&self, globs: Option<&[&str]>, excluded: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let globs = globs.map(owned);
        let tree = self.snapshot().tree(globs.as_deref(), &owned(excluded)).unwrap();
        tree.manifest.entries().iter().map(|e| e.path.clone()).collect()
    }
}

#[test]
fn what_is_a_source() {
    let project = Project::new(&[
        ("train.py", ""),
        (".env", ""),
        ("src/a.py", ""),
        ("src/gen/x.py", ""),
        ("data/raw.csv", ""),
        ("notes/a.tmp", ""),
        ("mlctl.toml", ""),
        ("mlctl.local.toml", ""),
        ("mlctl.lock", ""),
        ("sub/mlctl.toml", ""),
        (".mlctl/runs/x", ""),
        (".git/config", ""),
        (".gitignore", "*.tmp\n/data/\n"),
        (".mlctlignore", "gen/\n"),
    ]);
    fs::create_dir(project.root().join("empty")).unwrap();
    assert_eq!(project.paths(None, &[]), [".env", "src", "src/a.py", "sub", "sub/mlctl.toml", "train.py"]);
    assert_eq!(project.paths(None, &["src/", "train.py"]), [".env", "sub", "sub/mlctl.toml"]);
    assert_eq!(project.paths(Some(&["src"]), &[]), ["src", "src/a.py"]);
    assert_eq!(project.paths(Some(&["./src/"]), &["src/a.py"]), [""; 0]);
    assert_eq!(project.paths(Some(&["*.py"]), &[]), ["train.py"]);
    assert_eq!(project.paths(Some(&["**/*.py"]), &[]), ["src", "src/a.py", "train.py"]);
}

#[test]
fn ignore_files_above_the_project_count_in_a_repository_only() {
    let project = Project::new(&[("a.txt", ""), ("b.log", "")]);
    fs::write(project.dir.path().join(".gitignore"), "*.log\n").unwrap();
    assert_eq!(project.paths(None, &[]), ["a.txt", "b.log"]);
    fs::create_dir(project.dir.path().join(".git")).unwrap();
    assert_eq!(project.paths(None, &[]), ["a.txt"]);
}

#[test]
fn a_glob_that_matches_nothing_is_told() {
    let project = Project::new(&[("a.txt", "")]);
    let globs = ["scr".to_owned(), "*.txt".to_owned()];
    assert_eq!(project.snapshot().tree(Some(&globs), &[]).unwrap().unmatched, ["scr"]);
    let errors = project.snapshot().tree(Some(&["[".to_owned()]), &[]).unwrap_err();
    assert_eq!(errors[0].path, "[");
}

#[test]
fn everything_that_cannot_be_a_source_is_told_at_once_and_only_if_used() {
    let project = Project::new(&[("ok/a.txt", "")]);
    let root = project.root();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../x", root.join("ok/escaping")).unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
    fs::write(root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"bad\xff")), "").unwrap();
    let errors = project.snapshot().tree(None, &[]).unwrap_err();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "absolute is a symbolic link with an absolute target, /etc/passwd",
            "bad\u{fffd} has a name or target that is not UTF-8",
            "fifo is a FIFO",
            "ok/escaping is a symbolic link that leads out of the project, to ../../x",
            "socket is a socket",
        ]
    );
    assert_eq!(project.paths(Some(&["ok/*.txt", "broken"]), &[]), ["broken", "ok", "ok/a.txt"]);
    project.write(".mlctlignore", "socket\nfifo\nabsolute\nescaping\nbad*\n");
    assert_eq!(project.paths(None, &[]), ["broken", "ok", "ok/a.txt"]);
}

#[test]
fn a_tree_goes_into_the_store_and_comes_out_as_it_was() {
    let project = Project::new(&[("run.sh", "#!"), ("src/a.py", "a"), ("src/b.py", "a")]);
    fs::set_permissions(project.root().join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("src", project.root().join("link")).unwrap();
    let (store, tree) = (project.store(), project.snapshot().tree(None, &[]).unwrap());
    store.put_sources(&tree).unwrap();
    let work = project.dir.path().join("work");
    fs::create_dir(&work).unwrap();
    store.checkout(&store.manifest(&tree.digest).unwrap(), &work).unwrap();
    let out = Snapshot::take(&work, Path::new("/dev/null/x")).unwrap().tree(None, &[]).unwrap();
    assert_eq!(out.digest, tree.digest);
    fs::write(work.join("src/a.py"), "written").unwrap();
    assert_eq!(fs::read_link(work.join("link")).unwrap(), Path::new("src"));
    assert_eq!(fs::metadata(work.join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_source_that_changed_since_the_snapshot_is_not_stored() {
    let project = Project::new(&[("a.txt", "one")]);
    let (store, tree) = (project.store(), project.snapshot().tree(None, &[]).unwrap());
    project.write("a.txt", "two");
    assert!(matches!(store.put_sources(&tree), Err(StoreError::Changed { .. })));
}

#[test]
fn a_damaged_source_object_is_found_and_stored_anew() {
    let project = Project::new(&[("a.txt", "one"), ("b.txt", "two")]);
    let (store, tree) = (project.store(), project.snapshot().tree(None, &[]).unwrap());
    store.put_sources(&tree).unwrap();
    let object = store.object_path(&tree.manifest.sub("a.txt").unwrap());
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, "ONE").unwrap();
    let work = |name: &str| {
        let work = project.dir.path().join(name);
        fs::create_dir(&work).unwrap();
        work
    };
    assert!(matches!(store.checkout(&tree.manifest, &work("1")), Err(StoreError::Damaged { .. })));
    store.put_sources(&tree).unwrap();
    let second = work("2");
    store.checkout(&tree.manifest, &second).unwrap();
    assert_eq!(fs::read_to_string(second.join("a.txt")).unwrap(), "one");
}

/// Files that are old enough for their stamps to be remembered.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(120));
}

#[test]
fn stamps_are_remembered_and_a_change_is_seen() {
    let project = Project::new(&[("a.txt", "one"), ("b.txt", "two")]);
    settle();
    let snapshot = project.snapshot();
    let first = snapshot.tree(None, &[]).unwrap().digest;
    snapshot.save().unwrap();
    let written = fs::metadata(project.stamps()).unwrap().modified().unwrap();
    let again = project.snapshot();
    assert_eq!(again.tree(None, &[]).unwrap().digest, first);
    again.save().unwrap();
    assert_eq!(fs::metadata(project.stamps()).unwrap().modified().unwrap(), written, "nothing new, nothing written");
    project.write("a.txt", "ONE");
    assert_ne!(project.snapshot().tree(None, &[]).unwrap().digest, first);
    // A cache that is damaged is none.
    fs::write(project.stamps(), "mlctl stamps 1\nrubbish").unwrap();
    project.write("a.txt", "one");
    assert_eq!(project.snapshot().tree(None, &[]).unwrap().digest, first);
}

#[test]
fn a_fingerprint_tells_every_change_but_not_of_what_is_excluded() {
    let project = Project::new(&[("a.txt", "one"), ("out/b.txt", "two")]);
    let excluded = ["out".to_owned()];
    assert_eq!(project.snapshot().fingerprint(&excluded), None, "too young to tell");
    settle();
    let first = project.snapshot().fingerprint(&excluded);
    assert!(first.is_some());
    project.write("out/c.txt", "three");
    assert_eq!(project.snapshot().fingerprint(&excluded), first);
    let changes: [&dyn Fn(); 4] = [
        &|| project.write("a.txt", "ONE"),
        &|| project.write("new.txt", ""),
        &|| symlink("a.txt", project.root().join("link")).unwrap(),
        &|| fs::set_permissions(project.root().join("a.txt"), fs::Permissions::from_mode(0o755)).unwrap(),
    ];
    let mut seen = vec![first];
    for change in changes {
        change();
        settle();
        let now = project.snapshot().fingerprint(&excluded);
        assert!(now.is_some() && !seen.contains(&now));
        seen.push(now);
    }
}

#[test]
fn steps_that_exclude_what_does_not_exist_share_a_tree() {
    let project = Project::new(&[("a.txt", ""), ("b/c.txt", ""), ("b-d.txt", "")]);
    let snapshot = project.snapshot();
    let tree = |excluded: &[&str]| {
        snapshot.tree(None, &excluded.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>()).unwrap()
    };
    let all = tree(&[]);
    assert!(std::sync::Arc::ptr_eq(&all, &tree(&["out/model.pkl", "b/c", "c"])));
    let without = tree(&["x", "b/"]);
    assert!(std::sync::Arc::ptr_eq(&without, &tree(&["./b", "y", "b"])));
    assert!(without.manifest.get("b/c.txt").is_none() && without.manifest.get("b-d.txt").is_some());
}

#[test]
fn a_file_hashed_just_after_it_was_written_is_hashed_again() {
    // Same size, same tick perhaps: never the old digest.
    for round in 0..20 {
        let project = Project::new(&[("a.txt", "one")]);
        let snapshot = project.snapshot();
        let first = snapshot.tree(None, &[]).unwrap().digest;
        snapshot.save().unwrap();
        fs::write(project.root().join("a.txt"), "two").unwrap();
        assert_ne!(project.snapshot().tree(None, &[]).unwrap().digest, first, "round {round}");
    }
}

#[test]
fn the_project_may_be_reached_through_a_link() {
    let project = Project::new(&[("a.txt", "one")]);
    let link = project.dir.path().join("link");
    symlink("project", &link).unwrap();
    let through = Snapshot::take(&link, &project.stamps()).unwrap().tree(None, &[]).unwrap();
    assert_eq!(through.digest, project.snapshot().tree(None, &[]).unwrap().digest);
}

#[test]
fn inputs_are_digested_and_stored() {
    let project = Project::new(&[("data/raw.csv", "1,2"), ("data/images/a.png", "a"), (".gitignore", "data\n")]);
    fs::create_dir(project.root().join("data/empty")).unwrap();
    symlink("raw.csv", project.root().join("data/link.csv")).unwrap();
    symlink("/etc/passwd", project.root().join("outside")).unwrap();
    let store = project.store();
    let inputs = Inputs::of(&project.root(), &project.dir.path().join("inputs")).unwrap();
    let file = inputs.digest("data/raw.csv").unwrap();
    assert_eq!(file.kind, ArtifactKind::File);
    assert!(!store.contains(&file));
    assert_eq!(inputs.put("data/raw.csv", &store).unwrap(), file);
    assert_eq!(inputs.put("data/link.csv", &store).unwrap(), file);
    assert_eq!(fs::read_to_string(store.object_path(&file)).unwrap(), "1,2");
    let directory = inputs.put("data", &store).unwrap();
    assert_eq!(directory, inputs.digest("data").unwrap());
    assert_eq!(store.manifest(&directory.digest).unwrap().names(), ["empty", "images", "link.csv", "raw.csv"]);
    assert!(project.root().join("data/raw.csv").exists());
    let told = |path: &str| inputs.digest(path).unwrap_err().to_string();
    assert!(told("outside").ends_with("outside lies outside the project, in /etc/passwd"), "{}", told("outside"));
    assert!(told("missing").contains("No such file"), "{}", told("missing"));
    fs::create_dir(project.root().join(".mlctl")).unwrap();
    for path in ["", ".", ".mlctl", "data/./", "./.mlctl"] {
        let reserved = inputs.digest(path).is_err_and(|error| error.to_string().contains("what mlctl or git keep"));
        assert_eq!(reserved, path != "data/./", "{path}");
    }
    let absolute = project.root().join("data/raw.csv");
    for path in ["data/../data/raw.csv", absolute.to_str().unwrap()] {
        assert!(told(path).contains("its path in the project"), "{}", told(path));
    }
}

#[test]
fn a_remembered_input_is_not_read() {
    let project = Project::new(&[("raw.csv", "1,2")]);
    settle();
    let cache = project.dir.path().join("inputs");
    let inputs = Inputs::of(&project.root(), &cache).unwrap();
    let first = inputs.digest("raw.csv").unwrap();
    inputs.save().unwrap();
    // A digest that no reading could give.
    let mut bytes = fs::read(&cache).unwrap();
    let end = bytes.len() - 32;
    bytes[end..].fill(7);
    let sum = mlctl_core::digest::Digest::of(&bytes[15 + 32..]);
    bytes[15..15 + 32].copy_from_slice(sum.as_bytes());
    fs::write(&cache, bytes).unwrap();
    let second = Inputs::of(&project.root(), &cache).unwrap().digest("raw.csv").unwrap();
    assert_ne!(second, first);
    assert_eq!(second.digest.as_bytes(), &[7; 32]);
}
