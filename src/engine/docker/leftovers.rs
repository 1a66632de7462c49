//! Containers of runs that were killed before they could remove them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use mlctl_exec::store::Store;

use super::body::RUN_LABEL;
use super::container;
use crate::error::CommandError;
use crate::platform::docker::{self, Daemon, STORE_LABEL};

/// No container of no run is needed for longer.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

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
        run.map_or_else(|| is_old(container), |run| !store.is_alive(run))
    };
    Ok(all.into_iter().filter(is_dead).filter_map(|container| container.id).collect())
}

/// Whether a container of no run was forgotten: one that tries whether files are shared, or resolves an environment.
fn is_old(container: &ContainerSummary) -> bool {
    let created = container.created.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    created.is_some_and(|created| SystemTime::now() > UNIX_EPOCH + created + FORGOTTEN)
}

/// Removes them. One that cannot be removed now is found by the next mlctl.
pub(crate) fn remove(daemon: &Daemon, containers: &[String]) {
    daemon.block_on(async {
        for container in containers {
            let _ = container::remove(daemon.client(), container).await;
        }
    });
}
