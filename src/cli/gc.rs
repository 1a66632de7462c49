//! `mlctl gc`

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use mlctl_exec::gc::{GcReport, Keep};
use mlctl_exec::store::Store;
use serde_json::json;

use crate::engine::docker::{accounts, leftovers};
use crate::environment::{self, Collected};
use crate::error::CommandError;
use crate::image;
use crate::platform::{self, docker::Daemon};
use crate::record::{Run, Runs};
use crate::session::{Session, open_store};
use crate::ui::{count, size};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The arguments of `mlctl gc`.
#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Keep the latest N runs of this project, and their results.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Keep what any project used in the last N days; environments and images for one day at least.
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Removes old runs, and from the store what nothing refers to any more. Safe beside runs.
pub(super) fn gc(session: &Session, args: &GcArgs) -> Result<ExitCode, CommandError> {
    // Where there is no project, there is a store all the same.
    let runs = session.root().ok().map(|root| Runs::open(&root)).transpose()?;
    let (kept, old) = runs.as_ref().map(|runs| divide(runs, args.keep as usize)).unwrap_or_default();
    let mut keep = Keep { unused_for: DAY * args.days, ..Keep::default() };
    for run in &kept {
        for instance in run.fold().instances.into_values() {
            keep.keys.extend(instance.key);
            keep.artifacts.extend(instance.result.iter().flat_map(|result| result.artifacts.values().copied()));
        }
    }
    let store = open_store()?;
    // What was used today may be about to be used again.
    let unused_for = keep.unused_for.max(DAY);
    // First, so that nothing writes into what goes next.
    let docker = clean_docker(session, &store, unused_for, args.dry_run);
    let report = mlctl_exec::gc::gc(&store, &keep, SystemTime::now(), args.dry_run)
        .map_err(|error| CommandError::missing("cannot clean the store").because(&error))?;
    let environments = environment::collect(store.root(), unused_for, args.dry_run)
        .map_err(|error| CommandError::missing("cannot remove unused environments").because(&error))?;
    if !args.dry_run {
        remove_spare(store.root(), unused_for)
            .map_err(|error| CommandError::missing("cannot clean the store").because(&error))?;
        remove_runs(&old, runs.as_ref())?;
    }
    tell(session, args, old.len(), &report, environments, &docker)?;
    Ok(ExitCode::SUCCESS)
}

/// The runs that stay, with those that they reused as a whole, and the others.
fn divide(runs: &Runs, keep: usize) -> (Vec<Run>, Vec<Run>) {
    let all: Vec<Run> = runs.list().collect();
    let stays = |at: usize, run: &Run| at < keep || run.ended().is_none();
    let mut ids: HashSet<String> = HashSet::new();
    for (_, run) in all.iter().enumerate().filter(|(at, run)| stays(*at, run)) {
        ids.insert(run.id().to_owned());
        ids.extend(run.meta.reused.clone());
    }
    all.into_iter().partition(|run| ids.contains(run.id()))
}

/// What the store keeps to save time, and nobody counts.
fn remove_spare(store: &Path, unused_for: Duration) -> io::Result<()> {
    accounts::collect(store, unused_for)?;
    image::gc::forget(store, unused_for)?;
    platform::docker::forget(store, unused_for)
}

fn remove_runs(old: &[Run], runs: Option<&Runs>) -> Result<(), CommandError> {
    for run in old {
        run.remove().map_err(|error| {
            CommandError::missing(format!("cannot remove the record of run `{}`", run.id())).because(&error)
        })?;
    }
    runs.map_or(Ok(()), Runs::sweep)
        .map_err(|error| CommandError::missing("cannot clean the project's records").because(&error))
}

/// What was taken from the Docker daemon, or would be.
#[derive(Debug, Default)]
struct FromDocker {
    /// Containers that killed runs left.
    containers: u64,
    /// Images that nobody used.
    images: u64,
}

/// Cleans the Docker daemon, if there is one.
fn clean_docker(session: &Session, store: &Store, unused_for: Duration, dry_run: bool) -> FromDocker {
    let cleaned = Daemon::connect().and_then(|daemon| {
        let left = leftovers::find(&daemon, store)?;
        if !dry_run {
            leftovers::remove(&daemon, &left);
        }
        let images = image::gc::collect(&daemon, store.root(), unused_for, dry_run)?;
        Ok(FromDocker { containers: left.len() as u64, images })
    });
    cleaned.unwrap_or_else(|error| {
        session.ui.detail(&format!("Docker is left alone: {error}"));
        FromDocker::default()
    })
}

fn tell(
    session: &Session,
    args: &GcArgs,
    runs: usize,
    report: &GcReport,
    environments: Collected,
    docker: &FromDocker,
) -> Result<(), CommandError> {
    if session.ui.is_json() {
        return session.ui.json(&json!({
            "dry_run": args.dry_run,
            "runs": runs,
            "objects": report.objects,
            "entries": report.entries,
            "environments": environments.environments,
            "containers": docker.containers,
            "images": docker.images,
            "bytes": report.bytes + environments.bytes,
            "kept_objects": report.kept_objects,
            "kept_entries": report.kept_entries,
        }));
    }
    let parts = [(docker.containers, "container"), (docker.images, "image")].into_iter().filter(|(many, _)| *many > 0);
    let parts: Vec<String> = parts.map(|(many, what)| count(many, what)).collect();
    let of_docker = if parts.is_empty() { String::new() } else { format!("; {} of Docker", parts.join(" and ")) };
    session.ui.result(&format!(
        "{} {}, {}, {} and {} of the store: {}{of_docker}\n",
        if args.dry_run { "would remove" } else { "removed" },
        count(runs as u64, "run"),
        count(report.entries, "result"),
        count(report.objects, "object"),
        count(environments.environments, "environment"),
        size(report.bytes + environments.bytes),
    ))
}
