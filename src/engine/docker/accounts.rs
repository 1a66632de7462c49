//! The user of steps by name: `/etc/passwd` and `/etc/group` of the image with a line more, so that programs that ask
//! who they are get an answer. They are made once for an image and kept in the store.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, DownloadFromContainerOptionsBuilder};
use futures_util::TryStreamExt as _;

use super::container;
use crate::error::CommandError;
use crate::platform::docker::failure;
use crate::spare;

/// The store's directory for them.
const DIRECTORY: &str = "accounts";
/// What the user and the group are called where the image has no name for them.
const NAME: &str = "mlctl";
/// Of `/etc`.
const FILES: [&str; 2] = ["passwd", "group"];

/// The files that are to stand in containers of an image, and where: none that already has what is needed. They are
/// put into `run`, which the store keeps as long as the run is alive.
pub(super) async fn files(
    docker: &Docker,
    image: &str,
    (store, run): (&Path, &Path),
    (user, group): (u32, u32),
) -> Result<Vec<(PathBuf, PathBuf)>, CommandError> {
    let cannot = |error: std::io::Error| CommandError::missing("cannot write to the store").because(&error);
    let all = store.join(DIRECTORY);
    let name = format!("{}-{user}-{group}", image.trim_start_matches("sha256:"));
    let directory = all.join(&name);
    if directory.is_dir() {
        spare::used(&directory);
    } else {
        let [users, groups] =
            read(docker, image).await.map_err(|error| failure("cannot read the users of the image", error))?;
        std::fs::create_dir_all(&all).map_err(cannot)?;
        let fresh = tempfile::Builder::new().prefix(".new-").tempdir_in(&all).map_err(cannot)?;
        // Of the user who runs mlctl alone is what tempfile makes; another daemon's user has to read it.
        let texts = [("passwd", with_user(users, user, group)), ("group", with_group(groups, group))];
        for (name, text) in texts {
            text.map(|text| std::fs::write(fresh.path().join(name), text)).transpose().map_err(cannot)?;
        }
        // Somebody else may have been faster, with the same.
        let _ = std::fs::rename(fresh.path(), &directory);
    }
    let mut files = Vec::new();
    for file in FILES {
        let own = run.join(format!("{file}-{name}"));
        match std::fs::copy(directory.join(file), &own) {
            Ok(_) => files.push((own, Path::new("/etc").join(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(error)),
        }
    }
    Ok(files)
}

/// Removes those that no run used for so long.
pub(crate) fn collect(store: &Path, unused_for: Duration) -> std::io::Result<()> {
    spare::collect(&store.join(DIRECTORY), unused_for)
}

/// The image's two files; empty where it has none.
async fn read(docker: &Docker, image: &str) -> Result<[Vec<u8>; 2], Error> {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        // An image may name no program, and a container must.
        cmd: Some(vec!["never-started".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let container = docker.create_container(None::<CreateContainerOptions>, body).await?.id;
    let files =
        async { Ok([file(docker, &container, "/etc/passwd").await?, file(docker, &container, "/etc/group").await?]) };
    let files = files.await;
    container::remove(docker, &container).await?;
    files
}

async fn file(docker: &Docker, container: &str, path: &str) -> Result<Vec<u8>, Error> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let archive: Vec<bytes::Bytes> = match docker.download_from_container(container, Some(options)).try_collect().await
    {
        Ok(archive) => archive,
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let archive = archive.concat();
    let mut text = Vec::new();
    for entry in tar::Archive::new(archive.as_slice()).entries()? {
        entry?.read_to_end(&mut text)?;
    }
    Ok(text)
}

/// `None`: the user has a name.
fn with_user(passwd: Vec<u8>, user: u32, group: u32) -> Option<Vec<u8>> {
    // HOME says otherwise; programs that do not ask it can at least write there.
    with(passwd, user, &format!("{NAME}:x:{user}:{group}::/tmp:/bin/sh\n"))
}

/// `None`: the group has a name.
fn with_group(groups: Vec<u8>, group: u32) -> Option<Vec<u8>> {
    with(groups, group, &format!("{NAME}:x:{group}:\n"))
}

/// `table` with `line`, unless it has one for `id`, which stands in the third field.
fn with(mut table: Vec<u8>, id: u32, line: &str) -> Option<Vec<u8>> {
    let is_it = |line: &[u8]| line.split(|byte| *byte == b':').nth(2) == Some(id.to_string().as_bytes());
    if table.split(|byte| *byte == b'\n').any(is_it) {
        return None;
    }
    if table.last().is_some_and(|last| *last != b'\n') {
        table.push(b'\n');
    }
    table.extend_from_slice(line.as_bytes());
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_name_keeps_it_and_others_get_one() {
        let debian = b"root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/sh".to_vec();
        assert_eq!(with_user(debian.clone(), 0, 0), None);
        assert_eq!(with_user(debian.clone(), 1000, 100), None);
        let text = String::from_utf8(with_user(debian, 100, 1000).unwrap()).unwrap();
        assert!(text.ends_with(":/bin/sh\nmlctl:x:100:1000::/tmp:/bin/sh\n"), "{text}");
        assert_eq!(with_group(Vec::new(), 5).unwrap(), b"mlctl:x:5:\n");
    }
}
