//! Resolving with uv, which writes a standard lock (PEP 751) with every file of each distribution.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::resolve::{Question, failed};
use super::{Distribution, normalized};
use crate::environment::{Maker, Phase};
use crate::error::CommandError;
use crate::platform::python::Version;

/// A `pylock.toml`: what we read of it.
#[derive(Deserialize)]
struct Pylock {
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Option<String>,
    #[serde(default)]
    wheels: Vec<File>,
    sdist: Option<File>,
}

#[derive(Deserialize)]
struct File {
    name: Option<String>,
    url: Option<String>,
    path: Option<String>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

pub(super) fn resolve(
    maker: &Maker<'_>,
    uv: &Path,
    question: &Question<'_>,
) -> Result<Vec<Distribution>, CommandError> {
    let pylock = question.scratch.join("pylock.toml");
    let mut command = maker.uv(uv);
    command.args(["pip", "compile", "--quiet", "--format", "pylock.toml", "--output-file"]).arg(&pylock);
    let (requirements, constraints) = question.arguments()?;
    command.arg("--python").arg(&question.python.path).arg(requirements).args(constraints);
    command.current_dir(question.project);
    let ended = maker.run(&mut command, None, Phase::Resolving)?;
    if !ended.status.success() {
        return Err(failed("uv", question, &ended.output));
    }
    let text = fs::read_to_string(&pylock)
        .map_err(|error| CommandError::missing("uv wrote no lock of what it resolved").because(&error))?;
    distributions(&text, question.python.version)
}

fn distributions(pylock: &str, python: Version) -> Result<Vec<Distribution>, CommandError> {
    let pylock: Pylock = toml::from_str(pylock)
        .map_err(|error| CommandError::missing("uv's lock is not what was expected").because(&error))?;
    pylock.packages.into_iter().map(|package| distribution(package, python)).collect()
}

/// Keeps the hashes of the wheels that this machine may install, or of the source distribution where there are none.
fn distribution(package: Package, python: Version) -> Result<Distribution, CommandError> {
    let sha256 = |file: &File| file.hashes.get("sha256").cloned();
    let usable = |file: &&File| file.wheel().is_some_and(|name| may_install(&name, python));
    let mut hashes: Vec<String> = package.wheels.iter().filter(usable).filter_map(sha256).collect();
    if hashes.is_empty() {
        hashes.extend(package.sdist.as_ref().and_then(sha256));
    }
    match package.version {
        Some(version) if !hashes.is_empty() => {
            Ok(Distribution { name: normalized(&package.name), version, sha256: hashes })
        }
        version => Err(CommandError::missing(format!(
            "`{}` {} cannot be locked",
            package.name,
            version.unwrap_or_default()
        ))
        .cause("it has no file with a SHA-256 in an index: it comes from a URL or a path that a distribution names")),
    }
}

impl File {
    /// The file's name.
    fn wheel(&self) -> Option<String> {
        let location = self.name.as_deref().or(self.url.as_deref()).or(self.path.as_deref())?;
        location.rsplit('/').next().map(str::to_owned)
    }
}

/// Whether a wheel may be meant for this platform and `python`. Not the whole of PEP 425 (uv chooses when it installs):
/// it only keeps the other platforms' hashes out of the lock.
fn may_install(wheel: &str, python: Version) -> bool {
    let mut tags = wheel.trim_end_matches(".whl").rsplitn(4, '-');
    let (Some(platforms), Some(abis), Some(pythons)) = (tags.next(), tags.next(), tags.next()) else { return false };
    let current = format!("cp{}{}", python.major, python.minor);
    let abi_ok = abis.split('.').any(|abi| abi == "none" || abi == "abi3" || abi == current);
    let exact = !abis.split('.').any(|abi| abi == "none" || abi == "abi3");
    let python_ok = pythons.split('.').any(|tag| {
        let Some((kind, version)) = tag.split_at_checked(2).filter(|(kind, _)| matches!(*kind, "py" | "cp")) else {
            return false;
        };
        let Some((major, minor)) = version.split_at_checked(1) else { return false };
        major.parse() == Ok(python.major)
            && match minor.parse::<u32>() {
                Ok(minor) if exact && kind == "cp" => minor == python.minor,
                Ok(minor) => minor <= python.minor,
                Err(_) => minor.is_empty(),
            }
    });
    abi_ok && python_ok && platforms.split('.').any(platform_matches)
}

fn platform_matches(tag: &str) -> bool {
    let arch = std::env::consts::ARCH;
    match std::env::consts::OS {
        _ if tag == "any" => true,
        "macos" => {
            let arch = if arch == "aarch64" { "arm64" } else { arch };
            tag.starts_with("macosx") && (tag.ends_with(arch) || tag.ends_with("universal2"))
        }
        "linux" => tag.contains("linux") && tag.ends_with(arch),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_platforms_and_pythons_are_left_out() {
        let python = Version { major: 3, minor: 11, patch: 7 };
        let linux = std::env::consts::ARCH;
        for (wheel, expected) in [
            ("six-1.17.0-py2.py3-none-any.whl".to_owned(), true),
            (format!("numpy-2.4.6-cp311-cp311-manylinux_2_27_{linux}.manylinux_2_28_{linux}.whl"), true),
            (format!("numpy-2.4.6-cp312-cp312-manylinux_2_28_{linux}.whl"), false),
            (format!("numpy-2.4.6-cp311-cp311t-manylinux_2_28_{linux}.whl"), false),
            ("numpy-2.4.6-cp311-cp311-win_amd64.whl".to_owned(), false),
            ("numpy-2.4.6-cp311-cp311-manylinux_2_28_riscv64.whl".to_owned(), false),
            (format!("cryptography-44.0.0-cp39-abi3-manylinux_2_28_{linux}.whl"), true),
            (format!("future-1.0-cp313-abi3-manylinux_2_28_{linux}.whl"), false),
            (format!("uv-0.13.9-py3-none-manylinux_2_17_{linux}.whl"), true),
            (format!("built-1.0-1build-cp311-cp311-linux_{linux}.whl"), true),
            ("odd.whl".to_owned(), false),
        ] {
            assert_eq!(may_install(&wheel, python), expected, "{wheel}");
        }
    }
}
