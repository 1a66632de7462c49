//! The order in which is told what pods recorded.

use mlctl_core::event::Recorded;

/// Tells what can be told by now, and keeps the rest: `tell` gives whether it was its turn. A listing of the store may
/// show what came of an instance before it shows what that depends on, and clocks of nodes differ.
pub(super) fn in_turn<E>(
    held: &mut Vec<Recorded>,
    mut tell: impl FnMut(&Recorded) -> Result<bool, E>,
) -> Result<(), E> {
    loop {
        let before = held.len();
        for recorded in std::mem::take(held) {
            if !tell(&recorded)? {
                held.push(recorded);
            }
        }
        if held.is_empty() || held.len() == before {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use mlctl_core::event::Event;

    use super::*;

    #[test]
    fn what_depends_on_something_is_told_after_it() {
        let recorded = |at: u64, instance: &str| Recorded {
            at,
            event: Event::InstanceStarted { instance: instance.to_owned(), attempt: 1, key: None },
        };
        let needs = |instance: &str| -> &[&str] {
            match instance {
                "sum" => &["part@i=1", "part@i=2"],
                "report" => &["sum"],
                _ => &[],
            }
        };
        let mut told: Vec<String> = Vec::new();
        let mut held = Vec::new();
        let mut listed = |new: Vec<Recorded>| {
            held.extend(new);
            in_turn(&mut held, |recorded| {
                let Event::InstanceStarted { instance, .. } = &recorded.event else { return Ok::<_, Infallible>(true) };
                let due = needs(instance).iter().all(|need| told.iter().any(|known| known == need));
                if due {
                    told.push(instance.clone());
                }
                Ok(due)
            })
            .unwrap();
            told.clone()
        };
        // The listing began before the second part ended, and showed what came after that.
        assert_eq!(listed(vec![recorded(1, "part@i=1"), recorded(4, "report"), recorded(5, "sum")]), ["part@i=1"]);
        assert_eq!(listed(vec![recorded(2, "part@i=2")]), ["part@i=1", "part@i=2", "sum", "report"]);
    }
}
