//! What every step relies on.

use std::collections::BTreeMap;
use std::fs;

use mlctl_core::action::{InputContent, Member, StepFailure};
use mlctl_core::digest::Digest;
use mlctl_core::template::{Piece, Template};
use mlctl_core::value::{Type, Value};
use mlctl_exec::Cancel;

use crate::support::{Bench, Builder, command, script};

#[test]
fn outputs_and_values_are_stored() {
    let bench = Bench::new();
    let text = r#"
        echo hello > "$MLCTL_OUTPUT_TEXT"
        mkdir -p "$MLCTL_OUTPUT_TREE/sub"; echo x > "$MLCTL_OUTPUT_TREE/sub/x"
        test -d eval; echo '{"test": {"accuracy": 0.5}}' > eval/metrics.json
        echo 42 > "$MLCTL_OUTPUT_COUNT"
        echo to the log; echo and this >&2"#;
    let task = script(&bench, text)
        .output("text")
        .output("tree")
        .output_at("metrics", "eval/metrics.json")
        .value("count", Type::Int)
        .value_from("accuracy", Type::Float, "metrics", &["test", "accuracy"]);
    let done = bench.run(&task);
    assert_eq!(bench.output(&done, "text"), b"hello\n");
    let tree = bench.store.object_path(&done.result().artifacts["tree"]);
    assert_eq!(fs::read(tree.join("sub/x")).unwrap(), b"x\n");
    let values = [("accuracy".to_owned(), Value::Float(0.5)), ("count".to_owned(), Value::Int(42))];
    assert_eq!(done.result().values, BTreeMap::from(values));
    assert_eq!(done.log, "to the log\nand this\n");
    assert!(done.started);
}

#[test]
fn the_environment_is_clean() {
    let bench = Bench::new();
    let text = r#"
        env | cut -d= -f1 | grep -v -i -e proxy -e CERT -e CA_BUNDLE | sort | tr '\n' ' '
        test -z "$(cat; ls -A "$HOME"; ls -A "$TMPDIR"; ls -A)"
        test "$(umask)" = 0022
        echo; echo "$MLCTL_CPUS $MLCTL_GPUS $MLCTL_ATTEMPT $PATH""#;
    let mut task = script(&bench, text);
    task.resources.cpu_millis = Some(1500);
    let mut place = bench.place();
    place.environment.path = vec!["/opt/some env/bin".into()];
    let done = bench.run_at(&task, &place);
    assert_eq!(
        done.log,
        "HOME LANG MLCTL_ATTEMPT MLCTL_CPUS MLCTL_GPUS MLCTL_NONCE PATH PWD PYTHONHASHSEED TMPDIR TZ \n\
         2 0 1 /opt/some env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
        "{:?}",
        done.report
    );
    done.result();
}

#[test]
fn inputs_are_links_to_objects() {
    let bench = Bench::new();
    let text = r#"
        test -L "$MLCTL_INPUT_RAW"; basename "$MLCTL_INPUT_RAW"; cat "$MLCTL_INPUT_RAW"
        cat data/raw.csv
        echo "$MLCTL_INPUT_THRESHOLD" "${MLCTL_INPUT_MISSING-unset}""#;
    let mut task = script(&bench, text)
        .input("raw", "raw file.csv", bench.file(b"1,2\n"))
        .input_at("again", "data/raw.csv", bench.file(b"3,4\n"))
        .input("threshold", "threshold", InputContent::Value(Value::Float(1.0)))
        .input("missing", "missing", InputContent::Value(Value::Bool(true)));
    task.inputs["missing"].content = None;
    let done = bench.run(&task);
    assert_eq!(done.log, "raw file.csv\n1,2\n3,4\n1.0 unset\n");
    done.result();
}

#[test]
fn a_gather_is_a_directory_with_an_index() {
    let bench = Bench::new();
    let member = |depth: i64, content: InputContent| Member {
        id: format!("train@depth={depth}"),
        matrix: BTreeMap::from([("depth".to_owned(), Value::Int(depth))]),
        file_name: format!("train@depth={depth}.txt"),
        content: Box::new(content),
    };
    let members = vec![member(8, bench.file(b"eight")), member(2, InputContent::Value(Value::Float(0.5)))];
    let text = r#"cd "$MLCTL_INPUT_ALL"; ls; cat train@depth=8.txt; echo; cat index.json"#;
    let done = bench.run(&script(&bench, text).input("all", "all", InputContent::Gather(members)));
    let (names, rest) = done.log.split_once("eight\n").unwrap();
    assert_eq!(names, "index.json\ntrain@depth=2.txt\ntrain@depth=8.txt\n");
    let index: serde_json::Value = serde_json::from_str(rest).unwrap();
    let expected = serde_json::json!([
        {"id": "train@depth=8", "matrix": {"depth": 8}, "path": "train@depth=8.txt"},
        {"id": "train@depth=2", "matrix": {"depth": 2}, "path": "train@depth=2.txt", "value": 0.5},
    ]);
    assert_eq!(index, expected);
}

#[test]
fn an_empty_gather_is_an_empty_directory() {
    let bench = Bench::new();
    let text = r#"cd "$MLCTL_INPUT_ALL"; ls; cat index.json"#;
    let done = bench.run(&script(&bench, text).input("all", "all", InputContent::Gather(Vec::new())));
    assert_eq!(done.log, "index.json\n[]\n");
}

#[test]
fn an_entry_of_a_directory_is_an_input() {
    let bench = Bench::new();
    let text = r#"mkdir "$MLCTL_OUTPUT_PARTS"; echo one > "$MLCTL_OUTPUT_PARTS/ü 1""#;
    let parts = bench.run(&script(&bench, text).output("parts")).result().artifacts["parts"];
    let entry = |name: &str| InputContent::Artifact { artifact: parts, entry: Some(name.to_owned()) };
    let task = script(&bench, r#"cat "$MLCTL_INPUT_PART""#);
    assert_eq!(bench.run(&task.clone().input("part", "ü 1", entry("ü 1"))).log, "one\n");
    let done = bench.run(&task.input("part", "2", entry("2")));
    let reason = "it has no entry `2`".to_owned();
    assert_eq!(done.failure(), &StepFailure::BadInput { input: "part".to_owned(), reason });
    assert!(!done.started);
}

#[test]
fn odd_texts_stay_within_their_argument() {
    let bench = Bench::new();
    let odd = "a b\n\"quoted\" 'single' {{ x }} $(rm -rf /) `id` \\ ü \u{1f600} *";
    let mut task =
        command(&bench, &["printf", "%s|", odd, ""]).input(odd, odd.split('/').next().unwrap(), bench.file(b"x"));
    task.command.push(Template(vec![Piece::Text("in=".to_owned()), Piece::Input(odd.to_owned())]));
    task.command.push(Template(vec![Piece::Text("x".repeat(60 * 1024))]));
    task.env.insert("MLCTL_PARAM_X".to_owned(), Template(vec![Piece::Text(odd.to_owned())]));
    task.params.insert("x".to_owned(), Value::String(odd.to_owned()));
    // A name with a slash is no name: only the texts are odd here.
    let name = task.inputs.shift_remove(odd).unwrap();
    task.inputs.insert("raw".to_owned(), name);
    task.command[4].0[1] = Piece::Input("raw".to_owned());
    let done = bench.run(&task);
    done.result();
    assert!(done.log.starts_with(&format!("{odd}||in=/")), "{}", &done.log[..200]);
    assert!(done.log.contains(&format!("/in/raw/{}|", odd.split('/').next().unwrap())));
    assert!(done.log.ends_with("xx|"));
}

#[test]
fn params_come_as_json() {
    let bench = Bench::new();
    let mut task = script(&bench, r#"cat "$MLCTL_PARAMS""#);
    task.params.insert("rate".to_owned(), Value::Float(1.0));
    task.params.insert("name".to_owned(), Value::String("a\n\"b\"".to_owned()));
    assert_eq!(bench.run(&task).log, r#"{"name":"a\n\"b\"","rate":1.0}"#);
}

#[test]
fn every_attempt_sees_its_sources_as_they_are() {
    let bench = Bench::new();
    let sources = bench.sources(&[("train.py", "one\n"), ("lib/a.py", "two\n"), ("lib/b.py", "three\n")]);
    let check = r#"
        test "$(find . | sort | tr '\n' ' ')" = ". ./lib ./lib/a.py ./lib/b.py ./train.py "
        test "$(cat train.py lib/a.py lib/b.py | tr '\n' ' ')" = "one two three "
        test -z "$(ls -A "$HOME" "$TMPDIR" | grep -v : )"
    "#;
    for damage in [
        "true",
        "mkdir -p __pycache__/x lib/y; echo x > __pycache__/x/y; echo x > $HOME/x; mkdir $TMPDIR/y",
        "echo ONE > train.py",
        "printf 'ONE\\n' | dd of=lib/a.py conv=notrunc status=none",
        "rm lib/b.py",
        "rm -r lib; ln -s /etc lib",
        "chmod 600 train.py",
        "chmod 700 lib",
        "mv train.py train2.py; cp train2.py train.py",
        "ln train.py hard",
        "rm train.py; mkdir train.py",
        "touch train.py",
        "mkdir -m 000 closed; true",
    ] {
        let done = bench.run(&script(&bench, &format!("{check}\n{damage}")).sources(sources));
        assert!(done.report.result.is_ok(), "before `{damage}`: {done:?}");
    }
    bench.run(&script(&bench, check).sources(sources)).result();
}

#[test]
fn a_slot_is_used_again() {
    let bench = Bench::new();
    let sources = bench.sources(&[("a", "x")]);
    let task = script(&bench, "stat -c %i a; pwd").sources(sources);
    let first = bench.run(&task).log;
    assert_eq!(bench.run(&task).log, first);
    bench.run(&script(&bench, "exit 3").sources(sources)).failure();
    assert_ne!(bench.run(&task).log, first, "after a failure the directory is a new one");
}

#[test]
fn the_first_result_of_a_key_counts() {
    let bench = Bench::new();
    let mut task =
        script(&bench, "date +%s%N > $MLCTL_OUTPUT_NOW; cat /proc/sys/kernel/random/uuid >> $MLCTL_OUTPUT_NOW");
    task = task.output("now");
    task.key = Some(Digest::of(b"key"));
    let first = bench.run(&task);
    let second = bench.run(&task);
    assert_eq!(first.result(), second.result());
    assert_eq!(bench.store.lookup(&task.key.unwrap()).unwrap().result.artifacts, first.result().artifacts);
}

#[test]
fn caches_and_checkpoints_survive() {
    let bench = Bench::new();
    let text = r#"cat "$MLCTL_CACHE_HUGGINGFACE/x" "$MLCTL_CHECKPOINT/x" 2> $TMPDIR/none || true
        echo cached > "$MLCTL_CACHE_HUGGINGFACE/x"; echo point > "$MLCTL_CHECKPOINT/x""#;
    let mut task = script(&bench, text);
    task.caches = vec!["huggingface".to_owned()];
    task.checkpoint = true;
    assert_eq!(bench.run(&task).log, "");
    assert_eq!(bench.run(&task).log, "cached\npoint\n");
}

#[test]
fn what_is_cancelled_before_is_not_started() {
    let bench = Bench::new();
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let report = bench.executor.run(&script(&bench, "true"), &bench.place(), &cancel, &mut || panic!("started"));
    assert_eq!(report.result, Err(StepFailure::Cancelled));
}
