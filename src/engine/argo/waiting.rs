//! What a run waits for is said while it lasts: each thing once, when it has lasted for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mlctl_core::diag::{Diag, Source, render};
use mlctl_core::submission::Submission;
use mlctl_core::workflow::Workflow;

use super::explain::{Kind, Wait};
use crate::error::CommandError;

/// So long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long may last what nobody but a person can change.
const IN_VAIN: Duration = Duration::from_secs(60);
/// What goes on is said again.
const AGAIN: Duration = Duration::from_secs(300);

/// What has been waited for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Since when, and when that was said.
    since: HashMap<(Vec<String>, Kind), (Instant, Option<Instant>)>,
    now: Vec<Wait>,
    ignored: Option<(Instant, bool)>,
    trouble: Option<Instant>,
}

impl Waiting {
    /// Says what has lasted long enough.
    pub(super) fn tell(
        &mut self,
        waits: &[Wait],
        (submission, workflow): (&Submission, &Workflow),
        say: &mut dyn FnMut(&str),
    ) {
        self.trouble = None;
        self.since.retain(|key, _| waits.iter().any(|wait| key_of(wait) == *key));
        self.now = waits.to_vec();
        let now = Instant::now();
        for wait in waits {
            let (since, said) = self.since.entry(key_of(wait)).or_insert((now, None));
            let due = said.map_or(*since + PATIENCE, |said| said + AGAIN);
            if due <= now {
                *said = Some(now);
                say(finding(wait, submission, workflow).trim_end());
            }
        }
    }

    /// What has been waited for in vain for too long, if nothing is left that is not.
    pub(super) fn in_vain(&self) -> Vec<Wait> {
        let lasts = |wait: &&Wait| self.since.get(&key_of(wait)).is_some_and(|(since, _)| since.elapsed() > IN_VAIN);
        self.now.iter().filter(|wait| wait.in_vain).filter(lasts).cloned().collect()
    }

    /// Whether anybody has taken up the workflow.
    pub(super) fn taken_up(&mut self, taken_up: bool, namespace: &str, say: &mut dyn FnMut(&str)) {
        if taken_up {
            self.ignored = None;
            return;
        }
        let (since, said) = self.ignored.get_or_insert((Instant::now(), false));
        if !*said && since.elapsed() > PATIENCE {
            *said = true;
            say(&format!(
                "waiting: Argo has not taken up the workflow: does its controller run, and look after the namespace `{namespace}`?"
            ));
        }
    }

    /// Something does not answer. It is asked again; meanwhile that is said from time to time.
    pub(super) fn trouble(&mut self, error: &CommandError, say: &mut dyn FnMut(&str)) {
        if self.trouble.is_none_or(|said| said.elapsed() > AGAIN) {
            self.trouble = Some(Instant::now());
            let hints: String = error.hints.iter().map(|hint| format!("\n  {hint}")).collect();
            say(&format!("{error}: it is tried again, and the run goes on meanwhile{hints}"));
        }
    }
}

fn key_of(wait: &Wait) -> (Vec<String>, Kind) {
    (wait.steps.clone(), wait.kind)
}

/// A wait at its place in the spec.
fn finding(wait: &Wait, submission: &Submission, workflow: &Workflow) -> String {
    let source = Source { name: "mlctl.toml".to_owned(), text: submission.spec.clone() };
    let step = workflow.steps.iter().find(|step| wait.steps.first() == Some(&step.name));
    let name = wait.steps.join("`, `");
    let message = format!("`{name}` waits: {}", wait.what);
    let diag = Diag::warning("waiting", step.map(|step| step.span).unwrap_or_default(), message);
    let diag = wait.help.into_iter().fold(diag, Diag::help);
    render(&source, &[diag], true)
}
