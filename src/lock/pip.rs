//! Resolving with pip: a dry run in an empty environment, whose report names the files it would install.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::resolve::{Question, failed};
use super::{Distribution, normalized};
use crate::environment::{Maker, Phase, pip};
use crate::error::CommandError;

/// pip's installation report, version 1: what we read of it.
#[derive(Deserialize)]
struct Report {
    install: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    download_info: DownloadInfo,
    is_direct: bool,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct DownloadInfo {
    archive_info: Option<ArchiveInfo>,
}

#[derive(Deserialize)]
struct ArchiveInfo {
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    /// What pip before 23.1 says instead: `sha256=...`.
    hash: Option<String>,
}

impl ArchiveInfo {
    fn sha256(self) -> Option<String> {
        let old = || Some(self.hash.as_deref()?.strip_prefix("sha256=")?.to_owned());
        self.hashes.get("sha256").cloned().or_else(old)
    }
}

pub(super) fn resolve(maker: &Maker<'_>, question: &Question<'_>) -> Result<Vec<Distribution>, CommandError> {
    let report = question.scratch.join("report.json");
    let mut command = pip::command(maker, question.python, Phase::Resolving)?;
    command.args(["install", "--progress-bar", "off", "--dry-run", "--ignore-installed", "--report"]).arg(&report);
    let (requirements, constraints) = question.arguments()?;
    command.arg("-r").arg(requirements).args(constraints).current_dir(question.project);
    let ended = maker.run(&mut command, None, Phase::Resolving)?;
    if !ended.status.success() {
        return Err(failed("pip", question, &ended.output));
    }
    let text = fs::read_to_string(&report)
        .map_err(|error| CommandError::missing("pip wrote no report of what it resolved").because(&error))?;
    distributions(&text)
}

pub(super) fn distributions(report: &str) -> Result<Vec<Distribution>, CommandError> {
    let report: Report = serde_json::from_str(report)
        .map_err(|error| CommandError::missing("pip's report is not what was expected").because(&error))?;
    report.install.into_iter().map(distribution).collect()
}

fn distribution(item: Item) -> Result<Distribution, CommandError> {
    let Metadata { name, version } = item.metadata;
    match item.download_info.archive_info.and_then(ArchiveInfo::sha256) {
        Some(sha256) if !item.is_direct => Ok(Distribution { name: normalized(&name), version, sha256: vec![sha256] }),
        _ => Err(CommandError::missing(format!("`{name}` {version} cannot be locked"))
            .cause("it comes from a URL or a path that a distribution names, not from an index")),
    }
}
