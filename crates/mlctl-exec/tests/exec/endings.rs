//! How a command ends, and what is told of it.

use std::thread;
use std::time::{Duration, Instant};

use mlctl_core::action::StepFailure;
use mlctl_exec::{Cancel, Place};

use crate::support::{Bench, Builder, Done, command, script};

fn not_started(done: &Done) -> &str {
    assert!(!done.started);
    match done.failure() {
        StepFailure::NotStarted { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn statuses_and_signals_are_told_apart() {
    let bench = Bench::new();
    assert_eq!(bench.run(&script(&bench, "exit 3")).failure(), &StepFailure::Exit { code: 3 });
    assert_eq!(bench.run(&script(&bench, "kill -SEGV $$")).failure(), &StepFailure::Signal { signal: 11 });
    assert_eq!(bench.run(&script(&bench, "kill -KILL $$")).failure(), &StepFailure::Signal { signal: 9 });
    assert_eq!(bench.run(&script(&bench, "false; true")).failure(), &StepFailure::Exit { code: 1 });
}

#[test]
fn what_cannot_be_started_says_why() {
    let bench = Bench::new();
    let reason = |argv: &[&str]| not_started(&bench.run(&command(&bench, argv))).to_owned();
    assert_eq!(
        reason(&["nonesuch", "x"]),
        "`nonesuch` was not found on the step's PATH: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    );
    assert_eq!(reason(&["/nonesuch"]), "`/nonesuch` does not exist");
    assert_eq!(reason(&["/etc"]), "`/etc` is a directory");
    assert_eq!(reason(&["/etc/passwd"]), "`/etc/passwd` is not executable");
    assert_eq!(reason(&[""]), "the command is empty");
    assert_eq!(reason(&[]), "the command is empty");
    assert_eq!(reason(&["true", "a\0b"]), "an argument or an environment variable holds a NUL byte");
    assert!(
        reason(&["true", "x", &"x".repeat(200_000)]).starts_with("argument 2 has 200000 bytes, and the system takes")
    );
    let long = "x".repeat(100_000);
    let many = [vec!["true"], vec![long.as_str(); 200]].concat();
    assert!(reason(&many).starts_with("arguments and environment variables together"));
}

#[test]
fn a_program_of_the_sources_runs_and_a_broken_one_says_why() {
    let bench = Bench::new();
    let sources = bench.sources(&[("bad", "#!/nonesuch/python -u\n"), ("none", "\x7fELF nonsense")]);
    let run = |name: &str| {
        // Sources have no executable bits here: a copy gets one.
        let copy = bench.path(name);
        std::fs::write(&copy, if name == "bad" { "#!/nonesuch/python -u\n" } else { "\u{7f}nonsense" }).unwrap();
        std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        bench.run(&command(&bench, &[copy.to_str().unwrap()]).sources(sources))
    };
    let bad = run("bad");
    assert!(not_started(&bad).ends_with("/bad` (`/nonesuch/python`) was not found"), "{bad:?}");
    let none = run("none");
    assert!(not_started(&none).contains("neither a program of this machine's kind nor a script"), "{none:?}");
    let relative = bench.run(&command(&bench, &["./bad"]).sources(sources));
    assert!(not_started(&relative).ends_with("/work/./bad` is not executable"), "{relative:?}");
}

#[test]
fn a_time_limit_ends_the_whole_tree() {
    let bench = Bench::new();
    let begun = Instant::now();
    // So long a grace that only a KILL could take it, however busy the machine is.
    let place = Place { grace: Duration::from_secs(60), ..bench.place() };
    let done = bench.run_at(&script(&bench, "sleep 300 & sleep 301").timeout(100), &place);
    assert_eq!(done.failure(), &StepFailure::TimedOut { limit_millis: 100 });
    assert!(begun.elapsed() < place.grace, "TERM was enough: {:?}", begun.elapsed());
    assert!(done.report.millis >= 100);
}

#[test]
fn what_ignores_term_is_killed_after_the_grace() {
    let bench = Bench::new();
    let begun = Instant::now();
    let text = "set +e; trap 'echo asked' TERM; while true; do sleep 60 & wait; done";
    let done = bench.run(&script(&bench, text).timeout(2000));
    assert_eq!(done.failure(), &StepFailure::TimedOut { limit_millis: 2000 });
    assert!(begun.elapsed() >= Duration::from_millis(2300));
    assert_eq!(done.log, "asked\n");
}

#[test]
fn children_get_the_grace_too() {
    let bench = Bench::new();
    let text = "sh -c 'trap \"sleep 0.1; echo saved; exit\" TERM; echo ready; while true; do sleep 0.01; done' & wait";
    let place = Place { grace: Duration::from_secs(60), ..bench.place() };
    let log = bench.run_at(&script(&bench, text).timeout(2000), &place).log;
    assert!(log.ends_with("saved\n"), "{log}");
}

#[test]
fn cancelling_ends_all_that_run() {
    let bench = Bench::new();
    let cancel = Cancel::new().unwrap();
    thread::scope(|scope| {
        let run = || bench.executor.run(&script(&bench, "sleep 60"), &bench.place(), &cancel, &mut || {});
        let attempts = [scope.spawn(run), scope.spawn(run)];
        thread::sleep(Duration::from_millis(100));
        cancel.cancel();
        for attempt in attempts {
            assert_eq!(attempt.join().unwrap().result, Err(StepFailure::Cancelled));
        }
    });
}

#[test]
fn a_forced_cancel_waits_for_nothing() {
    let bench = Bench::new();
    let cancel = Cancel::new().unwrap();
    let mut place = bench.place();
    place.grace = Duration::from_secs(600);
    thread::scope(|scope| {
        let text = "trap '' TERM; while true; do sleep 1; done";
        let attempt = scope.spawn(|| bench.executor.run(&script(&bench, text), &place, &cancel, &mut || {}));
        thread::sleep(Duration::from_millis(100));
        cancel.cancel();
        thread::sleep(Duration::from_millis(50));
        assert!(!attempt.is_finished());
        cancel.force();
        assert_eq!(attempt.join().unwrap().result, Err(StepFailure::Cancelled));
    });
}

#[test]
fn a_huge_limit_is_none() {
    let bench = Bench::new();
    bench.run(&script(&bench, "true").timeout(u64::MAX)).result();
}
