//! What a pod tells the cluster's engine, which knows nothing of instances: a file each.

use std::fs;

use mlctl_core::condition::eval;
use mlctl_core::event::Status;
use mlctl_core::graph::{InstanceIx, Members};
use mlctl_core::records::letter;
use mlctl_core::scheduler::{Instance, Scheduler};
use mlctl_core::units::Report;
use mlctl_core::value::Value;
use mlctl_core::workflow::{Expr, StepIx};

use super::{OUT, Unit};
use crate::protocol::Trouble;

/// Writes how the unit's instances ended, and what others wait for.
pub(super) fn write(unit: &Unit, scheduler: &Scheduler) -> Result<(), Trouble> {
    let out = unit.at.join(OUT);
    let instances = unit.share.instances(scheduler.graph());
    let letters = instances.iter().filter_map(|ix| scheduler.instance(*ix).status()).map(letter).collect();
    let mut files: Vec<(String, String)> = vec![("r".to_owned(), letters)];
    files.extend((0..).zip(&unit.part.reports).map(|(place, report)| reported(unit, scheduler, place, report)));
    let write = || {
        fs::create_dir_all(&out)?;
        files.iter().try_for_each(|(name, text)| fs::write(out.join(name), text))
    };
    write().map_err(|error: std::io::Error| Trouble::once(format!("cannot write to {}: {error}", out.display())))
}

fn reported(unit: &Unit, scheduler: &Scheduler, place: usize, report: &Report) -> (String, String) {
    match report {
        Report::Made => (format!("c{place}"), made(unit, scheduler).is_some().to_string()),
        Report::Condition { of, part } => {
            let holds = made(unit, scheduler).is_some() && holds(unit, scheduler, *of, part);
            (format!("c{place}"), holds.to_string())
        }
        Report::Pods { of } => (format!("w{place}"), pods(unit, scheduler, *of).to_string()),
    }
}

/// The last instance, if it made something: only units with one instance of each step report.
fn made<'a>(unit: &Unit, scheduler: &'a Scheduler) -> Option<Instance<'a>> {
    let last = scheduler.instance(*unit.share.instances(scheduler.graph()).last()?);
    matches!(last.status(), Some(Status::Succeeded | Status::Cached)).then_some(last)
}

/// Whether a part of another step's condition holds. One that cannot be decided is decided where it matters.
fn holds(unit: &Unit, scheduler: &Scheduler, of: StepIx, part: &Expr) -> bool {
    let Some(when) = &unit.plan.step(of).when else { return true };
    let value = |name: &Expr| -> Option<Value> {
        let Expr::Output(index) = name else { return None };
        let from = when.refs.get(*index)?;
        let output = &unit.plan.step(from.step).outputs[from.output].name;
        let is_its = |ix: &InstanceIx| scheduler.graph().step(*ix) == from.step;
        let own = unit.share.instances(scheduler.graph()).into_iter().find(is_its)?;
        scheduler.instance(own).result()?.values.get(output).cloned()
    };
    eval(part, &value).unwrap_or(true)
}

/// How many pods the instances of another step need. One, to tell, where it cannot have any.
fn pods(unit: &Unit, scheduler: &Scheduler, of: StepIx) -> u32 {
    match scheduler.graph().members(of) {
        Members::Known { len, .. } => len.min(unit.submission.pods.unwrap_or(u32::MAX)),
        Members::Unknown(placeholder) | Members::StoodIn(placeholder) => {
            u32::from(scheduler.instance(placeholder).status() == Some(Status::Failed))
        }
        Members::Absent => 0,
    }
}
