//! What a pod tells the cluster's engine, which knows nothing of instances: a file each.

use std::fs;

use mlctl_core::records::letter;
use mlctl_core::scheduler::Scheduler;
use mlctl_core::units::Report;

use super::{OUT, Unit};
use crate::protocol::Trouble;

/// Writes how the unit's instances ended, and what others wait for.
pub(super) fn write(unit: &Unit, scheduler: &Scheduler) -> Result<(), Trouble> {
    let out = unit.at.join(OUT);
    let instances = unit.share.instances(scheduler.graph());
    let letters = instances.iter().filter_map(|ix| scheduler.instance(*ix).status()).map(letter).collect();
    let mut files: Vec<(String, String)> = vec![("r".to_owned(), letters)];
    for (place, report) in (0..).zip(&unit.part.reports) {
        let kind = if matches!(report, Report::Pods { .. }) { 'w' } else { 'c' };
        files.push((format!("{kind}{place}"), unit.submission.told(scheduler, &unit.share, report)));
    }
    let write = || {
        fs::create_dir_all(&out)?;
        files.iter().try_for_each(|(name, text)| fs::write(out.join(name), text))
    };
    write().map_err(|error: std::io::Error| Trouble::once(format!("cannot write to {}: {error}", out.display())))
}
