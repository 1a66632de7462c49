//! A store, a place, and tasks written briefly.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mlctl_core::action::{ActionResult, CONTRACT, InputContent, StepFailure, Task, TaskInput, TaskOutput, TaskValue};
use mlctl_core::digest::Digest;
use mlctl_core::template::{Piece, Template};
use mlctl_core::value::Type;
use mlctl_core::workflow::Resources;
use mlctl_exec::sources::Snapshot;
use mlctl_exec::store::Store;
use mlctl_exec::{Cancel, Executor, Place, Realised, Report};

/// A directory of its own with a store and an executor.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Arc<Store>,
    pub(crate) executor: Executor,
    logs: AtomicU32,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir_in(outside_tmp()).unwrap();
        let store = Arc::new(Store::open(&directory.path().join("store")).unwrap());
        Self { executor: Executor::new(store.clone()), store, directory, logs: AtomicU32::new(0) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn place(&self) -> Place {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        Place {
            work: self.path("store/runs/r/s"),
            log: self.path(&format!("logs/{number}.log")),
            partial: None,
            environment: Realised::default(),
            authorities: None,
            secrets: BTreeMap::new(),
            caches: self.path("store/caches"),
            checkpoint: self.path("store/checkpoints/t"),
            replace: false,
            sandbox: true,
            grace: Duration::from_millis(300),
            components: BTreeMap::new(),
        }
    }

    /// Runs `task` in a usual place.
    pub(crate) fn run(&self, task: &Task) -> Done {
        self.run_at(task, &self.place())
    }

    pub(crate) fn run_at(&self, task: &Task, place: &Place) -> Done {
        let mut started = false;
        let report = self.executor.run(task, place, &Cancel::new().unwrap(), &mut || started = true);
        let log = fs::read(&place.log).unwrap_or_default();
        Done { report, started, log: String::from_utf8_lossy(&log).into_owned() }
    }

    /// A tree of sources: path and content.
    pub(crate) fn sources(&self, files: &[(&str, &str)]) -> Digest {
        let project = tempfile::tempdir_in(self.directory.path()).unwrap();
        for (path, content) in files {
            let path = project.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let snapshot = Snapshot::take(project.path(), &self.path("stamps")).unwrap();
        let tree = snapshot.tree(None, &[]).unwrap();
        self.store.put_sources(&tree).unwrap();
        tree.digest
    }

    /// A stored file.
    pub(crate) fn file(&self, content: &[u8]) -> InputContent {
        InputContent::Artifact { artifact: self.store.put_bytes(content).unwrap(), entry: None }
    }

    /// The bytes of a file output.
    pub(crate) fn output(&self, done: &Done, name: &str) -> Vec<u8> {
        fs::read(self.store.object_path(&done.result().artifacts[name])).unwrap()
    }
}

/// Steps may write below /tmp, so that is no place for a store to protect, and this repository may stand there.
fn outside_tmp() -> PathBuf {
    let usual = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if !usual.starts_with("/tmp") && !usual.starts_with("/var/tmp") {
        return usual;
    }
    let other = std::env::home_dir().unwrap().join(".cache/mlctl-tests");
    fs::create_dir_all(&other).unwrap();
    other
}

/// An attempt that ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) report: Report,
    pub(crate) started: bool,
    pub(crate) log: String,
}

impl Done {
    pub(crate) fn result(&self) -> &ActionResult {
        self.report.result.as_ref().unwrap_or_else(|failure| panic!("{failure}\n{}", self.log))
    }

    pub(crate) fn failure(&self) -> &StepFailure {
        match &self.report.result {
            Ok(result) => panic!("succeeded: {result:?}\n{}", self.log),
            Err(failure) => failure,
        }
    }
}

/// `sh -eu -c SCRIPT` with no inputs and no outputs.
pub(crate) fn script(bench: &Bench, text: &str) -> Task {
    command(bench, &["sh", "-eu", "-c", text])
}

pub(crate) fn command(bench: &Bench, argv: &[&str]) -> Task {
    Task {
        contract: CONTRACT,
        run: "r".to_owned(),
        instance: "t".to_owned(),
        attempt: 1,
        key: None,
        command: argv.iter().map(|argument| Template(vec![Piece::Text((*argument).to_owned())])).collect(),
        env: BTreeMap::new(),
        params: BTreeMap::new(),
        sources: bench.sources(&[]),
        inputs: Default::default(),
        outputs: Default::default(),
        environment: None,
        secrets: Vec::new(),
        settings: BTreeMap::new(),
        caches: Vec::new(),
        checkpoint: false,
        resources: Resources::default(),
        timeout: None,
    }
}

/// Tasks are written from left to right.
pub(crate) trait Builder: Sized {
    fn input(self, name: &str, file_name: &str, content: InputContent) -> Self;
    fn input_at(self, name: &str, at: &str, content: InputContent) -> Self;
    fn output(self, name: &str) -> Self;
    fn output_at(self, name: &str, at: &str) -> Self;
    fn value(self, name: &str, ty: Type) -> Self;
    fn value_from(self, name: &str, ty: Type, source: &str, keys: &[&str]) -> Self;
    fn sources(self, sources: Digest) -> Self;
    fn timeout(self, millis: u64) -> Self;
}

impl Builder for Task {
    fn input(mut self, name: &str, file_name: &str, content: InputContent) -> Self {
        let input = TaskInput { file_name: file_name.to_owned(), at: None, content: Some(content) };
        self.inputs.insert(name.to_owned(), input);
        self
    }

    fn input_at(mut self, name: &str, at: &str, content: InputContent) -> Self {
        let input = TaskInput { file_name: "f".to_owned(), at: Some(at.to_owned()), content: Some(content) };
        self.inputs.insert(name.to_owned(), input);
        self
    }

    fn output(mut self, name: &str) -> Self {
        self.outputs.insert(name.to_owned(), TaskOutput { at: None, value: None });
        self
    }

    fn output_at(mut self, name: &str, at: &str) -> Self {
        self.outputs.insert(name.to_owned(), TaskOutput { at: Some(at.to_owned()), value: None });
        self
    }

    fn value(mut self, name: &str, ty: Type) -> Self {
        let value = Some(TaskValue { ty, from: None });
        self.outputs.insert(name.to_owned(), TaskOutput { at: None, value });
        self
    }

    fn value_from(mut self, name: &str, ty: Type, source: &str, keys: &[&str]) -> Self {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let value = Some(TaskValue { ty, from: Some((source.to_owned(), keys)) });
        self.outputs.insert(name.to_owned(), TaskOutput { at: None, value });
        self
    }

    fn sources(mut self, sources: Digest) -> Self {
        self.sources = sources;
        self
    }

    fn timeout(mut self, millis: u64) -> Self {
        self.timeout = Some(Duration::from_millis(millis));
        self
    }
}
