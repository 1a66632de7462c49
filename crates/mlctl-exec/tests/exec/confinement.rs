//! What a step may write, and what a step can do to the store.

use std::fs;

use mlctl_core::action::{InputContent, StepFailure};
use mlctl_exec::sandbox;

use crate::support::{Bench, Builder, script};

#[test]
fn a_step_writes_its_own_directories_only() {
    if !sandbox::is_available() {
        return;
    }
    let bench = Bench::new();
    let project = bench.path("project");
    fs::create_dir(&project).unwrap();
    let file = project.join("train.py");
    fs::write(&file, "print()").unwrap();
    let object = bench.file(b"content");
    let InputContent::Artifact { artifact, .. } = object else { unreachable!() };
    let stored = bench.store.object_path(&artifact);
    let text = format!(
        r#"
        ! (echo x > {0}/new) 2> /dev/null
        ! (echo x >> {0}/train.py) 2> /dev/null
        ! rm {0}/train.py 2> /dev/null
        ! mv {0}/train.py moved 2> /dev/null
        ! ln {0}/train.py linked 2> /dev/null
        ! mkdir {0}/d 2> /dev/null
        ! (echo x >> "$MLCTL_INPUT_X") 2> /dev/null
        ! rm "$MLCTL_INPUT_X" 2> /dev/null
        ! rm -f {1} 2> /dev/null
        ! ln {1} linked 2> /dev/null
        ! (echo x > ../new) 2> /dev/null
        cat {0}/train.py {1} > /dev/null
        echo x > here; mkdir d; mv here d/there; mv d/there "$TMPDIR"; mv "$TMPDIR/there" "$MLCTL_OUTPUT_Y"
        echo x > /tmp/mlctl-test-$$; rm /tmp/mlctl-test-$$
        echo x > "$HOME/x"; echo x > /dev/shm/mlctl-test-$$; rm /dev/shm/mlctl-test-$$
        echo x > /dev/null; echo step > /proc/self/comm"#,
        project.display(),
        stored.display()
    );
    let done = bench.run(&script(&bench, &text).input("x", "x", object).output("y"));
    assert_eq!(done.log, "", "{:?}", done.report);
    done.result();
    assert_eq!(fs::read(&stored).unwrap(), b"content");
    assert_eq!(fs::read(&file).unwrap(), b"print()");
}

#[test]
fn caches_may_be_written_and_other_steps_caches_not() {
    if !sandbox::is_available() {
        return;
    }
    let bench = Bench::new();
    fs::create_dir_all(bench.path("store/caches/other")).unwrap();
    let text = r#"echo x > "$MLCTL_CACHE_MINE/x"; ! (echo x > "$MLCTL_CACHE_MINE/../other/x") 2> /dev/null"#;
    let mut task = script(&bench, text);
    task.caches = vec!["mine".to_owned()];
    bench.run(&task).result();
    task.caches = vec!["other".to_owned()];
    task.command[3].0[0] = mlctl_core::template::Piece::Text("echo x > $MLCTL_CACHE_OTHER/x".to_owned());
    bench.run(&task).result();
}

#[test]
fn confinement_can_be_turned_off() {
    let bench = Bench::new();
    let mut place = bench.place();
    place.sandbox = false;
    bench.run_at(&script(&bench, &format!("echo x > {}", bench.path("outside").display())), &place).result();
    assert!(bench.path("outside").exists());
}

#[test]
fn an_object_that_a_step_damaged_is_noticed() {
    let bench = Bench::new();
    let mut made = script(&bench, "echo good > $MLCTL_OUTPUT_X").output("x");
    made.key = Some(mlctl_core::digest::Digest::of(b"damaged"));
    let artifact = bench.run(&made).result().artifacts["x"];
    let mut place = bench.place();
    place.sandbox = false;
    let text = r#"chmod u+w "$MLCTL_INPUT_X"; echo evil > "$MLCTL_INPUT_X""#;
    let task = script(&bench, text).input("x", "x", InputContent::Artifact { artifact, entry: None });
    bench.run_at(&task, &place).result();
    assert!(bench.store.lookup(&made.key.unwrap()).is_none());
}

#[test]
fn an_output_is_never_read_from_outside() {
    let bench = Bench::new();
    fs::create_dir(bench.path("secret")).unwrap();
    fs::write(bench.path("secret/metrics.json"), "{}").unwrap();
    let outside = bench.path("secret");
    for (text, at) in [
        (format!("rmdir eval; ln -s {} eval", outside.display()), "eval/metrics.json"),
        (format!("ln -s {}/metrics.json metrics.json", outside.display()), "metrics.json"),
        (format!("ln -s {} eval", outside.display()), "eval"),
    ] {
        let done = bench.run(&script(&bench, &text).output_at("metrics", at));
        assert!(matches!(done.failure(), StepFailure::BadOutput { .. }), "{text}: {done:?}");
    }
    let mut place = bench.place();
    place.sandbox = false;
    let text = format!("cd ..; rm -r work; ln -s {} work", outside.display());
    let done = bench.run_at(&script(&bench, &text).output_at("metrics", "metrics.json"), &place);
    assert!(matches!(done.failure(), StepFailure::Executor { .. }), "{done:?}");
    assert_eq!(fs::read(outside.join("metrics.json")).unwrap(), b"{}");
}
