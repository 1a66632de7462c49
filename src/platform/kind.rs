//! Clusters that the `kind` command made: their nodes are containers of the Docker daemon.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::ListContainersOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::AsyncWriteExt as _;

use super::docker::{Daemon, failure};
use crate::error::CommandError;

pub(crate) mod install;
pub(crate) mod made;

/// The label of the containers that are nodes: the cluster's name.
const CLUSTER: &str = "io.x-k8s.kind.cluster";
/// What such a container is.
const ROLE: &str = "io.x-k8s.kind.role";
/// Not a node, but what stands before several control planes.
const BALANCER: &str = "external-load-balancer";
/// What the names of kind's kube-contexts begin with.
const CONTEXT: &str = "kind-";

/// The cluster that a kube-context is of, if kind made it.
pub(crate) fn cluster_of(kube_context: &str) -> Option<&str> {
    kube_context.strip_prefix(CONTEXT).filter(|name| !name.is_empty())
}

/// The nodes of a cluster.
pub(crate) struct Cluster<'a> {
    daemon: &'a Daemon,
    /// The names of their containers.
    pub(crate) nodes: Vec<String>,
}

/// How a program in a node ended.
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: i64,
    /// What it wrote to stdout.
    pub(crate) out: Vec<u8>,
    /// What it wrote to stderr.
    pub(crate) err: Vec<u8>,
}

impl<'a> Cluster<'a> {
    /// The cluster of that name: each of its nodes must be up.
    pub(crate) async fn find(daemon: &'a Daemon, name: &str) -> Result<Self, CommandError> {
        let filters = HashMap::from([("label", vec![format!("{CLUSTER}={name}")])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = daemon.client().list_containers(Some(options)).await;
        let found = found.map_err(|error| failure("cannot look for the nodes of the cluster", error))?;
        let nodes = found.into_iter().filter(|container| {
            container.labels.as_ref().and_then(|labels| labels.get(ROLE)).is_none_or(|role| role != BALANCER)
        });
        let mut names = Vec::new();
        for node in nodes {
            let node_name = node.names.into_iter().flatten().next().unwrap_or_default();
            let node_name = node_name.trim_start_matches('/').to_owned();
            if node.state.is_some_and(|state| state.to_string() != "running") {
                return Err(CommandError::missing(format!(
                    "the node `{node_name}` of the kind cluster `{name}` is down"
                ))
                .hint(format!("`docker start {node_name}` starts it")));
            }
            names.push(node_name);
        }
        if names.is_empty() {
            return Err(CommandError::missing(format!("there is no kind cluster `{name}`"))
                .cause(format!("the Docker daemon at {daemon} has no node of it"))
                .hint("`mlctl context create kind` makes one; `kind get clusters` lists those that there are"));
        }
        names.sort_unstable();
        Ok(Self { daemon, nodes: names })
    }

    /// A node that does not have a directory of this machine at the same place.
    pub(crate) async fn without(&self, directory: &Path) -> Result<Option<&str>, CommandError> {
        let here = directory.to_str();
        for node in &self.nodes {
            let found = self.daemon.client().inspect_container(node, None).await;
            let found = found.map_err(|error| failure(&format!("cannot look at the node `{node}`"), error))?;
            let mut mounts = found.mounts.into_iter().flatten();
            if !mounts.any(|mount| mount.source.as_deref() == here && mount.destination.as_deref() == here) {
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    /// Runs a program in a node, with what `input` gives as its stdin. That the program does not want all of it is no error:
    /// how it ended tells more. An error of `input` itself is one.
    pub(crate) async fn exec(
        &self,
        node: &str,
        command: &[&str],
        input: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Ended, CommandError> {
        let client = self.daemon.client();
        let cannot = |error| failure(&format!("cannot run `{}` in the node `{node}`", command[0]), error);
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
            ..ExecConfig::default()
        };
        let id = client.create_exec(node, config).await.map_err(cannot)?.id;
        let started = client.start_exec(&id, None).await.map_err(cannot)?;
        let StartExecResults::Attached { mut output, input: mut stdin } = started else {
            return Err(CommandError::missing(format!("the daemon does not attach to programs in the node `{node}`")));
        };
        let feed = async {
            let mut input = std::pin::pin!(input);
            while let Some(chunk) = input.next().await {
                let chunk = chunk?;
                if stdin.write_all(&chunk).await.is_err() {
                    return Ok(());
                }
            }
            // Nobody may be there to see the end of it.
            let _ = stdin.shutdown().await;
            Ok(())
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = async {
            while let Some(message) = output.next().await {
                match message.map_err(cannot)? {
                    LogOutput::StdErr { message } => err.extend_from_slice(&message),
                    LogOutput::StdOut { message } | LogOutput::Console { message } => out.extend_from_slice(&message),
                    LogOutput::StdIn { .. } => {}
                }
            }
            Ok::<(), CommandError>(())
        };
        let mut feed = std::pin::pin!(feed);
        let mut read = std::pin::pin!(read);
        tokio::select! {
            fed = &mut feed => {
                fed.map_err(|error: io::Error| {
                    CommandError::missing(format!("cannot send an image to the node `{node}`")).because(&error)
                })?;
                read.await?;
            }
            ended = &mut read => ended?,
        }
        let code = client.inspect_exec(&id).await.map_err(cannot)?.exit_code.unwrap_or(-1);
        Ok(Ended { code, out, err })
    }
}
