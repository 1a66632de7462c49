//! The logs of a run on a cluster: copied from the store, part by part.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mlctl_core::records;

use super::place::Place;
use crate::error::CommandError;

/// Which logs are wanted while their steps run. Those of attempts that failed always are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Wanted {
    /// None.
    #[default]
    Failed,
    /// All.
    All,
    /// Those of these instances.
    Of(Vec<String>),
}

impl Wanted {
    /// Whether that of this instance is.
    pub(crate) fn wants(&self, instance: &str) -> bool {
        match self {
            Self::Failed => false,
            Self::All => true,
            Self::Of(instances) => instances.iter().any(|wanted| wanted == instance),
        }
    }
}

/// The logs of a run, and how far they are here.
pub(crate) struct Logs<'a> {
    pub(super) wanted: Wanted,
    place: &'a Place,
    /// The run's directory.
    dir: PathBuf,
    /// How much of each is known to be whole.
    whole: HashMap<String, u64>,
}

impl<'a> Logs<'a> {
    /// Of a run whose record is in `dir`.
    pub(crate) fn new(place: &'a Place, dir: &Path) -> Self {
        Self { wanted: Wanted::Failed, place, dir: dir.to_owned(), whole: HashMap::new() }
    }

    /// Those that are wanted while steps run.
    pub(super) fn wanting(self, wanted: Wanted) -> Self {
        Self { wanted, ..self }
    }

    /// Fetches what is not here of the log of an attempt. Others may do the same: each byte has its place.
    pub(crate) fn fetch(&mut self, instance: &str, attempt: u32) -> Result<(), CommandError> {
        let (place, run) = (self.place, &self.place.run);
        let failed = |error| place.failed("read the logs of", &error);
        let names = place.remote.records(run, &records::log_parts(instance, attempt)).map_err(failed)?;
        let offset = |name: &str| u64::from_str_radix(name.rsplit('/').next()?, 16).ok();
        let whole = *self.whole.get(&format!("{instance}.{attempt}")).unwrap_or(&0);
        let path = crate::record::log_path(&self.dir, instance, attempt);
        let here = fs::metadata(&path).map_or(0, |file| file.len());
        // Of what another process fetched the last part may not be whole.
        let from = whole.max(names.iter().filter_map(|name| offset(name)).filter(|at| *at <= here).max().unwrap_or(0));
        let mut end = from;
        for name in names {
            // Parts come one after the other, and those before are here.
            let Some(at) = offset(&name).filter(|at| *at == end) else { continue };
            let Some(bytes) = place.remote.record(run, &name).map_err(failed)? else { break };
            let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
            let written = file.and_then(|file| file.write_all_at(&bytes, at));
            written
                .map_err(|error| CommandError::missing(format!("cannot write {}", path.display())).because(&error))?;
            end = at + bytes.len() as u64;
        }
        self.whole.insert(format!("{instance}.{attempt}"), end);
        Ok(())
    }
}
