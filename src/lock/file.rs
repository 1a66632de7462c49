//! Reading and writing the file itself.
//!
//! Written by hand rather than through serde, because people read it in diffs: one distribution, one line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use mlctl_core::diag::{Diag, Source, Span};
use serde::Deserialize;

use super::{FILE_NAME, Lock, LockedEnvironment, LockedImage, LockedUrl};
use crate::error::CommandError;
use crate::record::make_home;

/// The version of the format. A newer one is refused: an older mlctl would drop what it does not know.
const VERSION: i64 = 2;
/// The last one without images. Written where there are none, so that older ones of a team can read it.
const WITHOUT_IMAGES: i64 = 1;

const HEADER: &str = "# Written by mlctl: what the environments, images and downloads of mlctl.toml are, exactly.\n\
                      # Commit it. `mlctl lock --update` resolves anew.\n";

/// The one field that every version of the format has.
#[derive(Deserialize)]
struct Header {
    version: Option<toml::Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    environments: BTreeMap<String, BTreeMap<String, LockedEnvironment>>,
    #[serde(default)]
    images: BTreeMap<String, BTreeMap<String, LockedImage>>,
    #[serde(default)]
    urls: BTreeMap<String, LockedUrl>,
}

impl Lock {
    /// Reads the lock of a project; an absent file is an empty lock.
    pub(crate) fn read(project: &Path) -> Result<Self, CommandError> {
        match fs::read_to_string(project.join(FILE_NAME)) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(CommandError::missing(format!("cannot read {FILE_NAME}")).because(&error)),
        }
    }

    /// Reads the text of a lock.
    pub(crate) fn parse(text: &str) -> Result<Self, CommandError> {
        let invalid = |error: toml::de::Error| {
            let span = error.span().map(Span::from).unwrap_or_default();
            let conflict =
                ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|mark| text.lines().any(|line| line.starts_with(mark)));
            let help = if conflict {
                "it holds the marks of a merge conflict: take either side, then run `mlctl lock`"
            } else {
                "restore it from version control, or delete it and run `mlctl lock`"
            };
            refuse(text, Diag::error("lock-invalid", span, error.message()).help(help))
        };
        let header: Header = toml::from_str(text).map_err(invalid)?;
        match header.version {
            Some(version) if (WITHOUT_IMAGES..=VERSION).contains(version.get_ref()) => {}
            Some(version) => {
                let message =
                    format!("this lock has version {}; this mlctl knows versions up to {VERSION}", version.get_ref());
                let diag = Diag::error("lock-version", version.span().into(), message);
                return Err(refuse(text, diag.help("it was written by a newer mlctl: upgrade this one")));
            }
            None => {
                let diag = Diag::error("lock-invalid", Span::default(), "a lock must start with its version");
                return Err(refuse(text, diag.help("delete the file and run `mlctl lock`")));
            }
        }
        let document: Document = toml::from_str(text).map_err(invalid)?;
        Ok(Self { environments: document.environments, images: document.images, urls: document.urls })
    }

    /// Writes the lock of a project: readers see the old file or the new one, never a part. The new one is made in
    /// `.mlctl/`, where it can be taken for no source.
    pub(crate) fn write(&self, project: &Path) -> Result<(), CommandError> {
        let temporary = project.join(".mlctl").join(format!("{FILE_NAME}.{}", std::process::id()));
        let written =
            fs::write(&temporary, self.to_text()).and_then(|()| fs::rename(&temporary, project.join(FILE_NAME)));
        written.map_err(|error| {
            // Whatever went wrong, nothing is left beside the old file.
            let _ = fs::remove_file(&temporary);
            CommandError::missing(format!("cannot write {FILE_NAME}")).because(&error)
        })
    }

    /// The text of the file.
    pub(crate) fn to_text(&self) -> String {
        let version = if self.images.is_empty() { WITHOUT_IMAGES } else { VERSION };
        let mut text = format!("{HEADER}version = {version}\n");
        for (name, platforms) in &self.environments {
            for (platform, locked) in platforms {
                let _ = write!(text, "\n[environments.{}.{}]\n", key(name), key(platform));
                environment(&mut text, locked);
            }
        }
        for (name, platforms) in &self.images {
            for (platform, locked) in platforms {
                let _ = write!(text, "\n[images.{}.{}]\n", key(name), key(platform));
                let _ = writeln!(text, "digest = {}", string(&locked.digest));
                if locked.local {
                    text.push_str("local = true\n");
                }
            }
        }
        for (url, locked) in &self.urls {
            let _ = write!(
                text,
                "\n[urls.{}]\nsha256 = {}\nblake3 = \"{}\"\nsize = {}\n",
                key(url),
                string(&locked.sha256),
                locked.blake3,
                locked.size
            );
        }
        text
    }
}

fn environment(text: &mut String, locked: &LockedEnvironment) {
    let _ = write!(text, "inputs = \"{}\"\npython = {}\n", locked.inputs, string(&locked.python));
    if !locked.options.is_empty() {
        let _ = writeln!(text, "options = [{}]", strings(&locked.options));
    }
    if locked.distributions.is_empty() {
        return;
    }
    text.push_str("distributions = [\n");
    for distribution in &locked.distributions {
        let _ = writeln!(
            text,
            "    {{ name = {}, version = {}, sha256 = [{}] }},",
            string(&distribution.name),
            string(&distribution.version),
            strings(&distribution.sha256)
        );
    }
    text.push_str("]\n");
}

fn strings(texts: &[String]) -> String {
    texts.iter().map(|text| string(text)).collect::<Vec<_>>().join(", ")
}

fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn key(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    // A TOML basic string escapes what a JSON string does.
    if bare { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

fn refuse(text: &str, diag: Diag) -> CommandError {
    CommandError::diags(Source { name: FILE_NAME.to_owned(), text: text.to_owned() }, vec![diag])
}

/// Keeps writers of one lock apart. The lock file itself is replaced, so it cannot carry the flock.
pub(super) fn exclusively(project: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().create(true).append(true).open(make_home(project)?.join("locking"))?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests;
