//! Pods and containers that are killed.

use mlctl_core::event::{Event, Status};
use mlctl_core::records::Mark;
use rustix::process::Signal;

use super::bench::{Bench, Run};
use super::play::{Pod, signal, until};

/// The first attempt runs until it is killed.
const ENDLESS: &str = r#"
    [steps.a]
    script = 'echo attempt $MLCTL_ATTEMPT; [ "$MLCTL_ATTEMPT" = 2 ] || sleep 1000; echo done > "$MLCTL_OUTPUT_O"'
    outputs.o = {}
    "#;

/// A pod whose first attempt at `a` runs.
fn begun(run: &Run<'_>) -> Pod {
    let pod = run.pod("a", 0, 0);
    until("the first attempt is recorded", || {
        run.bench.remote.record(&run.id, &Mark::Started(1).name("a")).unwrap().is_some()
    });
    pod
}

#[test]
fn of_a_lost_pod_the_attempt_is_used_up_and_no_retry() {
    let bench = Bench::new();
    let run = bench.submit(ENDLESS);
    let pod = begun(&run);
    // Both at once, as when a machine is lost.
    signal(pod.storing.as_ref().unwrap(), Signal::KILL);
    signal(pod.running.as_ref().unwrap(), Signal::KILL);
    drop(pod);
    assert_eq!(run.until_done("a", 0).code, 0);
    let Event::InstanceFinished { status, attempts, .. } = run.end("a") else { panic!() };
    assert_eq!((status, attempts), (Status::Succeeded, 2));
    assert!(bench.remote.record(&run.id, &Mark::Failed(1).name("a")).unwrap().is_none());
    assert_eq!(run.log("a", 2), b"attempt 2\n");
}
