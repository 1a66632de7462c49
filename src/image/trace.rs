//! From what a builder reports to events: BuildKit's graph of vertices, and the lines of the classic builder.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexStatus};

use mlctl_exec::redact::Filter;

use super::progress::{End, Event};

/// A step that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FailedStep {
    /// As the builder names it: `[2/4] RUN false`.
    pub(super) name: String,
    /// What it printed, whole.
    pub(super) log: Vec<u8>,
    /// Why, as the builder says it.
    pub(super) error: String,
}

/// What is known of a build by now.
#[derive(Default)]
pub(super) struct Trace {
    names: HashMap<String, String>,
    begun: HashSet<String>,
    ended: HashSet<String>,
    /// What the steps that are not over printed.
    logs: HashMap<String, Vec<u8>>,
    failed: Option<String>,
    error: String,
    /// What no log may hold.
    secrets: BTreeMap<String, String>,
    filters: HashMap<String, Filter>,
    /// The classic builder's step at hand, and whether it was done before.
    current: Option<(String, bool)>,
}

impl Trace {
    /// Of a build whose logs must not show `secrets`.
    pub(super) fn without(secrets: BTreeMap<String, String>) -> Self {
        Self { secrets, ..Self::default() }
    }

    /// The step that failed, if one did.
    pub(super) fn into_failed(mut self) -> Option<FailedStep> {
        let failed = self.failed.take().or_else(|| self.current.take().map(|(id, _)| id))?;
        self.flush(&failed, &mut |_| {});
        let log = self.logs.remove(&failed).unwrap_or_default();
        let name = self.names.remove(&failed).unwrap_or(failed);
        Some(FailedStep { name, log, error: self.error })
    }

    /// What BuildKit reports.
    pub(super) fn status(&mut self, status: &StatusResponse, tell: &mut dyn FnMut(Event<'_>)) {
        for vertex in &status.vertexes {
            self.vertex(vertex, tell);
        }
        for part in &status.statuses {
            if part.completed.is_none() {
                tell(Event::Status { id: &part.vertex, text: &progress_of(part) });
            }
        }
        for log in &status.logs {
            self.output(&log.vertex, &log.msg, tell);
        }
    }

    /// What a step printed.
    fn output(&mut self, id: &str, text: &[u8], tell: &mut dyn FnMut(Event<'_>)) {
        let mut clean = Vec::with_capacity(text.len());
        let filter = self.filters.entry(id.to_owned()).or_insert_with(|| Filter::new(&self.secrets));
        filter.push(text, &mut clean);
        self.logs.entry(id.to_owned()).or_default().extend_from_slice(&clean);
        tell(Event::Output { id, text: &clean });
    }

    /// What was held back, as the beginning of a secret it might have been, is certain now.
    fn flush(&mut self, id: &str, tell: &mut dyn FnMut(Event<'_>)) {
        let mut rest = Vec::new();
        if let Some(mut filter) = self.filters.remove(id) {
            filter.finish(&mut rest);
        }
        if !rest.is_empty() {
            self.logs.entry(id.to_owned()).or_default().extend_from_slice(&rest);
            tell(Event::Output { id, text: &rest });
        }
    }

    fn vertex(&mut self, vertex: &Vertex, tell: &mut dyn FnMut(Event<'_>)) {
        let (id, name) = (&vertex.digest, &vertex.name);
        self.names.insert(id.clone(), name.clone());
        let Some(started) = &vertex.started else { return };
        if self.begun.insert(id.clone()) && !vertex.cached {
            tell(Event::Step { id, name });
        }
        let Some(completed) = &vertex.completed else { return };
        if !self.ended.insert(id.clone()) {
            return;
        }
        self.flush(id, tell);
        let end = if !vertex.error.is_empty() {
            // What was cancelled because of it comes later, or says so.
            if self.failed.is_none() && !vertex.error.contains("context canceled") {
                self.failed = Some(id.clone());
                self.error.clone_from(&vertex.error);
            }
            End::Failed
        } else if vertex.cached {
            End::Cached
        } else {
            let seconds = completed.seconds - started.seconds;
            let nanos = i64::from(completed.nanos) - i64::from(started.nanos);
            End::Done(Duration::from_nanos(u64::try_from(seconds * 1_000_000_000 + nanos).unwrap_or(0)))
        };
        if end != End::Failed {
            self.logs.remove(id);
        }
        tell(Event::Ended { id, name, end });
    }

    /// What the classic builder prints: steps, and what their commands print.
    pub(super) fn line(&mut self, text: &str, tell: &mut dyn FnMut(Event<'_>)) {
        let trimmed = text.trim_end_matches('\n');
        if let Some(step) = trimmed.strip_prefix("Step ").filter(|step| is_step(step)) {
            self.end(tell);
            let id = step.to_owned();
            // `2/4 : RUN x`, as BuildKit would have it: `[2/4] RUN x`.
            let name = step.split_once(" : ").map_or_else(|| id.clone(), |(at, what)| format!("[{at}] {what}"));
            tell(Event::Step { id: &id, name: &name });
            self.names.insert(id.clone(), name);
            self.current = Some((id, false));
            return;
        }
        let Some((id, mut cached)) = self.current.take() else { return };
        match trimmed {
            " ---> Using cache" => cached = true,
            _ if trimmed.starts_with(" ---> ") || trimmed.starts_with("Removing intermediate container ") => {}
            _ if trimmed.starts_with("Successfully ") || trimmed.is_empty() => {}
            _ => self.output(&id, text.as_bytes(), tell),
        }
        self.current = Some((id, cached));
    }

    /// The classic builder's step at hand is over.
    pub(super) fn end(&mut self, tell: &mut dyn FnMut(Event<'_>)) {
        if let Some((id, cached)) = self.current.take() {
            self.flush(&id, tell);
            let name = self.names.get(&id).cloned().unwrap_or_default();
            self.logs.remove(&id);
            tell(Event::Ended {
                id: &id,
                name: &name,
                end: if cached { End::Cached } else { End::Done(Duration::ZERO) },
            });
        }
    }
}

/// `2/4 : RUN x`
fn is_step(text: &str) -> bool {
    let Some((at, _)) = text.split_once(" : ") else { return false };
    at.split_once('/').is_some_and(|(at, of)| [at, of].iter().all(|number| number.parse::<u32>().is_ok()))
}

fn progress_of(part: &VertexStatus) -> String {
    let size = |bytes: i64| crate::ui::size(u64::try_from(bytes).unwrap_or(0));
    match (part.current, part.total) {
        (0, 0) => part.id.clone(),
        (current, 0) => format!("{} {}", part.id, size(current)),
        (current, total) => format!("{} {} of {}", part.id, size(current), size(total)),
    }
}
