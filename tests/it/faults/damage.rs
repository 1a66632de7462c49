//! Objects in the store that were removed, cut off or changed, between runs and while one goes on: what is damaged is
//! computed again, and never delivered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{output, says, statuses};
use crate::support::Project;

const SPEC: &str = r#"
[project]
name = "damage"

[steps.make]
script = 'echo good > "$MLCTL_OUTPUT_FILE"; mkdir "$MLCTL_OUTPUT_TREE"; echo good too > "$MLCTL_OUTPUT_TREE/file"'
outputs.file = { export = "out/file" }
outputs.tree = {}

[steps.use]
inputs.file = "make.file"
inputs.tree = "make.tree"
script = 'cat "$MLCTL_INPUT_FILE" "$MLCTL_INPUT_TREE/file" > "$MLCTL_OUTPUT_ALL"'
outputs.all = {}
"#;

/// The object with this content, and whether it is a file of its own.
fn object(project: &Project, content: &str) -> PathBuf {
    let mut open = vec![project.store().join("objects")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if fs::read(&path).unwrap() == content.as_bytes() {
                return path;
            }
        }
    }
    panic!("no object holds {content:?}");
}

fn write_enabled(path: &Path) {
    for path in [path.parent().unwrap(), path] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o200)).unwrap();
    }
}

type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 4] = [
    ("a flipped byte", |path| fs::write(path, "gooe\n").unwrap()),
    ("cut off", |path| fs::write(path, "goo").unwrap()),
    ("emptied", |path| fs::write(path, "").unwrap()),
    ("removed", |path| fs::remove_file(path).unwrap()),
];

#[test]
fn a_file_that_was_damaged_between_runs_is_computed_again() {
    for (name, damage) in DAMAGES {
        let project = Project::new(SPEC);
        project.ok(&["run"]);
        let path = object(&project, "good\n");
        write_enabled(&path);
        damage(&path);
        for to in ["got", "-"] {
            let got = project.run(&["artifacts", "get", "make.file", "--dest", to]);
            says(&got, 3, &["cannot get `file`", "help: if the store does not have it any more"]);
            assert_eq!(got.stdout, "", "{name}");
            assert!(!project.root().join("got").exists(), "{name}");
        }
        project.ok(&["run"]);
        assert_eq!(output(&project, "make.file"), "good\n", "{name}");
        assert_eq!(output(&project, "use.all"), "good\ngood too\n", "{name}");
    }
}

#[test]
fn a_result_that_was_damaged_is_not_exported() {
    for (name, damage) in DAMAGES {
        let project = Project::new(SPEC);
        project.ok(&["run"]);
        let path = object(&project, "good\n");
        write_enabled(&path);
        damage(&path);
        fs::remove_file(project.root().join("out/file")).unwrap();
        project.ok(&["run"]);
        assert_eq!(fs::read_to_string(project.root().join("out/file")).unwrap(), "good\n", "{name}");
    }
}

#[test]
fn the_store_may_be_deleted_between_runs() {
    let project = Project::new(SPEC);
    project.ok(&["run"]);
    std::process::Command::new("chmod").args(["-R", "u+w"]).arg(project.store()).status().unwrap();
    fs::remove_dir_all(project.store()).unwrap();
    says(&project.run(&["artifacts", "get", "make.file"]), 3, &["help: "]);
    project.ok(&["run"]);
    assert_eq!(output(&project, "use.all"), "good\ngood too\n");
}

/// What `spoil` did to the store between two steps of one run.
fn during_a_run(spoil: &str) -> (Project, crate::support::Ended) {
    let project = Project::empty();
    let spec = format!(
        r#"
        {SPEC}
        needs = ["spoil"]
        [steps.spoil]
        inputs.file = "make.file"
        inputs.tree = "make.tree"
        cache = false
        script = '''{spoil}'''
        "#
    );
    project.write("mlctl.toml", &spec);
    let ended = project.run(&["run", "--no-sandbox"]);
    (project, ended)
}

#[test]
fn an_object_that_a_step_damages_reaches_no_later_step() {
    for spoil in [
        r#"file=$(readlink -f "$MLCTL_INPUT_FILE"); chmod u+w "$file"; echo evil > "$file""#,
        r#"file=$(readlink -f "$MLCTL_INPUT_FILE"); rm -f "$file""#,
        r#"file=$(readlink -f "$MLCTL_INPUT_FILE"); rm -f "$file"; echo evil > "$file""#,
        r#"tree=$(readlink -f "$MLCTL_INPUT_TREE"); chmod u+w "$tree"; rm -f "$tree/file"; echo evil > "$tree/file""#,
    ] {
        let (project, ended) = during_a_run(spoil);
        says(&ended, 1, &["use: failed: input `", "removed or damaged", "run again"]);
        // The second run is without what spoils.
        project.write("mlctl.toml", SPEC);
        project.ok(&["run"]);
        assert_eq!(output(&project, "use.all"), "good\ngood too\n", "{spoil}");
    }
}

#[test]
fn a_store_that_is_deleted_during_a_run_fails_it_and_the_next_one_works() {
    let (project, ended) = during_a_run(
        r#"store=$(readlink -f "$MLCTL_INPUT_FILE"); store=${store%/objects/*}; chmod -R u+w "$store"; rm -rf "$store""#,
    );
    says(&ended, 1, &["failed: "]);
    project.write("mlctl.toml", SPEC);
    project.ok(&["run"]);
    assert_eq!(output(&project, "use.all"), "good\ngood too\n");
    assert_eq!(statuses(&project, "@latest").0, "succeeded");
}

#[test]
fn parts_of_the_store_may_be_deleted_between_runs() {
    let project = Project::new(SPEC);
    project.ok(&["run"]);
    for part in ["actions", "objects", "tmp", "trash", "runs", "format"] {
        let part = project.store().join(part);
        let mut remove = std::process::Command::new("sh");
        let removed = remove.args(["-c", r#"chmod -R u+w "$1" && rm -rf "$1""#, "sh"]).arg(&part).status().unwrap();
        assert!(removed.success());
        project.ok(&["run"]);
        project.ok(&["run", "--force", "make"]);
        assert_eq!(output(&project, "use.all"), "good\ngood too\n", "{}", part.display());
    }
}

#[test]
fn entries_of_the_cache_that_are_garbage_are_made_again() {
    for garbage in ["", "garbage", "mlctl entry 1 0000000000000000\n{}"] {
        let project = Project::new(SPEC);
        project.ok(&["run"]);
        for shard in fs::read_dir(project.store().join("actions")).unwrap() {
            for entry in fs::read_dir(shard.unwrap().path()).unwrap() {
                fs::write(entry.unwrap().path(), garbage).unwrap();
            }
        }
        fs::remove_dir_all(project.root().join(".mlctl/reuse")).unwrap();
        assert_eq!(project.json(&["run"])["tally"]["succeeded"], 2, "{garbage:?}");
        fs::remove_dir_all(project.root().join(".mlctl/reuse")).unwrap();
        assert_eq!(project.json(&["run"])["tally"]["cached"], 2, "{garbage:?}");
    }
}

#[test]
fn records_that_are_garbage_keep_nobody_from_running() {
    let project = Project::new(SPEC);
    project.ok(&["run"]);
    let first = project.json(&["runs"])[0]["run"].as_str().unwrap().to_owned();
    let garbage = |path: &Path| fs::write(path, b"garbage \xff without an end").unwrap();
    let home = project.root().join(".mlctl");
    garbage(&home.join("runs/index"));
    for directory in ["reuse", "stamps", "specs"] {
        for entry in fs::read_dir(home.join(directory)).into_iter().flatten() {
            garbage(&entry.unwrap().path());
        }
    }
    project.ok(&["run"]);
    assert_eq!(project.ok(&["runs", "-o", "name"]).lines().count(), 2);
    for file in ["run.json", "events.jsonl", "ended.json", "instances"] {
        garbage(&home.join("runs").join(&first).join(file));
        project.ok(&["runs"]);
        let shown = project.run(&["status", &first]);
        assert!(shown.code == 0 || shown.code == 3, "{shown:?}");
        project.ok(&["run"]);
    }
    project.ok(&["gc"]);
}

#[test]
fn an_export_removes_nothing_that_no_run_made() {
    let project = Project::empty();
    let spec = |text: &str| {
        format!(
            "[project]\nname = \"e\"\n[steps.a]\nscript = 'mkdir \"$MLCTL_OUTPUT_X\"; echo x > \"$MLCTL_OUTPUT_X/{text}\"'\n\
             outputs.x = {{ export = \"models\" }}\n"
        )
    };
    project.write("mlctl.toml", &spec("one"));
    project.write("models/one", "of a clone of the project\n");
    project.write("models/below/mine", "precious\n");
    says(
        &project.run(&["run"]),
        3,
        &["`x` was not exported to models", "would remove models/below/mine", "help: move it"],
    );
    assert_eq!(fs::read_to_string(project.root().join("models/below/mine")).unwrap(), "precious\n");
    fs::remove_dir_all(project.root().join("models/below")).unwrap();
    project.ok(&["run"]);
    assert_eq!(fs::read_to_string(project.root().join("models/one")).unwrap(), "x\n");
    // What a run exported is in the store, and may go.
    project.write("mlctl.toml", &spec("two"));
    project.ok(&["run"]);
    assert!(!project.root().join("models/one").exists());
    assert!(project.root().join("models/two").exists());
}

#[test]
fn the_end_of_a_long_run_syncs_the_store_beside_it() {
    let project = Project::new(SPEC);
    project.ok(&["run"]);
    // What such a run starts.
    project.ok(&["__sync", project.store().to_str().unwrap()]);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let marker = fs::read_to_string(project.store().join("synced")).unwrap();
    assert!(marker.starts_with(boot.trim()), "{marker}");
}
