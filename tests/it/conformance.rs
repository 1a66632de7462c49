//! The conformance suite: `tests/conformance/<case>/` is a project as a user would write it, with `expect.toml`: what
//! must come out. Every engine gets the same cases. `MLCTL_CASE=a,b` runs only the cases with `a` or `b` in their names.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use self::case::Case;
use crate::cluster::{self, Bed, Turn};

mod case;
mod check;
mod project;

/// Cases at a time: most of them wait.
const AT_A_TIME: usize = 4;

#[test]
fn process() {
    on("process", None);
}

#[test]
fn docker() {
    if crate::docker::docker() {
        on("docker", None);
    }
}

#[test]
fn kind() {
    if let Some(bed) = cluster::bed("kind") {
        on("kind", Some(&bed));
    }
}

#[test]
fn cloud() {
    if let Some(bed) = cluster::bed("cloud") {
        on("cloud", Some(&bed));
    }
}

/// Runs every case on an engine, or in a context on a cluster, and reports all that fail.
fn on(engine: &str, bed: Option<&Bed>) {
    let cases = cases();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(dir) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // What hangs panics, and the other cases go on.
                    let ended = catch_unwind(|| run(dir, engine, bed));
                    if let Err(why) = ended.unwrap_or_else(|_| Err("panicked, as said above".to_owned())) {
                        failures.lock().unwrap().push(format!("{}: {why}", name(dir)));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} cases fail:\n\n{}\n", failures.len(), cases.len(), failures.join("\n\n"));
}

/// One case, in a project and a store of its own.
fn run(dir: &Path, engine: &str, bed: Option<&Bed>) -> Result<(), String> {
    let case = Case::read(dir)?;
    if case.not_on.contains_key(engine) {
        return Ok(());
    }
    let _turn = bed.map(|_| Turn::beside_others());
    let project = project::Project::new(dir, engine, bed)?;
    for (index, expected) in case.run.iter().enumerate() {
        let which = match &expected.about {
            Some(about) => format!("run {} ({about})", index + 1),
            None => format!("run {}", index + 1),
        };
        project.edit(expected).map_err(|why| format!("{which}: {why}"))?;
        let first = project.run(expected)?;
        check::run(&project, expected, &first).map_err(|why| format!("{which}: {why}\n{}", first.transcript()))?;
        if expected.again && !expected.refused.contains_key(engine) {
            let second = project.run(expected)?;
            check::again(expected, &first, &second)
                .map_err(|why| format!("{which}, once more: {why}\n{}", second.transcript()))?;
        }
    }
    Ok(())
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let wanted = std::env::var("MLCTL_CASE").unwrap_or_default();
    let is_wanted = |path: &Path| wanted.split(',').any(|wanted| name(path).contains(wanted));
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && is_wanted(path))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case has `{wanted}` in its name");
    cases
}

fn name(dir: &Path) -> String {
    dir.file_name().unwrap().to_string_lossy().into_owned()
}
