//! Runs that have nothing to do, found without planning.
//!
//! When a run ends with every instance succeeded, cached or skipped, `.mlctl/reuse/<key>` notes what it saw: the names
//! and stamps of the sources, the project's inputs, what it exported, and a seal over everything it made. The key is of
//! what was asked for: the spec's text, the lock's, params, targets, context. A later run that is asked for the same
//! and finds all of it untouched is that run again. Anything else, and a note older than a day, is for the plan to
//! find out: a look-up there also tells gc that a result is in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_core::key::Encoder;
use mlctl_exec::sources::{Inputs, Snapshot};
use mlctl_exec::store::Store;
use serde::{Deserialize, Serialize};

/// How long a note holds.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How many notes a project keeps.
const KEPT: usize = 64;

/// What is asked for, as far as it decides what comes out.
pub(crate) struct Asked<'a> {
    /// The text of the spec.
    pub(crate) spec: Digest,
    /// The text of the lock; empty if there is none.
    pub(crate) lock: Vec<u8>,
    /// Params, as `-p` gives them.
    pub(crate) params: Vec<Vec<u8>>,
    /// Names and texts of files of params: a name says how its text is read.
    pub(crate) params_files: Vec<Vec<u8>>,
    /// Steps and instances.
    pub(crate) targets: &'a [String],
    /// The context's name.
    pub(crate) context: &'a str,
    /// Which Docker daemon is meant: it has a platform and images of its own.
    pub(crate) docker: String,
    /// The texts of the other files that say what contexts are.
    pub(crate) contexts: Vec<Vec<u8>>,
}

impl Asked<'_> {
    fn key(&self) -> Digest {
        let mut encoder = Encoder::new("mlctl reuse 1");
        encoder.text(env!("CARGO_PKG_VERSION")).digest(&self.spec).digest(&Digest::of(&self.lock));
        for texts in [&self.params, &self.params_files, &self.contexts] {
            encoder.number(texts.len() as u64);
            for text in texts {
                encoder.digest(&Digest::of(text));
            }
        }
        encoder.texts(self.targets.iter().map(String::as_str)).text(self.context).text(&self.docker);
        encoder.finish()
    }
}

/// What a run saw and made, besides the seal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The run.
    pub(crate) run: String,
    /// Names and stamps of the sources; `None`: they were not told apart surely.
    pub(crate) sources: Option<Digest>,
    /// The project's files that are inputs.
    pub(crate) inputs: Vec<(String, Artifact)>,
    /// What it wrote into the project.
    pub(crate) exports: Vec<(String, Artifact)>,
}

/// The notes of a project.
pub(crate) struct Notes(PathBuf);

impl Notes {
    /// Of this project.
    pub(crate) fn of(project: &Path) -> Self {
        Self(project.join(".mlctl/reuse"))
    }

    /// The run that already did what is asked for, if all that it saw and made is untouched.
    pub(crate) fn find(
        &self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        inputs: &Inputs,
        store: &Store,
    ) -> Option<String> {
        let path = self.path(asked);
        let age = SystemTime::now().duration_since(fs::metadata(&path).ok()?.modified().ok()?).ok()?;
        if age > LIFETIME {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let note: Note = serde_json::from_slice(&bytes[..end]).ok()?;
        let unchanged = |(path, artifact): &(String, Artifact)| inputs.digest(path).is_ok_and(|now| now == *artifact);
        let exported: Vec<String> = note.exports.iter().map(|(path, _)| path.clone()).collect();
        let seen = note.sources.is_some()
            && snapshot.fingerprint(&exported) == note.sources
            && note.inputs.iter().all(unchanged)
            && note.exports.iter().all(unchanged);
        (seen && store.is_sealed(&bytes[end + 1..])).then_some(note.run)
    }

    /// Notes what a run saw and made. An error only means that the next run plans.
    pub(crate) fn write<'a>(
        &self,
        asked: &Asked<'_>,
        note: &Note,
        results: impl Iterator<Item = &'a ActionResult>,
        store: &Store,
    ) {
        let (Some(_), Ok(Some(seal))) = (note.sources, store.seal(results)) else { return };
        let Ok(mut bytes) = serde_json::to_vec(note) else { return };
        bytes.push(b'\n');
        bytes.extend(seal);
        let path = self.path(asked);
        let new = path.with_extension(std::process::id().to_string());
        let written =
            fs::create_dir_all(&self.0).and_then(|()| fs::write(&new, bytes)).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        self.tidy();
    }

    /// Forgets all of them: a run is about to replace results, of which some may come from.
    pub(crate) fn forget(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn path(&self, asked: &Asked<'_>) -> PathBuf {
        self.0.join(asked.key().short())
    }

    /// Keeps the youngest notes.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        let mut notes: Vec<(SystemTime, PathBuf)> =
            entries.flatten().filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
        if notes.len() > KEPT {
            notes.sort_unstable();
            for (_, path) in &notes[..notes.len() - KEPT] {
                let _ = fs::remove_file(path);
            }
        }
    }
}
