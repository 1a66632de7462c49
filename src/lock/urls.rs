//! Inputs that are downloads: their content goes into the store, what it was into the lock.

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::diag::{Diag, Source, Span};
use mlctl_exec::store::Store;

use super::LockedUrl;
use crate::environment::{Phase, Progress, Update};
use crate::error::CommandError;
use crate::platform::http;

impl LockedUrl {
    /// What the store knows the content by.
    pub(crate) fn artifact(&self) -> Artifact {
        Artifact { kind: ArtifactKind::File, digest: self.blake3, size: self.size }
    }
}

/// Makes sure that the content of a locked URL is in the store: downloads it if it is not, and refuses another content.
/// `span` is where the input stands in the spec.
pub(crate) fn fetch(
    store: &Store,
    spec: &Source,
    (url, span): (&str, Span),
    locked: &LockedUrl,
    progress: &Progress<'_>,
) -> Result<(), CommandError> {
    if store.has(&locked.artifact()).map_err(|error| failed(spec, url, span, &error.to_string()))? {
        return Ok(());
    }
    let found = download(store, url, progress).map_err(|reason| failed(spec, url, span, &reason))?;
    if found == *locked {
        return Ok(());
    }
    let reason = format!("its content has changed: SHA-256 {} is locked, {} was found", locked.sha256, found.sha256);
    let error = failed(spec, url, span, &reason);
    Err(error.hint("if that is meant: `mlctl lock --update`"))
}

/// Downloads `url` into the store.
pub(super) fn download(store: &Store, url: &str, progress: &Progress<'_>) -> Result<LockedUrl, String> {
    let scratch = tempfile::Builder::new()
        .prefix("download-")
        .tempdir_in(store.root().join("tmp"))
        .map_err(|error| format!("cannot make a temporary directory in the store: {error}"))?;
    let file = scratch.path().join("content");
    let tell = |done: u64, total: Option<u64>| {
        let line =
            total.map_or_else(|| megabytes(done), |total| format!("{} of {}", megabytes(done), megabytes(total)));
        progress(Update::Working { phase: Phase::Downloading, subject: url, line: &line });
    };
    let http::Downloaded { sha256, size } = http::download(url, &file, &tell)?;
    let artifact = store.put_output(&file).map_err(|error| format!("it cannot be stored: {error}"))?;
    Ok(LockedUrl { sha256, blake3: artifact.digest, size })
}

/// The error of a download, at the input that wants it.
pub(super) fn failed(spec: &Source, url: &str, span: Span, reason: &str) -> CommandError {
    let diag = Diag::error("download-failed", span, format!("cannot download {url}")).label(reason);
    CommandError::missing("").about(spec, vec![diag])
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
