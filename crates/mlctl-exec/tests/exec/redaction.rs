//! Secrets reach the step and nothing else.

use mlctl_core::action::StepFailure;
use mlctl_core::value::Type;
use mlctl_exec::Place;

use crate::support::{Bench, Builder, script};

fn place(bench: &Bench) -> Place {
    let mut place = bench.place();
    place.secrets.insert("TOKEN".to_owned(), "hunter2".to_owned());
    place.secrets.insert("KEY".to_owned(), "-BEGIN-\nMIIabc\n-END-\n".to_owned());
    place
}

#[test]
fn the_log_holds_no_secret() {
    let bench = Bench::new();
    let text = r#"
        test "$TOKEN" = hunter2
        echo "token $TOKEN"; echo "$KEY" >&2
        printf hunt; sleep 0.05; printf 'er2 and more\n'
        printf hunt"#;
    let done = bench.run_at(&script(&bench, text), &place(&bench));
    assert_eq!(done.log, "token ***\n***\n***\n***\n\n*** and more\nhunt");
    done.result();
}

#[test]
fn a_long_log_comes_through() {
    let bench = Bench::new();
    let done = bench.run_at(&script(&bench, "seq 200000; echo $TOKEN"), &place(&bench));
    assert!(done.log.ends_with("199999\n200000\n***\n"));
    assert_eq!(done.log.lines().count(), 200_001);
}

#[test]
fn a_value_with_a_secret_fails_the_step() {
    let bench = Bench::new();
    let text = r#"echo "is $TOKEN" > "$MLCTL_OUTPUT_X""#;
    let done = bench.run_at(&script(&bench, text).value("x", Type::String), &place(&bench));
    let reason = "holds the secret `TOKEN`".to_owned();
    assert_eq!(done.failure(), &StepFailure::BadOutput { output: "x".to_owned(), reason });
    let done = bench.run_at(&script(&bench, text).value("x", Type::Int), &place(&bench));
    assert!(!done.failure().to_string().contains("hunter2"), "{done:?}");
    let text = r#"echo "{\"a\": [\"x$TOKEN\"]}" > "$MLCTL_OUTPUT_X""#;
    let done = bench.run_at(&script(&bench, text).value("x", Type::Json), &place(&bench));
    assert!(matches!(done.failure(), StepFailure::BadOutput { .. }), "{done:?}");
}

#[test]
fn what_escaped_does_not_hold_up_the_log() {
    let bench = Bench::new();
    let text = "env -i setsid sh -c 'sleep 2' & sleep 0.05; echo $TOKEN";
    let begun = std::time::Instant::now();
    let done = bench.run_at(&script(&bench, text), &place(&bench));
    assert_eq!(done.log, "***\n");
    assert!(begun.elapsed() < std::time::Duration::from_millis(1500), "{:?}", begun.elapsed());
}
