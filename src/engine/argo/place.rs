//! A run on a cluster as any machine sees it: its records in the store of its context, and its workflow.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mlctl_core::action::Artifact;
use mlctl_core::event::Reason;
use mlctl_core::records::{self, Cancel};
use mlctl_core::scheduler::Scheduler;
use mlctl_core::submission::Submission;
use mlctl_core::workflow::{ArtifactRole, OutputKind};
use mlctl_exec::store::Store;
use mlctl_remote::{Amount, Remote, RemoteError};
use serde::Serialize;

use super::sweep::Sweep;
use crate::config::Context;
use crate::error::CommandError;
use crate::platform::kube::{Cluster, Fault};
use crate::record::{OnCluster, RunMeta};
use crate::remote;
use crate::ui::Ui;
use crate::ui::time::now;
use crate::ui::transfer::Transfer;

/// How long pods may take to end when their run has.
const LINGERING: Duration = Duration::from_secs(5);
/// So long it is looked after.
const SWEEP: Duration = Duration::from_secs(120);
/// How often it is looked.
const TURN: Duration = Duration::from_millis(500);

/// Where a run is.
pub(crate) struct Place {
    /// The run's id.
    pub(crate) run: String,
    /// Its workflow's name.
    pub(crate) workflow: String,
    /// Its context, as this machine has it.
    pub(crate) context: Context,
    /// Its records, and what it makes.
    pub(crate) remote: Arc<Remote>,
    /// This machine's store.
    pub(crate) store: Arc<Store>,
    cluster: OnceLock<Arc<Cluster>>,
}

impl Place {
    /// Of a run that may not be there yet, whose records are in the context's store `remote`.
    pub(crate) fn new(context: &Context, store: &Arc<Store>, remote: &Arc<Remote>, run: &str, workflow: &str) -> Self {
        Self {
            run: run.to_owned(),
            workflow: workflow.to_owned(),
            context: context.clone(),
            remote: remote.clone(),
            store: store.clone(),
            cluster: OnceLock::new(),
        }
    }

    /// The same, with the cluster connected already.
    pub(crate) fn on(self, cluster: &Arc<Cluster>) -> Self {
        Self { cluster: OnceLock::from(cluster.clone()), ..self }
    }

    /// The cluster, connected when it is first needed.
    pub(crate) fn cluster(&self) -> Result<&Arc<Cluster>, CommandError> {
        if let Some(cluster) = self.cluster.get() {
            return Ok(cluster);
        }
        let cluster = Cluster::connect(&self.context)?;
        Ok(self.cluster.get_or_init(|| cluster))
    }

    /// What is known of where the run is.
    pub(crate) fn on_cluster(&self, project: &str, namespace: &str) -> OnCluster {
        OnCluster {
            project: project.to_owned(),
            store: self.store_url().to_owned(),
            workflow: self.workflow.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// The store's URL.
    pub(crate) fn store_url(&self) -> &str {
        self.context.store_url()
    }

    /// Whether pods work on this machine's own store.
    pub(crate) fn shares_store(&self) -> bool {
        super::shares_store(&self.context, self.store.root())
    }

    /// A record of the run; `None`: there is none.
    pub(crate) fn record(&self, name: &str) -> Result<Option<Bytes>, CommandError> {
        self.remote.record(&self.run, name).map_err(|error| self.failed("read the records of", &error))
    }

    /// Puts a record unless there is one; gives what is there instead.
    pub(crate) fn put(&self, name: &str, record: &impl Serialize) -> Result<Option<Bytes>, CommandError> {
        let bytes = records::encode(record);
        let bytes = bytes.map_err(|error| CommandError::failed("cannot write a record").because(&error))?;
        self.put_bytes(name, bytes)
    }

    /// The same, of bytes.
    pub(crate) fn put_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<Option<Bytes>, CommandError> {
        self.remote.create_record(&self.run, name, bytes).map_err(|error| self.failed("write the records of", &error))
    }

    /// What was submitted; `None`: nothing was under this id.
    pub(crate) fn submission(&self) -> Result<Option<Submission>, CommandError> {
        let Some(bytes) = self.record(records::SUBMISSION)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            CommandError::missing(format!("cannot read what run `{}` is", self.run))
                .because(&error)
                .hint("another version of mlctl has written it: use that, or a newer one")
        })
    }

    /// What was asked for.
    pub(crate) fn meta(&self) -> Result<Option<RunMeta>, CommandError> {
        let Some(bytes) = self.record(records::RUN)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            CommandError::missing(format!("cannot read the record of run `{}`", self.run)).because(&error)
        })
    }

    /// Tells everybody that the run is to end, and Argo to start nothing more.
    pub(crate) fn cancel(&self, reason: Reason, again: bool) -> Result<(), CommandError> {
        self.put(records::CANCEL, &Cancel { at: now(), reason })?;
        self.shut_down(again)
    }

    /// Tells Argo to start nothing more and to end what runs; but for `at_once` the exit handler runs.
    pub(crate) fn shut_down(&self, at_once: bool) -> Result<(), CommandError> {
        let cluster = self.cluster()?;
        let told = cluster.shut_down(&self.workflow, if at_once { "Terminate" } else { "Stop" });
        told.map_err(|fault| cluster.explain("end the run on", &fault))
    }

    /// Stays until nothing of a run that has ended is left on the cluster.
    pub(crate) fn sweep(&self) -> Result<(), CommandError> {
        let cluster = self.cluster()?;
        let failed = |fault: Fault| cluster.explain("remove the run's pods from", &fault);
        let mut sweep = Sweep::new(LINGERING);
        loop {
            let workflow = cluster.workflow(&self.workflow).map_err(failed)?;
            let is_over = workflow.is_none_or(|workflow| workflow.is_finished());
            let pods = cluster.pods(&self.workflow).map_err(failed)?;
            if sweep.turn(cluster, &pods).map_err(failed)? && is_over {
                return Ok(());
            }
            if sweep.lasted() > SWEEP {
                let live = pods.iter().filter(|pod| !pod.has_ended());
                let names: Vec<&str> = live.map(|pod| pod.metadata.name.as_str()).collect();
                return Err(CommandError::missing(format!("run `{}` has ended, but not all of it is gone", self.run))
                    .cause(format!("pods are left: {}", names.join(", ")))
                    .hint(format!("is their node lost? `kubectl -n {} get pods` shows it", cluster.namespace())));
            }
            std::thread::sleep(TURN);
        }
    }

    /// The names of what is directly in a stored directory.
    pub(crate) fn entries(&self, directory: &Artifact) -> Result<Vec<String>, String> {
        remote::entries(&self.store, &self.remote, directory)
    }

    /// What is at a path in a stored directory.
    pub(crate) fn entry(&self, directory: &Artifact, path: &str) -> Result<Artifact, String> {
        remote::entry(&self.store, &self.remote, directory, path)
    }

    /// Brings artifacts of the run to this machine.
    pub(crate) fn fetch(&self, ui: &Ui, artifacts: &[Artifact]) -> Result<(), CommandError> {
        let missing: Vec<Artifact> =
            artifacts.iter().copied().filter(|artifact| !self.store.contains(artifact)).collect();
        if missing.is_empty() || self.shares_store() {
            return Ok(());
        }
        let bytes = missing.iter().map(|artifact| artifact.size).sum();
        let transfer = Transfer::new(ui, "fetching results", Amount { objects: missing.len() as u64, bytes });
        let fetched = self.remote.fetch(&self.store, &missing, &[], &transfer.watch());
        fetched.map_err(|error| self.failed("fetch results of", &error))
    }

    /// Brings here what is shown of a run's results: metrics of single instances, and where `exports` says so what is
    /// copied into the project.
    pub(crate) fn fetch_shown(&self, ui: &Ui, scheduler: &Scheduler, exports: bool) -> Result<(), CommandError> {
        /// Larger ones are not looked into.
        const LARGEST: u64 = 1 << 20;
        let single = scheduler.instances().filter(|instance| instance.matrix().next().is_none());
        let shown =
            single.filter_map(|instance| Some((instance.step(), instance.result()?))).flat_map(|(step, result)| {
                step.outputs.iter().filter_map(move |output| {
                    let artifact = *result.artifacts.get(&output.name)?;
                    let metrics = matches!(output.what, OutputKind::Artifact(ArtifactRole::Metrics));
                    let wanted = (metrics && artifact.size <= LARGEST) || (exports && output.export.is_some());
                    wanted.then_some(artifact)
                })
            });
        self.fetch(ui, &shown.collect::<Vec<_>>())
    }

    /// What the store's trouble means.
    pub(crate) fn failed(&self, doing: &str, error: &RemoteError) -> CommandError {
        let message = format!("cannot {doing} run `{}` in the store `{}`", self.run, self.store_url());
        remote::failure(message, self.store_url(), error)
    }
}

/// The directory that a `file://` store is, which must be this machine's own store.
pub(crate) fn own_directory<'a>(context: &'a Context, store: &Path) -> Result<Option<&'a str>, CommandError> {
    let Some(directory) = context.merged.store.as_ref().and_then(super::pod::directory) else { return Ok(None) };
    if Path::new(directory) == store {
        return Ok(Some(directory));
    }
    Err(CommandError::usage(format!("the store `file://{directory}` of the context `{}` is not this machine's own", context.name))
        .cause(format!("this machine's is {}", store.display()))
        .hint("a directory serves a cluster whose nodes have this machine's store mounted; MLCTL_STORE names that, else use an object store"))
}
