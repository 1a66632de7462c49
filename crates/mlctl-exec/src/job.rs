//! A task as files: how an engine that is another process, in a container or on another machine, has one run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlctl_core::action::{CONTRACT, StepFailure, Task};
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::executor::{Executor, Place, Report};
use crate::store::Store;
use crate::warden::Warden;

/// The name of a job's file.
pub const TASK: &str = "task.json";

/// The name of a report's file. It appears whole or not at all.
pub const REPORT: &str = "report.json";

/// What `task.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// What to run.
    pub task: Task,
    /// Where and how.
    pub place: Place,
    /// The store's root.
    pub store: PathBuf,
}

/// Runs the job in `directory` and writes its report there. A step that fails is a report, not an error.
pub fn run(directory: &Path) -> io::Result<()> {
    let job: Job = serde_json::from_slice(&fs::read(directory.join(TASK))?)?;
    let report = match job.task.contract {
        CONTRACT => execute(&job)?,
        other => {
            let reason = format!("this program has contract {CONTRACT}, and the task is of contract {other}");
            Report { result: Err(StepFailure::Executor { reason }), millis: 0 }
        }
    };
    let partial = directory.join("report.json.partial");
    fs::write(&partial, serde_json::to_vec(&report)?)?;
    fs::rename(partial, directory.join(REPORT))
}

fn execute(job: &Job) -> io::Result<Report> {
    let store = Arc::new(Store::open(&job.store).map_err(io::Error::other)?);
    let executor = Executor::new(store).guarded_by(Warden::this_program());
    Ok(executor.run(&job.task, &job.place, &Cancel::new()?, &mut || {}))
}
