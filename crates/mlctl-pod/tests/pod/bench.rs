//! A machine with a store, from which runs are submitted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mlctl_core::action::{Artifact, CONTRACT, StepFailure};
use mlctl_core::diag::Source;
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Status};
use mlctl_core::forecast::{Outlook, forecast};
use mlctl_core::plan::{Plan, Request, plan};
use mlctl_core::records::{self, Mark};
use mlctl_core::scheduler::Facts;
use mlctl_core::spec;
use mlctl_core::submission::{Known, Part, Submission};
use mlctl_core::units::{Cutting, Unit, units};
use mlctl_exec::sources::Snapshot;
use mlctl_exec::store::Store;
use mlctl_remote::{Location, Options, Remote};

/// Where the store is, if not in a directory.
pub(crate) const STORE: &str = "MLCTL_TEST_STORE";

/// The machine.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    /// Its own store, which is the pods' too where that is a directory.
    pub(crate) store: Arc<Store>,
    /// What pods are told of the store.
    pub(crate) url: String,
    pub(crate) remote: Remote,
    runs: AtomicU32,
}

/// A run that was submitted.
pub(crate) struct Run<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) id: String,
    pub(crate) plan: Plan,
    pub(crate) units: Vec<Unit>,
    pub(crate) submission: Digest,
}

impl Bench {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir_in(outside_tmp()).unwrap();
        let store = Arc::new(Store::open(&directory.path().join("store")).unwrap());
        let url = match std::env::var(STORE) {
            // Each has a store of its own on the server.
            Ok(url) => format!("{url}/{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            Err(_) => {
                fs::create_dir(store.root().join("cluster")).unwrap();
                format!("file://{}", store.root().display())
            }
        };
        let location = Location::parse(&records::location(&url)).unwrap();
        let remote = Remote::open(&location, &Options::new(directory.path().join("remotes"))).unwrap();
        Self { directory, store, url, remote, runs: AtomicU32::new(0) }
    }

    /// Whether the pods' store is this machine's.
    pub(crate) fn is_here(&self) -> bool {
        self.url.starts_with("file://")
    }

    pub(crate) fn submit(&self, text: &str) -> Run<'_> {
        self.submit_with(text, |_, _| {})
    }

    /// Submits a run; `change` may change what is submitted and how it is cut.
    pub(crate) fn submit_with(&self, text: &str, change: impl FnOnce(&mut Submission, &mut Cutting)) -> Run<'_> {
        let source = Source { name: "mlctl.toml".to_owned(), text: format!("[project]\nname = \"p\"\n{text}") };
        let workflow = Arc::new(spec::parse(&source).unwrap().workflow);
        let params =
            workflow.params.iter().map(|(name, param)| (name.clone(), param.default.clone().unwrap())).collect();
        let plan = plan(workflow, params, &Request::default()).unwrap();
        let facts = self.facts(&plan);
        let ahead = forecast(plan.clone(), facts.clone(), &mut |key: &Digest| match self.is_here() {
            true => self.store.lookup(key).map(|entry| entry.result),
            false => self.remote.result(key).unwrap().map(|entry| entry.result),
        });
        let ends: BTreeMap<_, _> =
            ahead.iter().map(|(instance, outlook)| (instance.ix, matches!(outlook, Outlook::Ends(..)))).collect();
        let cached = ahead.iter().filter(|(_, outlook)| matches!(outlook, Outlook::Ends(Status::Cached, _)));
        let id = format!("run-{}", self.runs.fetch_add(1, Ordering::Relaxed));
        let mut cutting = Cutting { pods: 2, workers: true, chains: true, places: BTreeMap::new() };
        let mut submission = Submission {
            contract: CONTRACT,
            run: id.clone(),
            store: self.url.clone(),
            results: cached.filter_map(|(instance, _)| Some((instance.key()?, instance.result()?.clone()))).collect(),
            fail_fast: false,
            spec: source.text,
            params: plan.params.clone(),
            targets: Vec::new(),
            force: Vec::new(),
            resources: BTreeMap::new(),
            known: Known::of(ahead.plan(), ahead.facts()),
            units: BTreeMap::new(),
        };
        change(&mut submission, &mut cutting);
        let request = Request { force: submission.force.clone(), ..Request::default() };
        let plan = mlctl_core::plan::plan(plan.workflow, plan.params, &request).unwrap();
        let ends = |ix| submission.force.is_empty() && ends.get(&ix).copied().unwrap_or_default();
        let units = units(&plan, &cutting, &ends);
        submission.units =
            units.iter().map(|unit| (plan.step(unit.first()).name.clone(), Part::of(&plan, unit, &cutting))).collect();
        let bytes = submission.to_bytes().unwrap();
        let digest = Digest::of(&bytes);
        assert!(self.remote.create_record(&id, records::SUBMISSION, bytes).unwrap().is_none());
        Run { bench: self, id, plan, units, submission: digest }
    }

    /// No step has sources, and they all run on one kind of machine.
    fn facts(&self, plan: &Plan) -> Facts {
        let project = tempfile::tempdir_in(self.directory.path()).unwrap();
        fs::write(project.path().join("source.txt"), "a source\n").unwrap();
        let tree =
            Snapshot::take(project.path(), &self.directory.path().join("stamps")).unwrap().tree(None, &[]).unwrap();
        self.store.put_sources(&tree).unwrap();
        if !self.is_here() {
            let push = self.remote.plan_objects(&self.store, &[], &[tree.digest]).unwrap();
            self.remote.push(push, &(Arc::new(|_| {}) as _)).unwrap();
        }
        Facts {
            sources: plan.needed().map(|step| (step, tree.digest)).collect(),
            host: Some(Digest::of(b"some machine")),
            ..Facts::default()
        }
    }

    /// The spec of a run, to submit it again.
    pub(crate) fn text(&self, run: &Run<'_>) -> String {
        let bytes = self.remote.record(&run.id, records::SUBMISSION).unwrap().unwrap();
        let submission: Submission = serde_json::from_slice(&bytes).unwrap();
        submission.spec.split_once("name = \"p\"\n").unwrap().1.to_owned()
    }

    /// The bytes of a file that was made.
    pub(crate) fn read(&self, artifact: &Artifact) -> String {
        if !self.is_here() {
            self.remote.fetch(&self.store, &[*artifact], &[], &(Arc::new(|_| {}) as _)).unwrap();
        }
        fs::read_to_string(self.store.object_path(artifact)).unwrap()
    }
}

impl Run<'_> {
    /// How an instance ended, as it is recorded.
    pub(crate) fn end(&self, instance: &str) -> Event {
        let bytes = self.bench.remote.record(&self.id, &Mark::Finished.name(instance)).unwrap();
        let bytes = bytes.unwrap_or_else(|| panic!("`{instance}` has no record"));
        records::decode_event(&bytes).unwrap().event
    }

    pub(crate) fn status(&self, instance: &str) -> Status {
        match self.end(instance) {
            Event::InstanceFinished { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn attempts(&self, instance: &str) -> u32 {
        match self.end(instance) {
            Event::InstanceFinished { attempts, .. } => attempts,
            other => panic!("{other:?}"),
        }
    }

    /// Why an instance failed.
    pub(crate) fn failure(&self, instance: &str) -> StepFailure {
        match self.end(instance) {
            Event::InstanceFinished { failure: Some(failure), .. } => failure,
            other => panic!("{other:?}"),
        }
    }

    /// The text of an output.
    pub(crate) fn output(&self, instance: &str, output: &str) -> String {
        match self.end(instance) {
            Event::InstanceFinished { result: Some(result), .. } => self.bench.read(&result.artifacts[output]),
            other => panic!("{other:?}"),
        }
    }

    /// All that an attempt printed, from its parts.
    pub(crate) fn log(&self, instance: &str, attempt: u32) -> Vec<u8> {
        let mut log = Vec::new();
        for name in self.bench.remote.records(&self.id, &records::log_parts(instance, attempt)).unwrap() {
            let offset = u64::from_str_radix(name.rsplit('/').next().unwrap(), 16).unwrap();
            assert_eq!(offset, log.len() as u64, "{name}");
            log.extend_from_slice(&self.bench.remote.record(&self.id, &name).unwrap().unwrap());
        }
        log
    }
}

/// Steps may write below /tmp, so that is no place for a store to protect, and this repository may stand there.
fn outside_tmp() -> PathBuf {
    let usual = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if !usual.starts_with("/tmp") && !usual.starts_with("/var/tmp") {
        return usual.to_owned();
    }
    let other = std::env::home_dir().unwrap().join(".cache/mlctl-tests");
    fs::create_dir_all(&other).unwrap();
    other
}
