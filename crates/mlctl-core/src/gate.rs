//! The gate: whether an instance runs, is skipped or is cancelled. The one place where that is decided.
//!
//! The rule does not know in which order things happened: an instance is cancelled if anything it depends on failed
//! or was cancelled, otherwise skipped if anything it depends on was skipped or its own `when` is false, otherwise it
//! runs (or an earlier result is reused). What "depends" means differs by the kind of [`Need`]:
//!
//! | need       | failed or cancelled | ... and allowed to | skipped         | no such instance |
//! |------------|---------------------|--------------------|-----------------|------------------|
//! | `One`      | cancels             | cancels, allowed   | skips           | fails            |
//! | `Optional` | cancels             | cancels, allowed   | nothing         | nothing          |
//! | `Gather`   | cancels             | left out           | left out; skips when all are | an empty directory |
//! | `First`    | cancels             | cancels, allowed   | skips when none was produced | skips when none was produced |
//! | `Order`    | cancels             | cancels, allowed   | nothing         | nothing          |
//!
//! "Allowed" is an instance of an `allow-failure` step that failed, and what was cancelled because of only that.
//! A `finally` step takes whatever there is: only its own `when` skips it.

use crate::graph::InstanceIx;

/// How an instance that another depends on ended, as far as the gate cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// Succeeded or cached.
    Produced,
    /// Skipped.
    Skipped,
    /// Failed or cancelled.
    Failed {
        /// Whether only failures that are allowed made it so.
        allowed: bool,
    },
}

/// How a set of instances ended; the first of each kind, in matrix order, is who is blamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// How many there are.
    pub members: u32,
    /// How many succeeded or were cached.
    pub produced: u32,
    /// The first that was skipped.
    pub skipped: Option<InstanceIx>,
    /// The first that failed and may not.
    pub failed: Option<InstanceIx>,
    /// The first that failed and may.
    pub allowed: Option<InstanceIx>,
}

impl Summary {
    /// Of one instance.
    pub fn of(instance: InstanceIx, upstream: Upstream) -> Self {
        let one = Self { members: 1, ..Self::default() };
        match upstream {
            Upstream::Produced => Self { produced: 1, ..one },
            Upstream::Skipped => Self { skipped: Some(instance), ..one },
            Upstream::Failed { allowed: false } => Self { failed: Some(instance), ..one },
            Upstream::Failed { allowed: true } => Self { allowed: Some(instance), ..one },
        }
    }

    /// Of these and then `others`.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self {
            members: self.members + others.members,
            produced: self.produced + others.produced,
            skipped: self.skipped.or(others.skipped),
            failed: self.failed.or(others.failed),
            allowed: self.allowed.or(others.allowed),
        }
    }
}

/// In which way an instance depends on others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// What they made must be there: a plain input, a value in `when`, the source of an axis.
    One,
    /// It may be missing.
    Optional,
    /// A gather; `optional`: all may be skipped.
    Gather {
        /// Whether the input may be missing.
        optional: bool,
    },
    /// The first that was produced; `optional`: none may be.
    First {
        /// Whether the input may be missing.
        optional: bool,
    },
    /// Order only.
    Order,
}

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It runs, or a result is reused; a placeholder expands.
    Run,
    /// It is skipped because this one was.
    Skip(InstanceIx),
    /// It is skipped because none of the candidates of the need at this place exists.
    SkipNone(usize),
    /// It is skipped because its own `when` is false.
    SkipWhen,
    /// It is cancelled because this one failed.
    Cancel {
        /// Who failed or was cancelled.
        because: InstanceIx,
        /// Whether only allowed failures made it so.
        allowed: bool,
    },
    /// It fails: the need at this place, counted from 0, has no instance to meet it.
    Missing(usize),
}

/// Decides, from how everything it depends on ended. `when` is asked only if nothing else stands against running.
pub fn gate<E>(
    needs: impl Iterator<Item = (Need, Summary)>,
    finally: bool,
    when: impl FnOnce() -> Result<bool, E>,
) -> Result<Decision, E> {
    let mut allowed = None;
    let mut skip = None;
    let mut missing = None;
    for (place, (need, summary)) in needs.enumerate().filter(|_| !finally) {
        if let Some(because) = summary.failed {
            return Ok(Decision::Cancel { because, allowed: false });
        }
        if !matches!(need, Need::Gather { .. }) {
            allowed = allowed.or(summary.allowed);
        }
        let none = summary.produced == 0;
        let skipped = match need {
            Need::One if summary.members == 0 => {
                missing = missing.or(Some(place));
                None
            }
            Need::One => summary.skipped.map(Decision::Skip),
            Need::Gather { optional: false } if none && summary.allowed.is_none() => {
                summary.skipped.map(Decision::Skip)
            }
            Need::First { optional: false } if none => {
                Some(summary.skipped.map_or(Decision::SkipNone(place), Decision::Skip))
            }
            Need::Gather { .. } | Need::First { .. } | Need::Optional | Need::Order => None,
        };
        skip = skip.or(skipped);
    }
    if let Some(because) = allowed {
        return Ok(Decision::Cancel { because, allowed: true });
    }
    if let Some(missing) = missing {
        return Ok(Decision::Missing(missing));
    }
    match skip {
        Some(skip) => Ok(skip),
        None => Ok(if when()? { Decision::Run } else { Decision::SkipWhen }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Upstream = Upstream::Produced;
    const SKIPPED: Upstream = Upstream::Skipped;
    const FAILED: Upstream = Upstream::Failed { allowed: false };
    const ALLOWED: Upstream = Upstream::Failed { allowed: true };

    fn decide(needs: &[(Need, &[Upstream])], finally: bool, when: bool) -> Decision {
        let mut ix = 0;
        let summaries = needs.iter().map(|(need, members)| {
            let each = members.iter().map(|&member| {
                ix += 1;
                Summary::of(InstanceIx(ix), member)
            });
            (*need, each.fold(Summary::default(), Summary::and))
        });
        gate(summaries, finally, || Ok::<_, ()>(when)).expect("a decision")
    }

    fn cancel(because: u32, allowed: bool) -> Decision {
        Decision::Cancel { because: InstanceIx(because), allowed }
    }

    #[test]
    fn the_table_holds() {
        use Decision::{Missing, Run, Skip, SkipNone};
        let gather = Need::Gather { optional: false };
        let first = Need::First { optional: false };
        for (need, failed, allowed, skipped, none) in [
            (Need::One, cancel(1, false), cancel(1, true), Skip(InstanceIx(1)), Missing(0)),
            (Need::Optional, cancel(1, false), cancel(1, true), Run, Run),
            (gather, cancel(1, false), Run, Skip(InstanceIx(1)), Run),
            (Need::Gather { optional: true }, cancel(1, false), Run, Run, Run),
            (first, cancel(1, false), cancel(1, true), Skip(InstanceIx(1)), SkipNone(0)),
            (Need::First { optional: true }, cancel(1, false), cancel(1, true), Run, Run),
            (Need::Order, cancel(1, false), cancel(1, true), Run, Run),
        ] {
            assert_eq!(decide(&[(need, &[FAILED])], false, true), failed, "{need:?}");
            assert_eq!(decide(&[(need, &[ALLOWED])], false, true), allowed, "{need:?}");
            assert_eq!(decide(&[(need, &[SKIPPED])], false, true), skipped, "{need:?}");
            assert_eq!(decide(&[(need, &[])], false, true), none, "{need:?}");
            assert_eq!(decide(&[(need, &[MADE])], false, true), Run, "{need:?}");
            assert_eq!(decide(&[(need, &[FAILED])], true, true), Run, "finally, {need:?}");
        }
    }

    #[test]
    fn a_gather_is_skipped_only_when_all_its_members_are() {
        let gather = |members: &[Upstream]| decide(&[(Need::Gather { optional: false }, members)], false, true);
        assert_eq!(gather(&[SKIPPED, MADE]), Decision::Run);
        assert_eq!(gather(&[SKIPPED, ALLOWED]), Decision::Run);
        assert_eq!(gather(&[SKIPPED, SKIPPED]), Decision::Skip(InstanceIx(1)));
        assert_eq!(gather(&[SKIPPED, ALLOWED, FAILED]), cancel(3, false));
    }

    #[test]
    fn a_failure_comes_before_everything_and_one_that_may_not_before_one_that_may() {
        let needs: &[(Need, &[Upstream])] =
            &[(Need::One, &[SKIPPED]), (Need::One, &[]), (Need::One, &[ALLOWED]), (Need::Order, &[FAILED])];
        assert_eq!(decide(needs, false, false), cancel(3, false));
        assert_eq!(decide(&needs[..3], false, false), cancel(2, true));
        assert_eq!(decide(&needs[..2], false, false), Decision::Missing(1));
        assert_eq!(decide(&needs[..1], false, false), Decision::Skip(InstanceIx(1)));
        assert_eq!(decide(&[], false, false), Decision::SkipWhen);
    }
}
