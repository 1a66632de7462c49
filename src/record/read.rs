//! Reading records, also while they are written, and finishing those whose writer died.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mlctl_core::event::{Event, Outcome, Recorded};
use rustix::process::{Pid, Signal, kill_process};

use super::lease::{self, Lease};
use super::state::RunState;
use super::write::{log_path, push_line, write_whole};
use super::{Ended, Highlights, RunMeta, home};
use crate::error::CommandError;
use crate::export::STAGED;

/// What the lines of `graph.expanded` hold.
const EXPANDED: &[u8] = b"\"graph.expanded\"";

/// All runs of a project.
#[derive(Debug)]
pub(crate) struct Runs {
    project: PathBuf,
    /// Ids, the latest first.
    ids: Vec<String>,
}

impl Runs {
    /// The runs of a project: none where nothing ever ran.
    pub(crate) fn open(project: &Path) -> Result<Self, CommandError> {
        let ids = Self::ids(project).map_err(|error| {
            CommandError::missing("cannot read the project's runs")
                .cause(format!("{}: {error}", home(project).join("runs").display()))
        })?;
        Ok(Self { project: project.to_owned(), ids })
    }

    /// The index gives the order; the directories say what is still there.
    fn ids(project: &Path) -> io::Result<Vec<String>> {
        let runs = home(project).join("runs");
        let entries = match fs::read_dir(&runs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut present = HashSet::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(id) = name.to_str().filter(|name| !name.starts_with('.') && *name != "index") {
                present.insert(id.to_owned());
            }
        }
        let index = fs::read(runs.join("index")).unwrap_or_default();
        let index = String::from_utf8_lossy(&index);
        let mut ids: Vec<String> = index.lines().rev().filter_map(|id| present.take(id)).collect();
        // One that was removed, or torn by a power loss, costs the order and no run.
        let began = |id: &str| fs::metadata(runs.join(id).join("run.json")).and_then(|data| data.modified()).ok();
        let mut others: Vec<_> = present.into_iter().filter_map(|id| Some((began(&id)?, id))).collect();
        others.sort_unstable();
        ids.extend(others.into_iter().rev().map(|(_, id)| id));
        Ok(ids)
    }

    /// All of them, the latest first.
    pub(crate) fn list(&self) -> impl Iterator<Item = Run> + '_ {
        self.ids.iter().filter_map(|id| self.get(id).ok())
    }

    /// The ids, the latest first.
    pub(crate) fn names(&self) -> &[String] {
        &self.ids
    }

    /// The one that `name` means: `@latest`, an id, or the beginning of exactly one.
    pub(crate) fn find(&self, name: &str) -> Result<Run, CommandError> {
        if name == "@latest" {
            let latest = self
                .ids
                .first()
                .ok_or_else(|| CommandError::failed("there are no runs yet").hint("`mlctl run` makes the first one"))?;
            return self.get(latest);
        }
        let mut matches = self.ids.iter().filter(|id| id.starts_with(name));
        match (matches.next(), matches.next()) {
            (Some(id), None) => self.get(id),
            (Some(first), Some(second)) => Err(CommandError::usage(format!("`{name}` is not one run"))
                .cause(format!("`{first}` and `{second}` begin with it"))
                .hint("give more of its id: `mlctl runs` lists them")),
            (None, _) => Err(CommandError::usage(format!("there is no run `{name}`"))
                .hint("`mlctl runs` lists them; `@latest` is the latest")),
        }
    }

    /// Removes what no run needs: directories that never became runs or were runs, and texts of specs.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let home = home(&self.project);
        let used: HashSet<String> = self.list().map(|run| run.meta.spec.to_hex()).collect();
        let is_left_over = |name: &str| name.starts_with('.');
        remove_old(&home.join("runs"), is_left_over)?;
        remove_old(&home.join("specs"), |name| !used.contains(name))?;
        remove_old(&home, |name| name.starts_with(STAGED))
    }

    fn get(&self, id: &str) -> Result<Run, CommandError> {
        Run::open(&self.project, id)
    }
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// What was asked for.
    pub(crate) meta: RunMeta,
    project: PathBuf,
    dir: PathBuf,
}

impl Run {
    fn open(project: &Path, id: &str) -> Result<Self, CommandError> {
        let dir = home(project).join("runs").join(id);
        let unreadable =
            |error: &dyn std::error::Error| CommandError::missing(format!("cannot read run `{id}`")).because(error);
        let bytes = fs::read(dir.join("run.json")).map_err(|error| unreadable(&error))?;
        let meta = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        Ok(Self { meta, project: project.to_owned(), dir })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.meta.id
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it ended; `None`: it is running. A run whose writer died is finished here.
    pub(crate) fn ended(&self) -> Option<Ended> {
        if let Some(ended) = self.read_ended() {
            return Some(ended);
        }
        if self.meta.cluster.is_some() {
            return None;
        }
        match self.finish_if_dead() {
            Ok(ended) => ended,
            // A project that cannot be written to can be read all the same.
            Err(_) if lease::is_held(&self.dir) => None,
            Err(_) => {
                let state = self.fold();
                let (outcome, at) = state.ended?;
                Some(Ended { outcome, at, tally: state.tally(), dirty: None, highlights: Highlights::default() })
            }
        }
    }

    fn read_ended(&self) -> Option<Ended> {
        serde_json::from_slice(&fs::read(self.dir.join("ended.json")).ok()?).ok()
    }

    /// The process that runs it.
    pub(crate) fn pid(&self) -> Option<i32> {
        lease::holder(&self.dir)
    }

    /// Its events so far. A torn last line is none; what a newer mlctl wrote and this one does not know is passed over.
    pub(crate) fn events(&self) -> Vec<Recorded> {
        self.follow().read().unwrap_or_default()
    }

    /// The instances planned at the start.
    pub(crate) fn planned(&self) -> Vec<String> {
        let text = fs::read_to_string(self.record_dir().join("instances")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The instances known so far, without reading what became of them.
    pub(crate) fn instances(&self) -> Vec<String> {
        let mut instances = self.planned();
        let events = fs::read(self.record_dir().join("events.jsonl")).unwrap_or_default();
        let lines = events.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| line.windows(EXPANDED.len()).any(|part| part == EXPANDED)) {
            if let Ok(Recorded { event: Event::GraphExpanded { instances: new, .. }, .. }) =
                serde_json::from_slice(line)
            {
                instances.extend(new);
            }
        }
        instances
    }

    /// Its state so far. A run whose writer died reads as interrupted, recorded or not.
    pub(crate) fn fold(&self) -> RunState {
        let mut state = RunState::new(self.planned());
        for recorded in self.events() {
            state.apply(&recorded);
        }
        if self.meta.reused.is_some() {
            state.reuse(self.meta.started);
        } else if state.ended.is_none() && self.meta.cluster.is_none() && !lease::is_held(&self.dir) {
            let at = self.last_sign_of_life(&state);
            for event in state.interrupted() {
                state.apply(&Recorded { at, event });
            }
        }
        state
    }

    /// Its events as they come.
    pub(crate) fn follow(&self) -> Follower {
        Follower { path: self.record_dir().join("events.jsonl"), file: None, partial: Vec::new() }
    }

    /// The log of an attempt: where the instance was reused from another run as a whole, that run's.
    pub(crate) fn log_path(&self, instance: &str, attempt: u32) -> PathBuf {
        log_path(&self.record_dir(), instance, attempt)
    }

    /// The spec's text as it was.
    pub(crate) fn spec(&self) -> Option<String> {
        fs::read_to_string(home(&self.project).join("specs").join(self.meta.spec.to_hex())).ok()
    }

    /// Asks the run to end: `by` says who. The signal makes it look at once.
    pub(crate) fn request_cancel(&self, by: &serde_json::Value) -> io::Result<()> {
        write_whole(&self.dir, "cancel", by)?;
        if let Some(pid) = self.pid().and_then(Pid::from_raw) {
            // Its end may have come in between: then there is nothing to signal. What is stopped sees nothing until it goes on.
            for signal in [Signal::TERM, Signal::CONT] {
                let _ = kill_process(pid, signal);
            }
        }
        Ok(())
    }

    /// Removes its record. What it made stays in the store.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // Gone at once for every reader, whatever becomes of this process.
        let trash = self.dir.with_file_name(format!(".{}.removed", self.id()));
        fs::rename(&self.dir, &trash)?;
        // What failed steps left may be directories that may not be written.
        mlctl_exec::store::remove_tree(&trash)
    }

    /// Where the events and logs are: a run in which nothing had to be done has those of the one that it reused.
    fn record_dir(&self) -> PathBuf {
        match &self.meta.reused {
            Some(base) => home(&self.project).join("runs").join(base),
            None => self.dir.clone(),
        }
    }

    fn finish_if_dead(&self) -> io::Result<Option<Ended>> {
        let Some(_lease) = Lease::take_over(&self.dir)? else { return Ok(None) };
        // Under the lock: its writer, or somebody else, may have finished it just now.
        if let Some(ended) = self.read_ended() {
            return Ok(Some(ended));
        }
        let path = self.dir.join("events.jsonl");
        let whole = whole_lines(&fs::read(&path)?);
        let mut state = RunState::new(self.planned());
        for recorded in parse(&fs::read(&path)?[..whole]) {
            state.apply(&recorded);
        }
        if state.ended.is_none() {
            let at = self.last_sign_of_life(&state);
            let mut lines = Vec::new();
            for event in state.interrupted() {
                let recorded = Recorded { at, event };
                state.apply(&recorded);
                push_line(&mut lines, &recorded);
            }
            let mut events = OpenOptions::new().write(true).open(&path)?;
            events.set_len(whole as u64)?;
            events.seek(SeekFrom::End(0))?;
            events.write_all(&lines)?;
        }
        let (outcome, at) = state.ended.unwrap_or((Outcome::Interrupted, self.meta.started));
        let ended = Ended { outcome, at, tally: state.tally(), dirty: None, highlights: Highlights::default() };
        write_whole(&self.dir, "ended.json", &ended)?;
        Ok(Some(ended))
    }

    /// When the dead writer was last heard of, or one of its steps.
    fn last_sign_of_life(&self, state: &RunState) -> u64 {
        let logs = state.unfinished().filter(|(_, attempt)| *attempt > 0);
        let logs = logs.map(|(instance, attempt)| self.log_path(instance, attempt));
        let files = logs.chain([self.dir.join("events.jsonl")]);
        let modified = files.filter_map(|file| fs::metadata(file).and_then(|file| file.modified()).ok());
        modified.map(millis).chain([state.latest, self.meta.started]).max().unwrap_or_default()
    }
}

/// Removes what has such a name and is older than a day: what is younger may be in the making.
fn remove_old(dir: &Path, condemned: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let modified = entry.metadata()?.modified()?;
        let old = modified.elapsed().is_ok_and(|age| age.as_secs() > 24 * 60 * 60);
        if old && entry.file_name().to_str().is_some_and(&condemned) {
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    Ok(())
}

/// Milliseconds since the Unix epoch.
fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Bytes up to and with the last line break.
pub(super) fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn parse(bytes: &[u8]) -> impl Iterator<Item = Recorded> + '_ {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Reads the events of a run as they are written.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl Follower {
    /// The events that came since the last call.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Recorded>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        file.read_to_end(&mut self.partial)?;
        let whole = whole_lines(&self.partial);
        let events = parse(&self.partial[..whole]).collect();
        self.partial.drain(..whole);
        Ok(events)
    }
}
