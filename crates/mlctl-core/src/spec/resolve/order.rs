//! The order of the steps, and the cycles that speak against one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use super::{Resolver, step_ix};
use crate::diag::{Diag, Span};
use crate::spec::words::quote;
use crate::workflow::StepIx;

impl Resolver<'_, '_> {
    /// Each step after all that it waits for; of those free to move the first written, `finally` steps last.
    pub(super) fn order(&mut self) -> Option<Vec<StepIx>> {
        let count = self.drafts.len();
        let mut waiting = vec![0_usize; count];
        let mut dependents = vec![Vec::new(); count];
        for (ix, producers) in self.dependencies.iter().enumerate() {
            for (producer, _) in producers {
                waiting[ix] += 1;
                dependents[*producer].push(ix);
            }
        }
        let rank = |ix: usize| Reverse((self.drafts[ix].common.finally, ix));
        let mut ready: BinaryHeap<_> = (0..count).filter(|ix| waiting[*ix] == 0).map(rank).collect();
        let mut order = Vec::with_capacity(count);
        while let Some(Reverse((_, ix))) = ready.pop() {
            order.push(step_ix(ix));
            for dependent in &dependents[ix] {
                waiting[*dependent] -= 1;
                if waiting[*dependent] == 0 {
                    ready.push(rank(*dependent));
                }
            }
        }
        if order.len() == count {
            return Some(order);
        }
        self.report_cycles(&waiting);
        None
    }

    /// Walks back from each step that still waits until a step comes twice. Every step is walked through once.
    fn report_cycles(&mut self, waiting: &[usize]) {
        let mut walked = HashSet::new();
        for start in (0..waiting.len()).filter(|ix| waiting[*ix] > 0) {
            let mut path: Vec<(usize, Span)> = Vec::new();
            let mut position = std::collections::HashMap::new();
            let mut at = start;
            while walked.insert(at) {
                // What still waits waits for something that still waits.
                let Some((next, span)) = self.dependencies[at].iter().find(|(producer, _)| waiting[*producer] > 0)
                else {
                    break;
                };
                position.insert(at, path.len());
                path.push((at, *span));
                at = *next;
            }
            if let Some(begin) = position.get(&at) {
                self.report_cycle(&path[*begin..]);
            }
        }
    }

    fn report_cycle(&mut self, cycle: &[(usize, Span)]) {
        const SHOWN: usize = 12;
        let Some((first, span)) = cycle.first() else { return };
        let mut names: Vec<_> = cycle.iter().take(SHOWN).map(|(ix, _)| self.drafts[*ix].name).collect();
        if cycle.len() > SHOWN {
            names.push("...");
        }
        names.push(self.drafts[*first].name);
        let message = if cycle.len() == 1 {
            format!("{} waits for itself", quote(names[0]))
        } else {
            format!("these steps wait for each other: {}", names.join(" -> "))
        };
        let mut diag =
            Diag::error("cycle", *span, message).label(format!("{} waits for it", quote(self.drafts[*first].name)));
        for (ix, span) in cycle.iter().skip(1).take(SHOWN) {
            diag = diag.related(*span, format!("{} waits for it", quote(self.drafts[*ix].name)));
        }
        let help =
            if cycle.len() == 1 { "remove it" } else { "`a -> b` means that `a` waits for `b`: one of them must not" };
        self.reader.push(diag.help(help));
    }
}
