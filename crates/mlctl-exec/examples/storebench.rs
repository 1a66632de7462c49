//! What the store costs, as ratios to what others take for the same in the same run:
//! `cargo run --release -p mlctl-exec --example storebench -- DIRECTORY`. Needs `b3sum`, `cp` and `git` on PATH; what is
//! missing is left out. Each figure is the best of several rounds, since a busy neighbour only ever adds: of wall time,
//! and of CPU time, which is what to compare on a busy machine. After the directory: `big`, `small` or `tree` alone.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_exec::gc::{Keep, gc};
use mlctl_exec::hash;
use mlctl_exec::sources::{Inputs, Snapshot};
use mlctl_exec::store::{Entry, Provenance, Store, remove_tree};

const ROUNDS: usize = 5;
const BIG: usize = 1 << 30;
const FILES: usize = 20_000;
const SMALL: usize = 10_000;

fn main() {
    let root = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("storebench");
    remove_tree(&root).unwrap();
    fs::create_dir_all(&root).unwrap();
    let only = std::env::args().nth(2);
    for (name, part) in [("big", big as fn(&Path)), ("small", small), ("tree", tree)] {
        if only.as_ref().is_none_or(|only| only == name) {
            part(&root);
        }
    }
    remove_tree(&root).unwrap();
}

/// What something took.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Took {
    wall: f64,
    cpu: f64,
}

impl Took {
    fn best(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }

    fn and(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, cpu: self.cpu + other.cpu }
    }
}

fn best(work: impl FnMut() -> Took) -> Took {
    std::iter::repeat_with(work).take(ROUNDS).reduce(Took::best).unwrap()
}

fn timed<T>(work: impl FnOnce() -> T) -> Took {
    let (start, before) = (Instant::now(), cpu());
    std::hint::black_box(work());
    Took { wall: start.elapsed().as_secs_f64() * 1e3, cpu: cpu() - before }
}

/// Milliseconds of CPU that this process has had, and those of its children that have ended.
fn cpu() -> f64 {
    let own = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: f64 = stat.split(' ').skip(15).take(2).map(|t| t.parse::<f64>().unwrap()).sum();
    own.tv_sec as f64 * 1e3 + own.tv_nsec as f64 / 1e6 + ticks * 10.0
}

/// The best time of a program, or nothing if it is not there.
fn program(name: &str, args: &[&Path], before: impl Fn()) -> Option<Took> {
    Command::new(name).arg("--version").stdout(Stdio::null()).status().ok()?;
    Some(best(|| {
        before();
        timed(|| assert!(Command::new(name).args(args).stdout(Stdio::null()).status().unwrap().success()))
    }))
}

fn told(what: &str, ours: Took, theirs: Option<(Took, &str)>) {
    print!("{what:40} {:8.1} ms {:8.1} CPU", ours.wall, ours.cpu);
    if let Some((t, name)) = theirs {
        let ratio = (ours.wall / t.wall, ours.cpu / t.cpu);
        print!("   {:8.1} ms {:8.1} CPU {name}: {:.2}, CPU {:.2}", t.wall, t.cpu, ratio.0, ratio.1);
    }
    println!();
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// One file of 1 GiB: its digest, into the store and out of it.
fn big(root: &Path) {
    let (big, copy) = (root.join("big"), root.join("copy"));
    fs::write(&big, noise(BIG, 0)).unwrap();
    let fresh = || {
        let _ = fs::remove_file(&copy);
    };
    let b3sum = program("b3sum", &[&big], || {});
    let cp = program("cp", &[&big, &copy], fresh);
    let both = b3sum.zip(cp).map(|(a, b)| a.and(b));
    told("1 GiB: digest", best(|| timed(|| hash::file(&big).unwrap())), b3sum.map(|t| (t, "b3sum")));
    let store = Store::open(&root.join("big-store")).unwrap();
    let put = best(|| {
        let took = timed(|| store.put_copy(&big).unwrap());
        let artifact = store.put_copy(&big).unwrap();
        remove_tree(&store.object_path(&artifact)).unwrap();
        took
    });
    told("1 GiB: in, copied", put, both.map(|t| (t, "cp + b3sum")));
    let artifact = store.put_copy(&big).unwrap();
    let out = best(|| {
        fresh();
        timed(|| store.copy_out(&artifact, None, &copy).unwrap())
    });
    told("1 GiB: out", out, both.map(|t| (t, "cp + b3sum")));
    let output = best(|| {
        remove_tree(&store.object_path(&artifact)).unwrap();
        fresh();
        fs::copy(&big, &copy).unwrap();
        timed(|| store.put_output(&copy).unwrap())
    });
    told("1 GiB: in, as an output", output, b3sum.map(|t| (t, "b3sum")));
    let stamps = root.join("big-stamps");
    let inputs = Inputs::of(root, &stamps).unwrap();
    inputs.put("big", &store).unwrap();
    inputs.save().unwrap();
    let again = best(|| {
        timed(|| {
            let store = Store::open(&root.join("big-store")).unwrap();
            Inputs::of(root, &stamps).unwrap().put("big", &store).unwrap();
        })
    });
    told("1 GiB: an unchanged input", again, None);
    remove_tree(&root.join("big-store")).unwrap();
    fresh();
    fs::remove_file(&big).unwrap();
}

/// Many outputs of a few bytes, and their entries: microseconds of CPU each.
fn small(root: &Path) {
    let store = Store::open(&root.join("small-store")).unwrap();
    let out = root.join("out");
    fs::create_dir(&out).unwrap();
    let paths: Vec<PathBuf> = (0..SMALL).map(|i| out.join(format!("{i}"))).collect();
    for (i, path) in paths.iter().enumerate() {
        fs::write(path, format!("output {i}\n")).unwrap();
    }
    let mut artifacts = Vec::new();
    each("put_output, all different", || artifacts = paths.iter().map(|p| store.put_output(p).unwrap()).collect());
    for path in &paths {
        fs::write(path, "the same\n").unwrap();
    }
    each("put_output, all the same", || {
        for path in &paths {
            store.put_output(path).unwrap();
        }
    });
    let keys: Vec<Digest> = (0..SMALL).map(|i| Digest::of(format!("key {i}").as_bytes())).collect();
    let entry = |artifact: &Artifact| Entry {
        result: Arc::new(ActionResult { artifacts: [("x".to_owned(), *artifact)].into(), ..ActionResult::default() }),
        components: ["command", "environment", "input x", "sources"].map(|c| (c.to_owned(), artifact.digest)).into(),
        provenance: Provenance::default(),
    };
    let entries: Vec<Entry> = artifacts.iter().map(entry).collect();
    each("record", || {
        for (key, entry) in keys.iter().zip(&entries) {
            store.record(key, entry.clone()).unwrap();
        }
    });
    let store = Store::open(&root.join("small-store")).unwrap();
    each("lookup, a hit", || keys.iter().for_each(|key| assert!(store.lookup(key).is_some())));
    let others: Vec<Digest> = keys.iter().map(|k| Digest::of(k.as_bytes())).collect();
    each("lookup, a miss", || others.iter().for_each(|key| assert!(store.lookup(key).is_none())));
    let collect = timed(|| gc(&store, &Keep::default(), SystemTime::now(), false).unwrap());
    told("gc of 10,000 entries and objects", collect, None);
}

fn each(what: &str, work: impl FnOnce()) {
    let took = timed(work);
    let per = |millis: f64| millis * 1e3 / SMALL as f64;
    println!("{what:40} {:6.1} us {:6.1} CPU each", per(took.wall), per(took.cpu));
}

/// A tree of 20,000 files.
fn tree(root: &Path) {
    let project = root.join("project");
    for i in 0..FILES {
        let directory = project.join(format!("d{}/e{}", i / 2000, i / 100));
        if i % 100 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        fs::write(directory.join(format!("file{i}.py")), noise(500 + i % 4000, i as u64)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    let stamps = root.join("stamps");
    let plain = best(|| timed(|| two_threads(&project)));
    let digest = best(|| {
        let inputs = Inputs::of(root, &root.join("no-stamps")).unwrap();
        timed(|| inputs.digest("project").unwrap())
    });
    told("20,000 files: digest", digest, Some((plain, "two-thread walk + BLAKE3")));
    let cold = best(|| {
        let _ = fs::remove_file(&stamps);
        timed(|| Snapshot::take(&project, &stamps).unwrap().tree(None, &[]).unwrap())
    });
    told("20,000 files: sources, nothing known", cold, Some((plain, "two-thread walk + BLAKE3")));
    let snapshot = Snapshot::take(&project, &stamps).unwrap();
    let tree = snapshot.tree(None, &[]).unwrap();
    snapshot.save().unwrap();
    let warm = best(|| {
        timed(|| assert_eq!(Snapshot::take(&project, &stamps).unwrap().tree(None, &[]).unwrap().digest, tree.digest))
    });
    let git = |args: &[&str]| {
        Command::new("git").arg("-C").arg(&project).args(args).stdout(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let has_git = git(&["init", "-q"]) && git(&["add", "."]) && git(&["status"]);
    let status = has_git.then(|| best(|| timed(|| assert!(git(&["status", "--porcelain"])))));
    told("20,000 files: sources, unchanged", warm, status.map(|t| (t, "git status")));
    remove_tree(&project.join(".git")).unwrap();
    let store = Store::open(&root.join("tree-store")).unwrap();
    told("20,000 files: sources into the store", timed(|| store.put_sources(&tree).unwrap()), None);
    told("20,000 files: again", best(|| timed(|| store.put_sources(&tree).unwrap())), None);
    let work = root.join("work");
    fs::create_dir(&work).unwrap();
    told("20,000 files: checkout", timed(|| store.checkout(&tree.manifest, &work).unwrap()), None);
    let output = timed(|| store.put_output(&work).unwrap());
    told("20,000 files: as an output", output, Some((plain, "two-thread walk + BLAKE3")));
}

/// What no digest of a tree can do without, at its simplest.
fn two_threads(root: &Path) {
    let mut files = Vec::with_capacity(FILES);
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    let half = files.len() / 2;
    std::thread::scope(|scope| {
        for part in [&files[..half], &files[half..]] {
            scope.spawn(move || {
                for path in part {
                    std::hint::black_box(blake3::hash(&fs::read(path).unwrap()));
                }
            });
        }
    });
}
