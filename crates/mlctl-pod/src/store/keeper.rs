//! What whoever runs a unit asks for, done.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mlctl_core::action::Artifact;
use mlctl_core::digest::Digest;
use mlctl_core::records;
use mlctl_exec::manifest::Manifest;
use mlctl_exec::store::{Entry, Store};
use mlctl_remote::{ErrorKind, Location, Options as RemoteOptions, Remote, RemoteError, Watch};

use super::logs::Logs;
use crate::arguments::Options;
use crate::protocol::{Answer, Request, STORE, Trouble};

/// Bytes of objects that are held in memory, and requests at a time: both are the pod's, beside its program.
const MEMORY: u64 = 8 << 20;
const PARALLEL: usize = 8;
/// Before a store that cannot be reached is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Knows the store.
pub(super) struct Keeper {
    /// The directory that the pod's containers share.
    pub(super) at: PathBuf,
    run: String,
    submission: Digest,
    /// Where records are, and objects too unless there is a `directory`.
    location: Location,
    /// The store itself, where it is mounted.
    directory: Option<PathBuf>,
    /// Opened when it is first needed.
    remote: Mutex<Option<Arc<Remote>>>,
    /// The pod's own.
    store: Mutex<Option<Arc<Store>>>,
    logs: Mutex<Logs>,
    patience: Duration,
}

impl Keeper {
    pub(super) fn new(options: Options) -> io::Result<Self> {
        let Options { at, run, submission, store, patience, .. } = options;
        let location = Location::parse(&records::location(&store)).map_err(io::Error::other)?;
        let directory = store.strip_prefix("file://").map(|path| path.trim_end_matches('/').into());
        let logs = Mutex::new(Logs::new(at.join(records::LOGS)));
        let (remote, store) = (Mutex::default(), Mutex::default());
        Ok(Self { at, run, submission, location, directory, remote, store, logs, patience })
    }

    pub(super) fn answer(&self, request: Request) -> Result<Answer, Trouble> {
        Ok(match request {
            Request::Submission => {
                let text = self.submission()?;
                Answer::Submission { text, directory: self.directory.clone() }
            }
            Request::Records(names) => {
                let all = self.patiently(|remote| remote.record_each(&self.run, &names))?;
                Answer::Records(all.into_iter().map(|bytes| bytes.map(|bytes| text(&bytes))).collect())
            }
            Request::RecordsBelow(directories) => Answer::Found(self.below(&directories)?),
            Request::Put { name, text } => Answer::Records(vec![self.put(&name, text.into_bytes())?]),
            Request::LookUp(key) => {
                let found = self.patiently(|remote| remote.result(&key))?;
                Answer::Result(found.map(|entry| entry.result))
            }
            Request::Fetch { artifacts, sources } => {
                let store = self.store()?;
                self.patiently(|remote| remote.fetch(&store, &artifacts, &sources, &unwatched()))?;
                Answer::Done
            }
            Request::Entries(directory) => {
                let manifest = self.manifest(&directory)?;
                Answer::Names(manifest.names().into_iter().map(str::to_owned).collect())
            }
            Request::Entry(directory, path) => {
                let manifest = self.manifest(&directory)?;
                let missing = || Trouble::once(format!("there is no `{path}` in it"));
                Answer::Artifact(manifest.sub(&path).ok_or_else(missing)?)
            }
            Request::Keep { key, entry, replace } => self.keep(key, entry, replace)?,
            Request::Flush { instance, attempt } => {
                let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
                self.patiently(|remote| logs.finish(remote, &self.run, &instance, attempt))?;
                Answer::Done
            }
            Request::Will(_) | Request::Goodbye => Answer::Done,
        })
    }

    /// Stores what was printed since it was last called.
    pub(super) fn store_logs(&self) -> Result<(), Trouble> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if !logs.have_more() {
            return Ok(());
        }
        self.patiently(|remote| logs.store(remote, &self.run))
    }

    /// Writes a record unless there is one; gives what was there.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) -> Result<Option<String>, Trouble> {
        let there = self.patiently(|remote| remote.create_record(&self.run, name, bytes.clone()))?;
        Ok(there.map(|bytes| text(&bytes)))
    }

    /// Whether somebody has cancelled the run.
    pub(super) fn is_cancelled(&self) -> Result<bool, Trouble> {
        Ok(self.patiently(|remote| remote.record(&self.run, records::CANCEL))?.is_some())
    }

    fn submission(&self) -> Result<String, Trouble> {
        let bytes = self.patiently(|remote| remote.record(&self.run, records::SUBMISSION))?;
        let bytes = bytes.ok_or_else(|| Trouble::lasting(format!("run {} is not in {}", self.run, self.location)))?;
        if Digest::of(&bytes) != self.submission {
            return Err(Trouble::lasting(format!(
                "run {} in {} is another than was submitted",
                self.run, self.location
            )));
        }
        Ok(text(&bytes))
    }

    fn below(&self, directories: &[String]) -> Result<Vec<(String, String)>, Trouble> {
        let names = self.patiently(|remote| remote.records_below(&self.run, directories))?;
        let all = self.patiently(|remote| remote.record_each(&self.run, &names))?;
        Ok(names.into_iter().zip(all).filter_map(|(name, bytes)| Some((name, text(&bytes?)))).collect())
    }

    fn manifest(&self, directory: &Artifact) -> Result<Arc<Manifest>, Trouble> {
        let manifest = self.patiently(|remote| remote.tree(&directory.digest))?;
        manifest
            .ok_or_else(|| Trouble::once(format!("directory {} is not in {}", directory.digest.short(), self.location)))
    }

    fn keep(&self, key: Option<Digest>, entry: Entry, replace: bool) -> Result<Answer, Trouble> {
        let store = self.store()?;
        let artifacts: Vec<Artifact> = entry.result.artifacts.values().copied().collect();
        self.patiently(|remote| {
            let push = remote.plan_objects(&store, &artifacts, &[])?;
            remote.push(push, &unwatched()).map(drop)
        })?;
        let Some(key) = key else { return Ok(Answer::Result(Some(entry.result))) };
        let recorded = self.patiently(|remote| remote.record_result(&key, entry.clone(), replace))?;
        Ok(Answer::Result(Some(recorded.result)))
    }

    /// Does something with the store; one that cannot be reached is tried again for as long as there is patience.
    fn patiently<T>(&self, mut work: impl FnMut(&Remote) -> Result<T, RemoteError>) -> Result<T, Trouble> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.remote().and_then(|remote| work(&remote)) {
                Err(error) if error.kind() == ErrorKind::Unreachable && Instant::now() < deadline => sleep(PAUSE),
                done => return done.map_err(Trouble::from),
            }
        }
    }

    fn remote(&self) -> Result<Arc<Remote>, RemoteError> {
        let mut remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*remote {
            return Ok(open.clone());
        }
        let mut options = RemoteOptions::new(self.at.join(STORE).join("remotes"));
        options.memory = MEMORY;
        options.parallel = PARALLEL;
        let opened = Arc::new(Remote::open(&self.location, &options)?);
        Ok(remote.insert(opened).clone())
    }

    fn store(&self) -> Result<Arc<Store>, Trouble> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*store {
            return Ok(open.clone());
        }
        let opened = Arc::new(Store::open(&self.at.join(STORE)).map_err(Trouble::once)?);
        Ok(store.insert(opened).clone())
    }
}

/// Records are JSON.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unwatched() -> Watch {
    Arc::new(|_| {})
}
