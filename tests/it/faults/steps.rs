//! Steps that misbehave. Each fails alone, with its reason, or does no harm.

use std::fs;

use super::{Tmpfs, is_root, processes, says, statuses};
use crate::support::{Project, Start, skip};

/// Step by step: the name, the script, and what is said of it (`None`: it succeeds).
const RUDE: &[(&str, &str, Option<&str>)] = &[
    ("fifo", r#"mkfifo "$MLCTL_OUTPUT_X""#, Some("output `x`: is a FIFO")),
    ("fifo_below", r#"mkdir "$MLCTL_OUTPUT_X"; mkfifo "$MLCTL_OUTPUT_X/p""#, Some("is a FIFO")),
    (
        "socket_below",
        r#"mkdir "$MLCTL_OUTPUT_X"; python3 -c 'import os, socket; os.chdir(os.environ["MLCTL_OUTPUT_X"]); socket.socket(socket.AF_UNIX).bind("s")'"#,
        Some("is a socket"),
    ),
    ("link", r#"ln -s /etc/passwd "$MLCTL_OUTPUT_X""#, Some("is a symbolic link")),
    ("link_below", r#"mkdir "$MLCTL_OUTPUT_X"; ln -s ../../../etc "$MLCTL_OUTPUT_X/p""#, Some("symbolic link")),
    ("not_utf8", r#"mkdir "$MLCTL_OUTPUT_X"; : > "$MLCTL_OUTPUT_X/$(printf '\377')""#, Some("not UTF-8")),
    ("nothing", "true", Some("output `x`: was not written")),
    ("killed", "kill -9 $$", Some("signal 9")),
    ("crashed", "kill -SEGV $$", Some("signal 11")),
    ("exits", "exit 77", Some("exit status 77")),
    ("closes", r#"exec <&- >&- 2>&-; echo x > "$MLCTL_OUTPUT_X""#, None),
    ("unreadable", r#"echo x > "$MLCTL_OUTPUT_X"; chmod 0 "$MLCTL_OUTPUT_X""#, None),
    (
        "detaches",
        r#"sleep 600 & setsid sleep 600 & (setsid sh -c 'sleep 600 & wait' > /dev/null 2>&1 &); echo x > "$MLCTL_OUTPUT_X""#,
        None,
    ),
    ("removes_sources", r#"rm -f source.txt; echo y > other.txt; echo x > "$MLCTL_OUTPUT_X""#, None),
    ("removes_itself", r#"cd ..; rm -rf work; echo x > "$MLCTL_OUTPUT_X""#, Some("failed")),
];

#[test]
fn rude_steps_fail_alone_and_say_why() {
    let project = Project::new("[project]\nname = \"rude\"\n");
    project.write("source.txt", "as it was\n");
    let mut spec = "[project]\nname = \"rude\"\n".to_owned();
    for (name, script, _) in RUDE {
        spec += &format!("[steps.{name}]\nscript = '''{script}'''\noutputs.x = {{}}\n");
    }
    project.write("mlctl.toml", &spec);
    let ended = project.run(&["run", "-v"]);
    says(&ended, 1, &[]);
    for (name, _, reason) in RUDE {
        let failed = format!("{name}: failed: ");
        let line = ended.stderr.lines().find(|line| line.starts_with(&failed));
        assert_eq!(line.is_some(), reason.is_some(), "{name}\n{}", ended.stderr);
        assert!(line.unwrap_or_default().contains(reason.unwrap_or_default()), "{line:?}");
    }
    assert_eq!(processes(&project), [""; 0]);
    assert_eq!(fs::read_to_string(project.root().join("source.txt")).unwrap(), "as it was\n");
    // Whatever succeeded is kept, and nothing that failed is.
    says(&project.run(&["run"]), 1, &[]);
    let (_, instances) = statuses(&project, "@latest");
    for ((_, status), (name, _, reason)) in instances.iter().zip(RUDE) {
        assert_eq!(status, if reason.is_some() { "failed" } else { "cached" }, "{name}");
    }
}

#[test]
fn what_a_failed_step_left_stays_with_the_record() {
    let project = Project::new(
        r#"
[project]
name = "half"
[steps.half]
script = "mkdir $MLCTL_OUTPUT_X; echo half > $MLCTL_OUTPUT_X/f; chmod 555 $MLCTL_OUTPUT_X; exit 1"
outputs.x = {}
"#,
    );
    assert_eq!(project.run(&["run", "-q"]).code, 1);
    let run = project.json(&["status"])["run"].as_str().unwrap().to_owned();
    let left = project.root().join(".mlctl/runs").join(run).join("partial/half.1/x/f");
    assert_eq!(fs::read_to_string(left).unwrap(), "half\n");
}

#[test]
fn a_device_is_no_output() {
    if !is_root() {
        return skip("only root makes devices");
    }
    let spec = "[project]\nname = \"d\"\n[steps.a]\nscript = 'mknod \"$MLCTL_OUTPUT_X\" c 1 3'\noutputs.x = {}\n";
    let ended = Project::new(spec).run(&["run"]);
    // A container may not even let root do that.
    assert!(ended.stderr.contains("is a device") || ended.stderr.contains("not permitted"), "{ended:?}");
    assert_eq!(ended.code, 1);
}

#[test]
fn a_large_log_is_kept_and_shown() {
    let lines = if cfg!(debug_assertions) { 64 } else { 256 };
    let spec = format!(
        "[project]\nname = \"log\"\n[steps.a]\nscript = 'head -c {lines}M /dev/zero | tr \"\\0\" x; echo; echo the end'\n"
    );
    let project = Project::new(&spec);
    says(&project.run(&["run"]), 0, &[]);
    let mut logs = project.command("sh");
    let shell = format!("'{}' logs a | tail -c 8; '{}' logs a | head -c 10 | wc -c", exe(), exe());
    let shown = logs.args(["-c", &shell]).ended();
    assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), ("the end\n10\n", ""));
}

fn exe() -> &'static str {
    crate::support::mlctl().to_str().unwrap()
}

#[test]
fn a_step_that_fills_the_disk_fails_and_the_space_comes_back() {
    let spec = r#"
        [project]
        name = "full"
        [steps.small]
        script = 'echo x > "$MLCTL_OUTPUT_X"'
        outputs.x = {}
        [steps.fills_output]
        script = 'cat /dev/zero > "$MLCTL_OUTPUT_X"'
        outputs.x = {}
        [steps.fills_work]
        script = 'cat /dev/zero > file'
        [steps.takes_names]
        script = 'for i in $(seq 5000); do : > $i; done'
    "#;
    let project = Project::new(spec);
    let Some(_small) = Tmpfs::mount(&project.store(), "2m,nr_inodes=600") else { return };
    // One after the other: a neighbour may find the disk full, too.
    says(&project.run(&["run", "-j", "1"]), 1, &["No space left on device"]);
    let (_, instances) = statuses(&project, "@latest");
    let statuses: Vec<&str> = instances.iter().map(|(_, status)| status.as_str()).collect();
    assert_eq!(statuses, ["succeeded", "failed", "failed", "failed"]);
    let filler = project.store().join("filler");
    let _ = fs::write(&filler, vec![0; 3 << 20]);
    says(&project.run(&["run", "small", "--force", "small"]), 1, &["small: failed"]);
    fs::remove_file(filler).unwrap();
    says(&project.run(&["run", "small", "--force", "small"]), 0, &[]);
}

#[test]
fn a_project_on_a_full_disk_says_so_and_loses_no_result() {
    let spec = r#"
        [project]
        name = "full"
        [steps.chatty]
        script = 'head -c 8000000 /dev/zero | tr "\0" x || true; echo x > "$MLCTL_OUTPUT_X"'
        outputs.x = {}
        [steps.after]
        inputs.x = "chatty.x"
        command = ["true"]
    "#;
    let project = Project::empty();
    let Some(_small) = Tmpfs::mount(&project.root(), "1m") else { return };
    project.write("mlctl.toml", spec);
    says(
        &project.run(&["run"]),
        3,
        &["cannot write the record of run", "No space left on device", "help: free some space"],
    );
    says(&project.run(&["run"]), 3, &["cannot record the run", "No space left on device", "help: free some space"]);
    fs::remove_dir_all(project.root().join(".mlctl")).unwrap();
    project.ok(&["run"]);
    assert_eq!(statuses(&project, "@latest").1[0].1, "cached");
}
