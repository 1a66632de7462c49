//! Steps that misbehave.

use std::fs;
use std::path::Path;
use std::process::Command;

use mlctl_core::action::StepFailure;
use mlctl_core::value::Type;

use crate::support::{Bench, Builder, Done, script};

fn bad_output(done: &Done) -> &str {
    match done.failure() {
        StepFailure::BadOutput { reason, .. } => reason,
        other => panic!("{other:?}\n{}", done.log),
    }
}

#[test]
fn what_is_no_file_is_no_output() {
    let bench = Bench::new();
    let reason = |text: &str| bad_output(&bench.run(&script(&bench, text).output("x"))).to_owned();
    assert_eq!(reason("true"), "was not written: the command left nothing where its variable points");
    assert_eq!(reason("mkfifo $MLCTL_OUTPUT_X"), "is a FIFO, not a file or directory");
    assert_eq!(reason("ln -s /etc/passwd $MLCTL_OUTPUT_X"), "is a symbolic link, not a file or directory");
    assert_eq!(reason("ln -s /dev/null $MLCTL_OUTPUT_X"), "is a symbolic link, not a file or directory");
    let inside = reason("mkdir $MLCTL_OUTPUT_X; ln -s /etc/passwd $MLCTL_OUTPUT_X/y");
    assert!(inside.contains("/etc/passwd"), "{inside}");
    let inside = reason("mkdir $MLCTL_OUTPUT_X; mkfifo $MLCTL_OUTPUT_X/y");
    assert!(inside.contains("FIFO"), "{inside}");
    let at = bench.run(&script(&bench, "rmdir eval").output_at("x", "eval/x"));
    assert_eq!(bad_output(&at), "was not written: the command left nothing at `eval/x`");
    if rustix::process::geteuid().is_root() {
        assert_eq!(reason("mknod $MLCTL_OUTPUT_X c 1 3"), "is a device, not a file or directory");
    }
}

#[test]
fn what_a_failed_attempt_left_can_be_looked_at() {
    let bench = Bench::new();
    let mut place = bench.place();
    let partial = bench.path("store/runs/r/partial/t.1");
    place.partial = Some(partial.clone());
    let text = "echo half > $MLCTL_OUTPUT_MODEL; mkdir -p eval/d; echo x > eval/d/x; exit 1";
    let task = script(&bench, text).output("model").output_at("eval", "eval").output("never");
    bench.run_at(&task, &place).failure();
    assert_eq!(fs::read(partial.join("model")).unwrap(), b"half\n");
    assert_eq!(fs::read(partial.join("eval/d/x")).unwrap(), b"x\n");
    assert_eq!(fs::read_dir(&partial).unwrap().count(), 2);
}

#[test]
fn values_that_are_none_are_refused() {
    let bench = Bench::new();
    let reason = |ty, text: &str| bad_output(&bench.run(&script(&bench, text).value("x", ty))).to_owned();
    assert_eq!(reason(Type::Float, "echo nan > $MLCTL_OUTPUT_X"), "is not a finite float: \"nan\"");
    assert_eq!(reason(Type::Int, "mkdir $MLCTL_OUTPUT_X"), "is a directory, and a value is a file");
    assert_eq!(
        reason(Type::String, "head -c 65537 /dev/zero | tr '\\0' x > $MLCTL_OUTPUT_X"),
        "is larger than 64 KiB: make it a file output"
    );
    let text = "echo '{\"a\": 1}' > $MLCTL_OUTPUT_M";
    let done = bench.run(&script(&bench, text).output("m").value_from("x", Type::Float, "m", &["b"]));
    assert_eq!(bad_output(&done), "`m` has no `b`: `b` was not found");
}

#[test]
fn hard_links_are_two_outputs() {
    let bench = Bench::new();
    let text = r#"echo one > "$MLCTL_OUTPUT_A"; ln "$MLCTL_OUTPUT_A" "$MLCTL_OUTPUT_B"; ln "$MLCTL_OUTPUT_A" here"#;
    let done = bench.run(&script(&bench, text).output("a").output("b"));
    assert_eq!(bench.output(&done, "a"), b"one\n");
    assert_eq!(bench.output(&done, "b"), b"one\n");
    assert_eq!(done.result().artifacts["a"], done.result().artifacts["b"]);
}

#[test]
fn a_source_may_become_an_output() {
    let bench = Bench::new();
    let sources = bench.sources(&[("a", "source\n")]);
    for text in ["mv a $MLCTL_OUTPUT_X", "ln a $MLCTL_OUTPUT_X", "cp a $MLCTL_OUTPUT_X; echo y > a"] {
        let done = bench.run(&script(&bench, text).sources(sources).output("x"));
        assert_eq!(bench.output(&done, "x"), b"source\n", "{text}");
    }
    bench.run(&script(&bench, "test \"$(cat a)\" = source").sources(sources)).result();
}

#[test]
fn odd_file_names_survive() {
    let bench = Bench::new();
    let text = r#"
        mkdir "$MLCTL_OUTPUT_D"; cd "$MLCTL_OUTPUT_D"
        echo 1 > "a b"; echo 2 > "$(printf 'line\nbreak')"; echo 3 > 'ü*'; mkdir ' '; echo 4 > ./-x"#;
    let done = bench.run(&script(&bench, text).output("d"));
    let stored = bench.store.object_path(&done.result().artifacts["d"]);
    assert_eq!(fs::read(stored.join("line\nbreak")).unwrap(), b"2\n");
    assert!(stored.join(" ").is_dir());
}

#[test]
fn closed_streams_are_no_failure() {
    let bench = Bench::new();
    let done = bench.run(&script(&bench, "echo before; exec >&- 2>&-; echo x > $MLCTL_OUTPUT_X").output("x"));
    assert_eq!(done.log, "before\n");
    done.result();
}

#[test]
fn streams_that_are_opened_by_name_lose_nothing() {
    let bench = Bench::new();
    let text =
        "echo one; echo two > /dev/stderr; echo three | tee /dev/stderr > /proc/self/fd/1; echo four > /dev/stdout";
    assert_eq!(bench.run(&script(&bench, text)).log, "one\ntwo\nthree\nthree\nfour\n");
}

#[test]
fn a_large_log_is_all_there() {
    let bench = Bench::new();
    let place = bench.place();
    bench.run_at(&script(&bench, "head -c 67108864 /dev/zero"), &place).result();
    assert_eq!(fs::metadata(&place.log).unwrap().len(), 67_108_864);
}

/// A file system of 1 MiB. Mounting takes root: without, these tests have nothing to do.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(path).status();
        status.is_ok_and(|status| status.success()).then(|| Self(path))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_fails_the_step_and_no_more() {
    let bench = Bench::new();
    let path = bench.path("store/runs");
    let Some(_small) = Small::mount(&path) else { return };
    let done = bench.run(&script(&bench, "head -c 2000000 /dev/zero > $MLCTL_OUTPUT_X").output("x"));
    assert_eq!(done.failure(), &StepFailure::Exit { code: 1 });
    assert!(done.log.contains("No space left on device"), "{}", done.log);
    bench.run(&script(&bench, "echo x > $TMPDIR/x")).result();
}

#[test]
fn a_log_that_cannot_grow_blocks_nothing() {
    let bench = Bench::new();
    let path = bench.path("logs");
    let Some(_small) = Small::mount(&path) else { return };
    let mut place = bench.place();
    let text = "head -c 3000000 /dev/zero || true; echo x > $MLCTL_OUTPUT_X";
    bench.run_at(&script(&bench, text).output("x"), &place).result();
    place.secrets.insert("TOKEN".to_owned(), "hunter2".to_owned());
    bench.run_at(&script(&bench, text).output("x"), &place).result();
}
