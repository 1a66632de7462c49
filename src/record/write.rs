//! Writing a run's record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Outcome, Recorded};
use serde::Serialize;

use super::lease::Lease;
use super::read::{Run, whole_lines};
use super::{Ended, Highlights, RunMeta, Tally, home, id, make_home};
use crate::error::CommandError;

/// The one writer of a run's record.
///
/// Events gather in a buffer: [`RunWriter::flush`] before waiting for anything makes them visible to other processes
/// and safe from the end of this one.
#[derive(Debug)]
pub(crate) struct RunWriter {
    id: String,
    dir: PathBuf,
    events: File,
    buffer: Vec<u8>,
    tally: Tally,
    _lease: Lease,
}

impl RunWriter {
    /// Makes the run's directory. `instances` are those planned at the start, in the plan's order.
    pub(crate) fn create<'a>(
        project: &Path,
        meta: RunMeta,
        spec: &str,
        instances: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, CommandError> {
        Self::try_create(project, meta, spec, instances).map_err(|error| not_writable(project, &error))
    }

    fn try_create<'a>(
        project: &Path,
        mut meta: RunMeta,
        spec: &str,
        instances: impl IntoIterator<Item = &'a str>,
    ) -> io::Result<Self> {
        prepare(project, &meta.spec, spec)?;
        let (id, new) = match meta.id.as_str() {
            "" => new_dir(project)?,
            given => (given.to_owned(), dir_for(project, given)?),
        };
        meta.id.clone_from(&id);
        let lease = Lease::create(&new)?;
        fs::create_dir(new.join("logs"))?;
        let mut planned = String::new();
        let mut total = 0;
        for instance in instances {
            planned.push_str(instance);
            planned.push('\n');
            total += 1;
        }
        fs::write(new.join("instances"), planned)?;
        let events = OpenOptions::new().create_new(true).append(true).open(new.join("events.jsonl"))?;
        let dir = publish(project, &new, &meta)?;
        let tally = Tally { total, ..Tally::default() };
        Ok(Self { id, dir, events, buffer: Vec::with_capacity(64 * 1024), tally, _lease: lease })
    }

    /// Goes on with the record of a run on a cluster; `None`: another process does. What a dead writer left of a line is
    /// removed.
    pub(crate) fn resume(run: &Run) -> Result<Option<Self>, CommandError> {
        let resume = || {
            let Some(lease) = Lease::take_over(run.dir())? else { return Ok(None) };
            let path = run.dir().join("events.jsonl");
            let whole = whole_lines(&fs::read(&path)?);
            let events = OpenOptions::new().append(true).open(&path)?;
            events.set_len(whole as u64)?;
            let tally = run.fold().tally();
            let (id, dir) = (run.id().to_owned(), run.dir().to_owned());
            Ok(Some(Self { id, dir, events, buffer: Vec::new(), tally, _lease: lease }))
        };
        resume().map_err(|error: io::Error| {
            CommandError::missing(format!("cannot write the record of run `{}`", run.id())).because(&error)
        })
    }

    /// Records a run in which nothing had to be done: all is as `meta.reused` made it. Writes no events.
    pub(crate) fn record_reused(
        project: &Path,
        mut meta: RunMeta,
        spec: &str,
        ended: &Ended,
    ) -> Result<String, CommandError> {
        let mut write = || {
            prepare(project, &meta.spec, spec)?;
            let (id, new) = new_dir(project)?;
            meta.id.clone_from(&id);
            write_json(&new.join("ended.json"), ended)?;
            publish(project, &new, &meta)?;
            Ok(id)
        };
        write().map_err(|error: io::Error| not_writable(project, &error))
    }

    /// The run's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The run's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the log of an attempt goes.
    pub(crate) fn log_path(&self, instance: &str, attempt: u32) -> PathBuf {
        log_path(&self.dir, instance, attempt)
    }

    /// Records an event.
    pub(crate) fn append(&mut self, recorded: &Recorded) -> Result<(), CommandError> {
        match &recorded.event {
            Event::GraphExpanded { instances, .. } => self.tally.total += instances.len() as u64,
            Event::InstanceFinished { status, .. } => self.tally.count(*status),
            _ => {}
        }
        push_line(&mut self.buffer, recorded);
        if self.buffer.len() < 60 * 1024 { Ok(()) } else { self.flush() }
    }

    /// Makes all that was appended visible to others.
    pub(crate) fn flush(&mut self) -> Result<(), CommandError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.events.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| self.broken("events.jsonl", &error))
    }

    /// What ran so far is in the store all the same.
    fn broken(&self, file: &str, error: &io::Error) -> CommandError {
        let what = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FREE_SPACE,
            io::ErrorKind::NotFound => "it was removed while the run went on",
            _ => "make it writable",
        };
        CommandError::missing(format!("cannot write the record of run `{}`", self.id))
            .cause(format!("{}: {error}", self.dir.join(file).display()))
            .hint(format!("{what}; results are kept: `mlctl run` goes on from them"))
    }

    /// Whether somebody asked for the run's end by `mlctl cancel`: one system call.
    pub(crate) fn cancel_requested(&self) -> bool {
        self.dir.join("cancel").exists()
    }

    /// Closes the record; `run.finished` was appended. Frees the lease.
    pub(crate) fn finish(
        mut self,
        outcome: Outcome,
        at: u64,
        dirty: Option<bool>,
        highlights: Highlights,
    ) -> Result<Ended, CommandError> {
        self.flush()?;
        let ended = Ended { outcome, at, tally: self.tally, dirty, highlights };
        // Logs of later steps make the directory again when somebody removed it.
        fs::metadata(self.dir.join("run.json")).map_err(|error| self.broken("run.json", &error))?;
        let written = write_whole(&self.dir, "ended.json", &ended);
        written.map(|()| ended).map_err(|error| self.broken("ended.json", &error))
    }
}

/// The log of an attempt in a run's directory.
pub(crate) fn log_path(dir: &Path, instance: &str, attempt: u32) -> PathBuf {
    dir.join("logs").join(format!("{instance}.{attempt}.log"))
}

/// One event as one line.
pub(super) fn push_line(buffer: &mut Vec<u8>, recorded: &Recorded) {
    // Writing to memory cannot fail, and an event has text keys only.
    if serde_json::to_writer(&mut *buffer, recorded).is_ok() {
        buffer.push(b'\n');
    }
}

/// Writes a small file so that readers see all of it or nothing.
pub(super) fn write_whole(dir: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let new = dir.join(format!("{name}.{}", std::process::id()));
    write_json(&new, value)?;
    fs::rename(&new, dir.join(name))
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(value)?)
}

/// What all runs share: the ignore file and the spec's text.
fn prepare(project: &Path, digest: &Digest, spec: &str) -> io::Result<()> {
    let home = make_home(project)?;
    fs::create_dir_all(home.join("runs"))?;
    let specs = home.join("specs");
    let text = specs.join(digest.to_hex());
    if !text.exists() {
        fs::create_dir_all(&specs)?;
        let new = specs.join(format!("{}.{}", digest.to_hex(), std::process::id()));
        fs::write(&new, spec)?;
        fs::rename(new, text)?;
    }
    Ok(())
}

/// An empty directory for a new run, under a name that readers pass over.
fn new_dir(project: &Path) -> io::Result<(String, PathBuf)> {
    let runs = home(project).join("runs");
    loop {
        let id = id::new();
        if runs.join(&id).exists() {
            continue;
        }
        let new = runs.join(format!(".{id}"));
        match fs::create_dir(&new) {
            Ok(()) => return Ok((id, new)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// An empty directory for a run whose name is given.
fn dir_for(project: &Path, id: &str) -> io::Result<PathBuf> {
    let runs = home(project).join("runs");
    let new = runs.join(format!(".{id}.{}", std::process::id()));
    // What a process of the same number left.
    let _ = fs::remove_dir_all(&new);
    fs::create_dir(&new)?;
    Ok(new)
}

/// Gives the new run its name. The index first: an id there without a directory is passed over.
fn publish(project: &Path, new: &Path, meta: &RunMeta) -> io::Result<PathBuf> {
    write_json(&new.join("run.json"), meta)?;
    let runs = home(project).join("runs");
    let mut index = OpenOptions::new().create(true).append(true).open(runs.join("index"))?;
    index.write_all(format!("{}\n", meta.id).as_bytes())?;
    let dir = runs.join(&meta.id);
    fs::rename(new, &dir)?;
    Ok(dir)
}

/// What helps where a disk is full.
const FREE_SPACE: &str = "free some space (`mlctl gc` removes old runs and what the store no longer needs)";

fn not_writable(project: &Path, error: &io::Error) -> CommandError {
    let home = home(project);
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FREE_SPACE,
        _ => "make the project's directory writable, or work in a copy of it",
    };
    CommandError::missing("cannot record the run")
        .cause(format!("cannot write to {}: {error}", home.display()))
        .hint(hint)
}
