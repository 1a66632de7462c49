//! Workflows of every shape.

use mlctl_core::action::StepFailure;
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

#[test]
fn a_chain_is_one_pod_and_passes_files_and_values() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = 'echo one > "$MLCTL_OUTPUT_O"; echo 7 > "$MLCTL_OUTPUT_N"'
        outputs.o = {}
        outputs.n = { type = "int" }
        [steps.b]
        script = 'cat "$MLCTL_INPUT_O" > "$MLCTL_OUTPUT_O"; echo $MLCTL_INPUT_N >> "$MLCTL_OUTPUT_O"'
        inputs = { o = "a.o", n = "a.n" }
        outputs.o = {}
        [steps.c]
        script = 'mkdir "$MLCTL_OUTPUT_D"; cp "$MLCTL_INPUT_O" "$MLCTL_OUTPUT_D/b"; echo > "$MLCTL_OUTPUT_D/a"'
        inputs.o = "b.o"
        outputs.d = {}
        [steps.d]
        script = 'ls "$MLCTL_INPUT_D" > "$MLCTL_OUTPUT_O"; cat "$MLCTL_INPUT_B" >> "$MLCTL_OUTPUT_O"'
        inputs = { d = "c.d", b = "c.d/b" }
        resources.cpu = 1
        outputs.o = {}
        "#,
    );
    assert_eq!(run.units.len(), 2);
    assert_eq!(run.play(), [Seen::Succeeded; 2]);
    assert_eq!(run.output("d", "o"), "a\nb\none\n7\n");
    // What is there is in no unit, and what is forced is replaced.
    let again = bench.submit(&bench.text(&run));
    assert!(again.units.is_empty());
    let forced = bench.submit_with(&bench.text(&run), |submission, _| submission.force = vec!["a".to_owned()]);
    forced.play();
    assert_eq!(
        ["a", "b", "c", "d"].map(|step| forced.status(step)),
        [Status::Succeeded, Status::Cached, Status::Cached, Status::Cached]
    );
}

#[test]
fn a_fan_out_is_dealt_to_pods_and_a_gather_leaves_out_what_may_fail() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.each]
        matrix.x = [1, 2, 3, 4, 5]
        script = 'test $MLCTL_MATRIX_X != 2; echo $MLCTL_MATRIX_X > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        allow-failure = true
        [steps.all]
        script = 'cat "$MLCTL_INPUT_O"/each* > "$MLCTL_OUTPUT_O"'
        inputs.o = "each[*].o"
        outputs.o = {}
        [steps.below]
        matrix = "each"
        script = 'cat "$MLCTL_INPUT_O" > "$MLCTL_OUTPUT_O"'
        inputs.o = "each.o"
        outputs.o = {}
        "#,
    );
    assert_eq!(run.play(), [Seen::Failed, Seen::Succeeded, Seen::Succeeded]);
    assert_eq!(run.output("all", "o"), "1\n3\n4\n5\n");
    assert_eq!((run.status("each@x=2"), run.status("below@x=2")), (Status::Failed, Status::Cancelled));
    assert_eq!(run.output("below@x=5", "o"), "5\n");
}

#[test]
fn a_dynamic_axis_is_known_to_whoever_must_know() {
    for workers in [true, false] {
        let bench = Bench::new();
        let run = bench.submit_with(
            r#"
            [steps.split]
            script = 'echo "[3, 1, 2]" > "$MLCTL_OUTPUT_L"; mkdir "$MLCTL_OUTPUT_D"; cd "$MLCTL_OUTPUT_D"; touch p q'
            outputs = { l = { type = "json" }, d = {} }
            [steps.each]
            matrix = { x = "split.l", part = "split.d" }
            script = 'echo $MLCTL_MATRIX_X$MLCTL_MATRIX_PART > "$MLCTL_OUTPUT_O"'
            outputs.o = {}
            [steps.same]
            matrix = "each"
            inputs.o = "each.o"
            script = 'cat "$MLCTL_INPUT_O" > "$MLCTL_OUTPUT_O"'
            outputs.o = {}
            [steps.all]
            script = 'cat "$MLCTL_INPUT_O"/same* > "$MLCTL_OUTPUT_O"'
            inputs.o = "same[*].o"
            outputs.o = {}
            "#,
            |_, cutting| cutting.workers = workers,
        );
        assert_eq!(run.play(), [Seen::Succeeded; 4]);
        assert_eq!(run.output("all", "o"), "1p\n1q\n2p\n2q\n3p\n3q\n");
    }
}

#[test]
fn an_empty_fan_out_needs_no_pod_and_what_cannot_fan_out_fails_in_one() {
    let bench = Bench::new();
    let spec = |list: &str| {
        format!(
            r#"
            [steps.split]
            script = 'echo {list} > "$MLCTL_OUTPUT_L"'
            outputs.l = {{ type = "json" }}
            [steps.each]
            matrix.x = "split.l"
            script = 'echo > "$MLCTL_OUTPUT_O"'
            outputs.o = {{}}
            [steps.all]
            script = 'ls "$MLCTL_INPUT_O" > "$MLCTL_OUTPUT_O"'
            inputs.o = "each[*].o"
            outputs.o = {{}}
            "#
        )
    };
    let run = bench.submit(&spec("[]"));
    assert_eq!(run.play(), [Seen::Succeeded; 3]);
    assert_eq!(run.output("all", "o"), "index.json\n");
    let run = bench.submit(&spec("{}"));
    assert_eq!(run.play(), [Seen::Succeeded, Seen::Failed, Seen::NotStarted]);
    assert_eq!(run.status("each"), Status::Failed);
}

#[test]
fn what_is_skipped_is_skipped_and_a_join_takes_the_other_branch() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = 'echo 1 > "$MLCTL_OUTPUT_N"'
        outputs.n = { type = "int" }
        [steps.b]
        script = 'echo 2 > "$MLCTL_OUTPUT_N"'
        outputs.n = { type = "int" }
        [steps.big]
        when = "a.n > 5"
        script = 'echo big > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        [steps.unlike]
        when = "a.n > b.n"
        script = 'echo unlike > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        [steps.small]
        when = "a.n <= 5 and b.n == 2"
        script = 'echo small > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        [steps.below]
        inputs.o = "unlike.o"
        script = 'false'
        resources.cpu = 1
        [steps.join]
        inputs.o = { first = ["big.o", "unlike.o", "small.o"] }
        script = 'cat "$MLCTL_INPUT_O" > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        "#,
    );
    use Seen::{NotStarted, Succeeded};
    assert_eq!(run.play(), [Succeeded, Succeeded, NotStarted, Succeeded, Succeeded, NotStarted, Succeeded]);
    assert_eq!(run.status("unlike"), Status::Skipped);
    assert_eq!(run.output("join", "o"), "small\n");
}

#[test]
fn finally_sees_how_the_run_ended() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = 'exit 3'
        [steps.b]
        needs = ["a"]
        script = 'true'
        [steps.end]
        finally = true
        script = 'echo $MLCTL_RUN_STATUS > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        "#,
    );
    assert_eq!(run.play(), [Seen::Failed, Seen::Succeeded]);
    assert_eq!((run.status("a"), run.status("b")), (Status::Failed, Status::Cancelled));
    assert_eq!(run.output("end", "o"), "failed\n");
}

#[test]
fn retries_are_made_in_the_pod_and_each_attempt_has_its_log() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = 'echo attempt $MLCTL_ATTEMPT; test $MLCTL_ATTEMPT = 3'
        retry = { limit = 2, backoff = "10ms" }
        [steps.b]
        script = 'echo $MLCTL_ATTEMPT; sleep 100'
        timeout = "200ms"
        retry.limit = 1
        resources.cpu = 1
        "#,
    );
    assert_eq!(run.play(), [Seen::Succeeded, Seen::Failed]);
    assert_eq!((run.log("a", 1), run.log("a", 3)), (b"attempt 1\n".to_vec(), b"attempt 3\n".to_vec()));
    assert_eq!(run.failure("b"), StepFailure::TimedOut { limit_millis: 200 });
    assert_eq!(run.attempts("b"), 2);
}

#[test]
fn after_a_failure_nothing_starts_where_that_was_asked_for() {
    let bench = Bench::new();
    let spec = r#"
        [steps.a]
        script = 'exit 3'
        [steps.b]
        matrix.x = [1, 2, 3]
        script = 'true'
        [steps.end]
        finally = true
        script = 'echo $MLCTL_RUN_STATUS > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        "#;
    let run = bench.submit_with(spec, |submission, _| submission.fail_fast = true);
    assert_eq!(run.play(), [Seen::Failed, Seen::Succeeded, Seen::Succeeded]);
    for x in 1..=3 {
        let instance = format!("b@x={x}");
        assert_eq!((run.status(&instance), run.attempts(&instance)), (Status::Cancelled, 0));
    }
    assert_eq!(run.output("end", "o"), "failed\n");
}

#[test]
fn a_step_has_the_images_variables_and_secrets_stay_secret() {
    let bench = Bench::new();
    let run = bench.submit(
        r#"
        [steps.a]
        script = '''
        echo the token is $TOKEN
        env | cut -d= -f1 | sort | tr '\n' ' ' > "$MLCTL_OUTPUT_NAMES"
        test "$TOKEN" = "hun""ter2"
        case $HOME in */home) ;; *) exit 1 ;; esac
        test ! -e /proc/self/fd/5'''
        secrets = ["TOKEN"]
        outputs.names = {}
        [steps.b]
        script = 'echo "${TOKEN-none}" > "$MLCTL_OUTPUT_O"'
        outputs.o = {}
        "#,
    );
    assert_eq!(run.play(), [Seen::Succeeded; 2]);
    let names = run.output("a", "names");
    for cluster in ["HOSTNAME", "KUBERNETES", "ARGO", "MLCTL_POD"] {
        assert!(!names.contains(cluster), "{names}");
    }
    assert!(names.contains("OF_THE_IMAGE") && names.contains("TOKEN"), "{names}");
    let log = String::from_utf8(run.log("a", 1)).unwrap();
    assert!(log.starts_with("the token is ") && !log.contains("hunter2"), "{log}");
    for name in bench.remote.records(&run.id, "").unwrap() {
        let record = bench.remote.record(&run.id, &name).unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&record).contains("hunter2"), "{name}");
    }
}
