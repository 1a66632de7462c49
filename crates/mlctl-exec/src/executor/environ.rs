//! The environment variables of a step: the same everywhere, and nothing that is not declared.

use std::ffi::{OsStr, OsString};
use std::fs;

use mlctl_core::action::{StepFailure, Task};

use super::render::{self, Paths};
use super::{Place, failed};
use crate::bundle::Bundle;
use crate::family::NONCE;

/// What every machine has.
const STANDARD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How this machine reaches the network: passed on, unkeyed. They exist in lower case too.
const PROXIES: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"];

/// Whom programs trust there: files, by the names that OpenSSL, requests, curl and pip know.
const AUTHORITIES: [&str; 4] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"];

/// The same, a directory.
const AUTHORITIES_DIRECTORY: &str = "SSL_CERT_DIR";

/// The variables of this process that steps receive.
pub(crate) fn passed() -> Vec<(&'static str, OsString)> {
    let names = PROXIES.into_iter().chain(AUTHORITIES).chain([AUTHORITIES_DIRECTORY]);
    names.filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

/// Whether what the variable names are certificates.
pub(crate) fn is_of_certificates(name: &str) -> bool {
    name == AUTHORITIES_DIRECTORY || AUTHORITIES.contains(&name)
}

type Variables = Vec<(OsString, OsString)>;

/// All variables of the attempt; of a name that comes twice the last counts. Makes the directories and the params file
/// that they name.
pub(crate) fn build(
    task: &Task,
    place: &Place,
    bundle: &Bundle,
    paths: &Paths,
    passed: &[(&str, OsString)],
    nonce: &str,
) -> Result<Variables, StepFailure> {
    let mut env = Variables::with_capacity(32);
    let mut set = |name: &str, value: &OsStr| env.push((name.into(), value.to_owned()));
    for (name, value) in &place.environment.base {
        set(name, value.as_ref());
    }
    set("HOME", bundle.home.as_os_str());
    set("TMPDIR", bundle.temporary.as_os_str());
    set("LANG", "C.UTF-8".as_ref());
    set("TZ", "UTC".as_ref());
    set("PYTHONHASHSEED", "0".as_ref());
    for (name, value) in passed.iter().filter(|(name, _)| place.authorities.is_none() || !is_of_certificates(name)) {
        set(name, value);
    }
    if let Some(file) = &place.authorities {
        AUTHORITIES.iter().for_each(|name| set(name, file.as_os_str()));
    }
    set("PATH", &path(place));
    for (name, value) in &place.environment.env {
        set(name, value.as_ref());
    }
    for (name, value) in &task.settings {
        set(name, value.as_ref());
    }
    for (name, template) in &task.env {
        set(name, &render::template(template, paths));
    }
    for (name, text) in &paths.inputs {
        set(&variable("MLCTL_INPUT_", name), text);
    }
    for (name, path) in &paths.outputs {
        set(&variable("MLCTL_OUTPUT_", name), path.as_os_str());
    }
    set("MLCTL_ATTEMPT", task.attempt.to_string().as_ref());
    set("MLCTL_CPUS", task.resources.cpu_millis.unwrap_or(1000).div_ceil(1000).to_string().as_ref());
    set("MLCTL_GPUS", task.resources.gpu.unwrap_or(0).to_string().as_ref());
    let inherited = std::env::var(NONCE).map(|outer| outer + ",").unwrap_or_default();
    set(NONCE, (inherited + nonce).as_ref());
    for (name, value) in &place.secrets {
        set(name, value.as_ref());
    }
    add_directories(task, place, &mut env)?;
    if !task.params.is_empty() {
        let text = serde_json::to_vec(&task.params).unwrap_or_default();
        fs::write(&bundle.params, text).map_err(|error| failed("cannot write the params", &error))?;
        env.push(("MLCTL_PARAMS".into(), bundle.params.clone().into()));
    }
    Ok(env)
}

fn path(place: &Place) -> OsString {
    let mut path = OsString::new();
    for directory in &place.environment.path {
        path.push(directory);
        path.push(":");
    }
    path.push(place.environment.base.get("PATH").map_or(STANDARD_PATH, String::as_str));
    path
}

fn add_directories(task: &Task, place: &Place, env: &mut Variables) -> Result<(), StepFailure> {
    let caches = task.caches.iter().map(|name| (variable("MLCTL_CACHE_", name), place.caches.join(name)));
    let checkpoint = task.checkpoint.then(|| ("MLCTL_CHECKPOINT".to_owned(), place.checkpoint.clone()));
    for (name, directory) in caches.chain(checkpoint) {
        fs::create_dir_all(&directory)
            .map_err(|error| failed(&format!("cannot make `{}`", directory.display()), &error))?;
        env.push((name.into(), directory.into()));
    }
    Ok(())
}

fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", name.to_ascii_uppercase().replace('-', "_"))
}
