//! Resolving in a container of the base image: for a platform or a Python that this machine does not have.
//!
//! pip's dry run there sees what the built image will see. Files go in and its report comes out through the daemon, so
//! it may be anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
    UploadToContainerOptionsBuilder,
};
use futures_util::TryStreamExt as _;

use super::requirements::{Described, Inputs};
use super::resolve::unresolved;
use super::{Distribution, LockedImage, pip};
use crate::environment::{Maker, Phase};
use crate::error::CommandError;
use crate::image::registry;
use crate::platform::docker::{Daemon, STORE_LABEL, failure};

/// Where the files are in the container.
const PLACE: &str = "/mlctl";

/// Arguments are pip's. A certificate authority is trusted besides those of the image. How pip ended is said last: the
/// container is gone when it ends, so that none is left by who is killed.
const SCRIPT: &str = "if [ -f /mlctl/ca.pem ]; then \
                      (cat /etc/ssl/certs/ca-certificates.crt 2>/dev/null; echo; cat /mlctl/ca.pem) > /mlctl/all.pem; \
                      export PIP_CERT=/mlctl/all.pem; fi; python3 -m pip \"$@\"; echo \"mlctl: $?\" >&2";

/// Of this machine's configuration, what says where distributions come from.
const PASSED: [&str; 14] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_PRE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) environment: &'a Described<'a>,
    pub(super) inputs: &'a Inputs,
    /// The base image: its name, and which one that is.
    pub(super) image: (&'a str, &'a LockedImage),
    /// Certificate authorities to trust besides those of the image.
    pub(super) authorities: Option<&'a Path>,
}

/// What a container printed.
#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

pub(super) fn resolve(
    daemon: &Daemon,
    question: &Question<'_>,
    maker: &Maker<'_>,
) -> Result<Vec<Distribution>, CommandError> {
    let archive = archive(question, maker.project)
        .map_err(|error| CommandError::missing("cannot read what the container is to be given").because(&error))?;
    let name = question.environment.name;
    let said = daemon.block_on(async {
        let reference = question.image.1.reference(question.image.0);
        let absent =
            |error: &DockerError| matches!(error, DockerError::DockerResponseServerError { status_code: 404, .. });
        if daemon.client().inspect_image(&reference).await.as_ref().is_err_and(absent) {
            registry::pull(daemon, &reference, None, &|line| maker.tell(Phase::Downloading, line)).await?;
        }
        maker.tell(Phase::Resolving, "in a container");
        let what = format!("cannot resolve the environment `{name}` in a container of `{}`", question.image.0);
        let container =
            create(daemon, &reference, question, maker.store).await.map_err(|error| failure(&what, error))?;
        let said = run(daemon, &container, archive).await;
        if said.is_err() {
            let forced = RemoveContainerOptionsBuilder::default().force(true).build();
            // One that cannot be removed only takes space.
            let _ = daemon.client().remove_container(&container, Some(forced)).await;
        }
        said.map_err(|error| failure(&what, error))
    })?;
    let (stdout, stderr) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    let (stderr, code) = stderr.trim_end().rsplit_once("mlctl: ").unwrap_or((&stderr, "killed"));
    if code == "0" {
        return pip::distributions(&stdout);
    }
    let said = format!("{stderr}{stdout}");
    let file = format!("{PLACE}/requirements.txt");
    Err(unresolved("pip", question.environment, &said, (&file, &lines(question.inputs))))
}

async fn create(daemon: &Daemon, image: &str, question: &Question<'_>, store: &Path) -> Result<String, DockerError> {
    let requirements = format!("{PLACE}/requirements.txt");
    let mut command = vec!["-c", SCRIPT, "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet"];
    command.extend(["--progress-bar", "off", "--dry-run", "--ignore-installed", "--report", "-", "-r", &requirements]);
    let constraints = format!("{PLACE}/constraints.txt");
    if !question.inputs.constraints.is_empty() {
        command.extend(["-c", &constraints]);
    }
    let passed = PASSED.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["/bin/sh".to_owned()]),
        cmd: Some(command.into_iter().map(str::to_owned).collect()),
        env: Some(passed.chain(["PIP_ROOT_USER_ACTION=ignore".to_owned()]).collect()),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        host_config: Some(HostConfig { auto_remove: Some(true), ..HostConfig::default() }),
        labels: Some([(STORE_LABEL.to_owned(), store.to_string_lossy().into_owned())].into()),
        ..ContainerCreateBody::default()
    };
    Ok(daemon.client().create_container(None::<CreateContainerOptions>, body).await?.id)
}

async fn run(daemon: &Daemon, container: &str, archive: Vec<u8>) -> Result<Said, DockerError> {
    let docker = daemon.client();
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    docker.upload_to_container(container, Some(options), bollard::body_full(archive.into())).await?;
    // Before it starts: what it prints is not missed.
    let options = AttachContainerOptionsBuilder::default().stdout(true).stderr(true).stream(true).build();
    let mut attached = docker.attach_container(container, Some(options)).await?;
    docker.start_container(container, None::<StartContainerOptions>).await?;
    let mut said = Said::default();
    while let Some(output) = attached.output.try_next().await? {
        match output {
            LogOutput::StdErr { message } => said.stderr.extend(message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => said.stdout.extend(message),
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok(said)
}

/// What the container is given, below [`PLACE`].
fn archive(question: &Question<'_>, project: &Path) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let place = PLACE.trim_start_matches('/');
    let mut files = BTreeMap::from([("requirements.txt", lines(question.inputs).join("\n").into_bytes())]);
    files.insert("constraints.txt", question.inputs.constraints.join("\n").into_bytes());
    if let Some(path) = question.authorities {
        files.insert("ca.pem", std::fs::read(path)?);
    }
    for (name, mut bytes) in files {
        bytes.push(b'\n');
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("{place}/{name}"), bytes.as_slice())?;
    }
    for (number, directory) in links(question.inputs) {
        archive.append_dir_all(format!("{place}/links/{number}"), project.join(directory))?;
    }
    archive.into_inner()
}

/// The requirements, with options as they hold in the container.
fn lines(inputs: &Inputs) -> Vec<String> {
    let links: BTreeMap<&str, usize> = links(inputs).map(|(number, place)| (place, number)).collect();
    let options = inputs.options.iter().map(|option| match local(option).and_then(|place| links.get(place)) {
        Some(number) => format!("--find-links {PLACE}/links/{number}"),
        None => option.clone(),
    });
    options.chain(inputs.requirements.iter().cloned()).collect()
}

/// The directories of this machine that options name.
fn links(inputs: &Inputs) -> impl Iterator<Item = (usize, &str)> {
    inputs.options.iter().filter_map(|option| local(option)).enumerate()
}

fn local(option: &str) -> Option<&str> {
    option.strip_prefix("--find-links ").filter(|place| !place.contains("://"))
}
