//! What begins: attempts, with all that they are given.

use std::time::Duration;

use mlctl_core::action::StepFailure;
use mlctl_core::digest::Digest;
use mlctl_core::event::{Event, Reason, Recorded, Status};
use mlctl_core::graph::InstanceIx;
use mlctl_core::records::{self, Mark};
use mlctl_core::scheduler::{Input, State};
use mlctl_exec::Place;

use super::super::WORK;
use super::super::attempt::{Attempt, now};
use super::super::history::{self, Past};
use super::super::marks::Marks;
use super::{News, Pod};
use crate::protocol::{Trouble, Will};

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);

impl Pod<'_> {
    /// Begins an attempt, unless earlier pods did or something keeps it from starting.
    pub(super) fn launch(&mut self, ix: InstanceIx, attempt: u32) -> Result<(), Trouble> {
        // A record may have overtaken it.
        if self.scheduler.instance(ix).state() != State::Running {
            return Ok(());
        }
        if !self.histories.contains_key(&ix) {
            let history = history::of(&self.unit, &self.scheduler.instance(ix).id())?;
            self.histories.insert(ix, history);
        }
        let history = &self.histories[&ix];
        if let Some(past) = history.get(&attempt).cloned() {
            self.past = history.keys().any(|later| *later > attempt);
            self.apply(Input::Started { ix, attempt })?;
            self.apply(match past {
                Past::Failed(failure) => Input::Finished { ix, attempt, result: Err(failure) },
                Past::Lost => Input::Lost { ix, attempt },
            })?;
            self.past = false;
            return Ok(());
        }
        let marks = Marks::ask(&self.unit.connection)?;
        if self.heed(marks)? {
            return self.apply(Input::NotBegun { ix, attempt });
        }
        let begun = self.attempt(ix, attempt);
        let (unit, news) = (self.unit.clone(), self.sender.clone());
        std::thread::spawn(move || {
            let outcome = begun.run(&unit, &mut || drop(news.send(News::Started)));
            // Nobody listens any more where the pod is ending.
            let _ = news.send(News::Ended(outcome));
        });
        self.running = Some((ix, attempt));
        Ok(())
    }

    fn attempt(&self, ix: InstanceIx, attempt: u32) -> Attempt {
        let unit = &self.unit;
        let task = self.scheduler.task(ix, attempt);
        let root = unit.store.root();
        let checkpoint = task.key.unwrap_or_else(|| Digest::of(task.instance.as_bytes()));
        let place = Place {
            work: unit.lease.path().join(WORK),
            log: unit.at.join(records::log_parts(&task.instance, attempt)),
            partial: None,
            environment: unit.surroundings.realised(),
            authorities: None,
            secrets: unit.surroundings.secrets(&task),
            caches: root.join("caches"),
            checkpoint: root.join("checkpoints").join(checkpoint.to_hex()),
            replace: self.scheduler.instance(ix).forced(),
            sandbox: true,
            grace: GRACE,
            components: self.scheduler.components(ix),
        };
        Attempt { will: self.will(ix, attempt), task, place }
    }

    /// What is recorded if the attempt ends with its container: hardly anything but want of memory does that.
    fn will(&self, ix: InstanceIx, attempt: u32) -> Will {
        let (instance, step) = (self.scheduler.instance(ix), self.scheduler.instance(ix).step());
        let failures = self.failures.get(&ix).copied().unwrap_or(0) + 1;
        let (mark, event) = if failures > step.retry.limit {
            let event = Event::InstanceFinished {
                instance: instance.id(),
                status: Status::Failed,
                reason: step.allow_failure.then_some(Reason::FailureAllowed),
                attempts: attempt,
                key: instance.key(),
                components: self.scheduler.components(ix),
                result: None,
                failure: Some(StepFailure::OutOfMemory { limit: step.resources.memory }),
            };
            (Mark::Finished, event)
        } else {
            let event = Event::InstanceRetrying {
                instance: instance.id(),
                attempt,
                failure: Some(StepFailure::OutOfMemory { limit: step.resources.memory }),
                delay_millis: 0,
            };
            (Mark::Failed(attempt), event)
        };
        Will { name: mark.name(&instance.id()), record: Recorded { at: now(), event } }
    }
}
