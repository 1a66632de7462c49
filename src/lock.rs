//! `mlctl.lock`: what the environments and downloads of a spec are, exactly. Committed; written by mlctl only.
//!
//! An entry keeps the digest of the inputs it was resolved from, so that a changed requirements file is noticed without
//! resolving again. Entries are per platform: distributions for macOS stand beside those for Linux.

use std::collections::BTreeMap;
use std::env;
use std::fmt;

use mlctl_core::digest::Digest;
use serde::Deserialize;

mod container;
mod difference;
mod ensure;
mod failure;
mod file;
mod images;
mod pip;
pub(crate) mod requirements;
mod resolve;
mod urls;
mod uv;
mod wanted;

pub(crate) use difference::Difference;
pub(crate) use ensure::{Mode, Project, ensure, requirements_files};
pub(crate) use urls::fetch;
pub(crate) use wanted::Wanted;

/// The file's name, beside `mlctl.toml`.
pub(crate) const FILE_NAME: &str = "mlctl.lock";

/// A whole `mlctl.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Lock {
    /// By environment, then by platform ([`platform`]).
    pub(crate) environments: BTreeMap<String, BTreeMap<String, LockedEnvironment>>,
    /// By name, as the spec or the context has it, then by platform.
    pub(crate) images: BTreeMap<String, BTreeMap<String, LockedImage>>,
    /// By URL.
    pub(crate) urls: BTreeMap<String, LockedUrl>,
}

/// What a described environment holds on one platform.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedEnvironment {
    /// Of what it was resolved from ([`requirements::Inputs::digest`]).
    pub(crate) inputs: Digest,
    /// The Python it was resolved for: as declared, or the machine's own when the spec leaves it open.
    pub(crate) python: String,
    /// Options of the requirements files that installing needs as well.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    /// Sorted by name.
    #[serde(default)]
    pub(crate) distributions: Vec<Distribution>,
}

impl LockedEnvironment {
    /// The requirements file that installs exactly this, with what `option` makes of each option; `None` leaves it out.
    pub(crate) fn requirements(&self, option: impl Fn(&str) -> Option<String>) -> String {
        let mut text = String::new();
        for option in self.options.iter().filter_map(|text| option(text)) {
            text += &option;
            text.push('\n');
        }
        for Distribution { name, version, sha256 } in &self.distributions {
            text += &format!("{name}=={version}");
            sha256.iter().for_each(|hash| text += &format!(" --hash=sha256:{hash}"));
            text.push('\n');
        }
        text
    }
}

/// A locked distribution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Distribution {
    /// Its normalized name: lower case, words joined by `-`.
    pub(crate) name: String,
    /// Its exact version.
    pub(crate) version: String,
    /// SHA-256 of the files that may be installed, sorted: one is installed.
    pub(crate) sha256: Vec<String>,
}

/// The image that a name stood for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedImage {
    /// `sha256:...`: what a registry has under that name.
    pub(crate) digest: String,
    /// It is in no registry: the digest is the image's id, and machines that have no such image cannot get it.
    #[serde(default)]
    pub(crate) local: bool,
}

/// What was found at a URL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedUrl {
    /// SHA-256 of its content, in hexadecimal: what a spec may state.
    pub(crate) sha256: String,
    /// BLAKE3 of its content: what the store knows it by.
    pub(crate) blake3: Digest,
    /// Bytes.
    pub(crate) size: u64,
}

impl Lock {
    /// What `environment` holds on a platform.
    pub(crate) fn environment(&self, environment: &str, platform: &str) -> Option<&LockedEnvironment> {
        self.environments.get(environment)?.get(platform)
    }

    /// What the name of an image stands for on a platform.
    pub(crate) fn image(&self, name: &str, platform: &str) -> Option<&LockedImage> {
        self.images.get(name)?.get(platform)
    }
}

impl fmt::Display for LockedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digest)?;
        if self.local { f.write_str(" (of this machine alone)") } else { Ok(()) }
    }
}

impl LockedImage {
    /// Exactly this image, as Docker names it: `name` is what was locked.
    pub(crate) fn reference(&self, name: &str) -> String {
        if self.local {
            return self.digest.clone();
        }
        format!("{}@{}", &name[..repository_end(name)], self.digest)
    }
}

/// Where the repository in the name of an image ends, and its tag or digest begins.
fn repository_end(image: &str) -> usize {
    let end = image.find('@').unwrap_or(image.len());
    // A colon before the last slash belongs to the registry's port.
    let path = image[..end].rfind('/').map_or(0, |slash| slash + 1);
    image[path..end].find(':').map_or(end, |colon| path + colon)
}

/// This machine's platform, as entries name it: `linux-x86_64`.
pub(crate) fn platform() -> String {
    format!("{}-{}", env::consts::OS, env::consts::ARCH)
}

/// `Foo.Bar_baz` as `foo-bar-baz`: the one spelling of a distribution's name (PEP 503).
fn normalized(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(&part.to_ascii_lowercase());
    }
    normal
}
