//! Containers of runs that were killed before they could remove them.

use std::collections::HashMap;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use mlctl_exec::store::Store;

use super::body::{RUN_LABEL, STORE_LABEL};
use super::container;
use crate::error::CommandError;
use crate::platform::docker::{self, Daemon};

/// The containers that runs of this store left: those whose run nobody holds any more.
pub(crate) fn find(daemon: &Daemon, store: &Store) -> Result<Vec<String>, CommandError> {
    let ours = format!("{STORE_LABEL}={}", store.root().display());
    let filters = HashMap::from([("label", vec![ours])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let all = daemon
        .block_on(daemon.client().list_containers(Some(options)))
        .map_err(|error| docker::failure("cannot list containers", error))?;
    let is_dead = |container: &ContainerSummary| {
        let run = container.labels.as_ref().and_then(|labels| labels.get(RUN_LABEL));
        run.is_some_and(|run| !store.is_alive(run))
    };
    Ok(all.into_iter().filter(is_dead).filter_map(|container| container.id).collect())
}

/// Removes them. One that cannot be removed now is found by the next mlctl.
pub(crate) fn remove(daemon: &Daemon, containers: &[String]) {
    daemon.block_on(async {
        for container in containers {
            let _ = container::remove(daemon.client(), container).await;
        }
    });
}
