//! Many attempts at once, on one executor.

use std::thread;

use mlctl_core::action::StepFailure;
use mlctl_core::digest::Digest;
use mlctl_exec::Cancel;

use crate::support::{Bench, Builder, script};

/// Steps that succeed, fail, write into their sources, leave children and run into their limit, all mixed: each gets
/// its own result, and sources that nobody touched.
#[test]
fn attempts_do_not_meet() {
    let bench = Bench::new();
    let trees = [bench.sources(&[("a", "x")]), bench.sources(&[("a", "x"), ("b/c", "y")])];
    let work = |worker: usize| {
        for step in 0..25 {
            let number = worker * 100 + step;
            let mischief = ["true", "echo z > a", "sleep 9 &", "exit 4", "mkdir new", "sleep 9"][step % 6];
            let text = format!("test \"$(cat a)\" = x; test ! -e new; echo {number} > $MLCTL_OUTPUT_N; {mischief}");
            let mut task = script(&bench, &text).sources(trees[step % 2]).output("n").timeout(30_000);
            task.key = Some(Digest::of(&number.to_ne_bytes()));
            if step % 6 == 5 {
                task = task.timeout(50);
            }
            let done = bench.run(&task);
            match step % 6 {
                3 => assert_eq!(done.failure(), &StepFailure::Exit { code: 4 }),
                5 => assert_eq!(done.failure(), &StepFailure::TimedOut { limit_millis: 50 }),
                _ => assert_eq!(bench.output(&done, "n"), format!("{number}\n").into_bytes()),
            }
        }
    };
    thread::scope(|scope| (0..4).for_each(|worker| drop(scope.spawn(move || work(worker)))));
}

#[test]
fn a_cancelled_run_ends_every_attempt_whenever_it_comes() {
    let bench = Bench::new();
    for millis in [0, 1, 2, 4, 8, 16] {
        let cancel = Cancel::new().unwrap();
        thread::scope(|scope| {
            let attempts = [(), ()].map(|()| {
                scope.spawn(|| bench.executor.run(&script(&bench, "sleep 60"), &bench.place(), &cancel, &mut || {}))
            });
            thread::sleep(std::time::Duration::from_millis(millis));
            cancel.cancel();
            for attempt in attempts {
                assert_eq!(attempt.join().unwrap().result, Err(StepFailure::Cancelled));
            }
        });
    }
}
