//! What is recorded, as far as it matters to a unit.

use std::collections::BTreeMap;

use mlctl_core::action::StepFailure;
use mlctl_core::event::{Event, Reason, Status};
use mlctl_core::graph::InstanceIx;
use mlctl_core::records::{self, Mark};
use mlctl_core::scheduler::{Input, State};

use super::super::marks::Marks;
use super::Pod;
use crate::protocol::Trouble;

/// The most records that are asked for at once.
const AT_ONCE: usize = 1000;

impl Pod<'_> {
    /// Asks for the records of what the unit depends on, as far as that is known by now, and of its own instances.
    pub(super) fn learn(&mut self) -> Result<(), Trouble> {
        loop {
            let needed = self.unit.share.needed(self.scheduler.plan(), &self.unit.part.reports);
            let new: Vec<InstanceIx> = needed.into_iter().filter(|ix| self.asked.insert(*ix)).collect();
            for some in new.chunks(AT_ONCE) {
                self.ask(some)?;
            }
            let lost: Vec<InstanceIx> = self.without.iter().copied().filter(|ix| self.is_lost(*ix)).collect();
            let marks = if lost.is_empty() { Marks::default() } else { Marks::ask(&self.unit.connection)? };
            for ix in &lost {
                self.without.remove(ix);
                self.lose(*ix, marks.cancel.clone())?;
            }
            if new.is_empty() && lost.is_empty() {
                return Ok(());
            }
        }
    }

    fn ask(&mut self, instances: &[InstanceIx]) -> Result<(), Trouble> {
        let names = instances.iter().map(|ix| Mark::Finished.name(&self.scheduler.graph().id(*ix))).collect();
        let found = self.unit.connection.records(names)?;
        for (ix, text) in instances.iter().zip(found) {
            match text {
                Some(text) => {
                    let recorded = records::decode_event(text.as_bytes());
                    let recorded = recorded.map_err(|error| Trouble::once(format!("cannot read a record: {error}")))?;
                    if self.is_own(*ix) {
                        self.stop_others(&recorded.event)?;
                    }
                    self.apply(Input::Replay(recorded.event))?;
                }
                None if !self.is_own(*ix) => drop(self.without.insert(*ix)),
                None => {}
            }
        }
        Ok(())
    }

    /// Whether something ran elsewhere, by all that is known, and nobody recorded what became of it.
    fn is_lost(&self, ix: InstanceIx) -> bool {
        let waits = self.lookups.iter().any(|(waiting, _)| *waiting == ix);
        !waits && matches!(self.scheduler.instance(ix).state(), State::Ready)
    }

    /// Whoever ran it is gone: it was in its turn before this pod.
    fn lose(&mut self, ix: InstanceIx, cancelled: Option<Reason>) -> Result<(), Trouble> {
        let instance = self.scheduler.instance(ix);
        let allowed = instance.step().allow_failure.then_some(Reason::FailureAllowed);
        let (status, reason) = match cancelled {
            Some(reason) => (Status::Cancelled, Some(reason)),
            None => (Status::Failed, allowed),
        };
        let failure =
            (status == Status::Failed).then(|| StepFailure::Executor { reason: "its pod was lost".to_owned() });
        self.apply(Input::Replay(Event::InstanceFinished {
            instance: self.scheduler.instance(ix).id(),
            status,
            reason,
            attempts: 0,
            key: None,
            components: BTreeMap::new(),
            result: None,
            failure,
        }))
    }
}
