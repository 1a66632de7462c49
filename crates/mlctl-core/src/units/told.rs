//! What units report, once they are done.

use super::{Report, Share};
use crate::condition::eval;
use crate::event::Status;
use crate::graph::{InstanceIx, Members};
use crate::scheduler::{Instance, Scheduler};
use crate::value::Value;
use crate::workflow::{Expr, StepIx};

impl Report {
    /// What is reported by who has done its `share`. A fan-out that is counted has `pods` at most; `None`: one for each
    /// instance.
    pub fn told(&self, scheduler: &Scheduler, share: &Share, pods: Option<u32>) -> String {
        match self {
            Self::Made => made(scheduler, share).is_some().to_string(),
            Self::Condition { of, part } => {
                (made(scheduler, share).is_some() && holds(scheduler, share, *of, part)).to_string()
            }
            Self::Pods { of } => count(scheduler, *of, pods).to_string(),
        }
    }
}

/// The last instance, if it made something: only units with one instance of each step report.
fn made<'a>(scheduler: &'a Scheduler, share: &Share) -> Option<Instance<'a>> {
    let last = scheduler.instance(*share.instances(scheduler.graph()).last()?);
    matches!(last.status(), Some(Status::Succeeded | Status::Cached)).then_some(last)
}

/// Whether a part of another step's condition holds. One that cannot be decided is decided where it matters.
fn holds(scheduler: &Scheduler, share: &Share, of: StepIx, part: &Expr) -> bool {
    let Some(when) = &scheduler.plan().step(of).when else { return true };
    let value = |name: &Expr| -> Option<Value> {
        let Expr::Output(index) = name else { return None };
        let from = when.refs.get(*index)?;
        let output = &scheduler.plan().step(from.step).outputs[from.output].name;
        let is_its = |ix: &InstanceIx| scheduler.graph().step(*ix) == from.step;
        let own = share.instances(scheduler.graph()).into_iter().find(is_its)?;
        scheduler.instance(own).result()?.values.get(output).cloned()
    };
    eval(part, &value).unwrap_or(true)
}

/// How many pods the instances of another step need. One, to tell, where it cannot have any.
fn count(scheduler: &Scheduler, of: StepIx, pods: Option<u32>) -> u32 {
    match scheduler.graph().members(of) {
        Members::Known { len, .. } => len.min(pods.unwrap_or(u32::MAX)),
        Members::Unknown(placeholder) | Members::StoodIn(placeholder) => {
            u32::from(scheduler.instance(placeholder).status() == Some(Status::Failed))
        }
        Members::Absent => 0,
    }
}
