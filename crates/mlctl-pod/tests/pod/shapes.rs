//! Workflows of every shape.

use mlctl_core::event::Status;

use super::bench::Bench;
use super::play::Seen;

#[test]
fn a_step_is_run_and_its_output_and_log_are_stored() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.hello]
        script = 'echo to the log; cat source.txt > "$MLCTL_OUTPUT_O"; umask >> "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        "#,
    );
    assert_eq!(run.play(), [Seen::Succeeded]);
    assert_eq!(run.status("hello"), Status::Succeeded);
    assert_eq!(run.output("hello", "o"), "a source\n0022\n");
    assert_eq!(run.log("hello", 1), b"to the log\n");
}
