//! Whether a daemon sees this machine's files. Its address does not tell: a port of this machine may belong to a
//! virtual one, and a socket be forwarded from another.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use futures_util::TryStreamExt as _;

use super::{STORE_LABEL, failure};
use crate::error::CommandError;

/// Where the directory is in the container that is never started.
const AT: &str = "/mlctl";

/// Mounts a fresh directory of the store into a container that is created and not started, reads a file of it
/// through the daemon and has it write another. So the image needs no program that could do that.
pub(super) async fn shares_files(docker: &Docker, store: &Path, image: &str) -> Result<bool, CommandError> {
    let cannot = |error: io::Error| {
        CommandError::missing("cannot find out whether the Docker daemon shares this machine's files")
            .cause(format!("cannot write to {}: {error}", store.display()))
    };
    let fresh = tempfile::Builder::new().prefix("probe-").tempdir_in(store.join("tmp")).map_err(cannot)?;
    let nonce = fresh.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    std::fs::write(fresh.path().join("from-here"), &nonce).map_err(cannot)?;
    let explain = |error| failure("cannot find out whether the Docker daemon shares this machine's files", error);
    let container =
        match docker.create_container(None::<CreateContainerOptions>, body(store, fresh.path(), image)).await {
            Ok(created) => created.id,
            Err(error) if not_there(&error) => return Ok(false),
            Err(error) => return Err(explain(error)),
        };
    let shares = exchange(docker, &container, fresh.path(), &nonce).await;
    let gone =
        docker.remove_container(&container, Some(RemoveContainerOptionsBuilder::new().force(true).build())).await;
    let shares = shares.map_err(explain)?;
    gone.map_err(explain)?;
    Ok(shares)
}

fn body(store: &Path, directory: &Path, image: &str) -> ContainerCreateBody {
    let mount = Mount {
        typ: Some(MountType::BIND),
        source: Some(directory.to_string_lossy().into_owned()),
        target: Some(AT.to_owned()),
        ..Mount::default()
    };
    ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some(HashMap::from([(STORE_LABEL.to_owned(), store.to_string_lossy().into_owned())])),
        // An image may name no program, and a container must.
        cmd: Some(vec!["never-started".to_owned()]),
        host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    }
}

/// Whether the daemon refused because it has no such directory, or may not use it.
fn not_there(error: &Error) -> bool {
    let Error::DockerResponseServerError { message, .. } = error else { return false };
    let said = message.to_ascii_lowercase();
    ["bind source path does not exist", "not shared from the host", "mounts denied", "no such file or directory"]
        .iter()
        .any(|part| said.contains(part))
}

/// Whether the container has the file that was written here, and the file that is written there is here.
async fn exchange(docker: &Docker, container: &str, directory: &Path, nonce: &str) -> Result<bool, Error> {
    let from = DownloadFromContainerOptionsBuilder::new().path(&format!("{AT}/from-here")).build();
    let read: Vec<bytes::Bytes> = match docker.download_from_container(container, Some(from)).try_collect().await {
        Ok(read) => read,
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let tar = read.concat();
    if !tar.windows(nonce.len()).any(|bytes| bytes == nonce.as_bytes()) {
        return Ok(false);
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(nonce.len() as u64);
    header.set_mode(0o600);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "from-there", nonce.as_bytes())?;
    let archive = archive.into_inner()?;
    let to = UploadToContainerOptionsBuilder::new().path(AT).build();
    match docker.upload_to_container(container, Some(to), bollard::body_full(archive.into())).await {
        Ok(()) => Ok(directory.join("from-there").is_file()),
        // A mount that cannot be written to.
        Err(Error::DockerResponseServerError { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
