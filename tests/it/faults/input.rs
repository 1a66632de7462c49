//! Input that is broken, enormous or hostile.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::{output, says};
use crate::support::Project;

/// The spec, and what is said of it.
const BROKEN: &[(&str, &[&str])] = &[
    ("", &["there is no `[project]`", "mlctl.toml:1:1"]),
    ("this is not [ toml", &["a key without a value", "mlctl.toml:1:6"]),
    ("\0\0\0", &["not TOML", "mlctl.toml:1:1"]),
    ("[project]\nname = 5\n[steps.a]\ncommand = [\"true\"]\n", &["`name` must be a string", "mlctl.toml:2:8"]),
    ("[project]\nname = \"x\"\n[steps.a]\ncommand = 7\n", &["`command` must be an array", "mlctl.toml:4:11"]),
    ("[project]\nname = \"x\"\n[steps]\na = 1\n", &["must be a table", "mlctl.toml:4:"]),
    ("[project]\nname = \"x\"\n[steps.a]\ncommand = [\"true\"]\nneeds = [\"b\"]\n", &["`b`", "mlctl.toml:5:"]),
    (
        "[project]\nname = \"x\"\n[steps.a]\ncommand = [\"true\"]\nneeds = [\"b\"]\n[steps.b]\ncommand = [\"true\"]\nneeds = [\"a\"]\n",
        &["cycle", "mlctl.toml:"],
    ),
];

#[test]
fn a_broken_spec_is_refused_at_its_place() {
    let project = Project::empty();
    for (spec, texts) in BROKEN {
        project.write("mlctl.toml", spec);
        for command in ["check", "plan", "run"] {
            says(&project.run(&[command]), 2, texts);
        }
    }
    fs::write(project.root().join("mlctl.toml"), b"[project]\nname = \"\xff\"\n").unwrap();
    says(&project.run(&["run"]), 2, &["`mlctl.toml` is not UTF-8", "line 2"]);
    assert!(!project.root().join(".mlctl/runs").exists());
}

#[test]
fn depth_and_length_have_limits_that_are_said() {
    let project = Project::empty();
    let step = |extra: String| format!("[project]\nname = \"x\"\n[steps.a]\ncommand = [\"true\"]\n{extra}\n");
    let axes: String = (0..10).fold(String::new(), |mut text, axis| {
        let _ = writeln!(text, "matrix.m{axis} = {:?}", (0..100).collect::<Vec<_>>());
        text
    });
    for (spec, texts) in [
        ("x = ".to_owned() + &"[".repeat(100_000), &["levels of nesting"][..]),
        ("a.".repeat(50_000) + "b = 1", &["levels of nesting"]),
        (step(format!("when = \"{}true\"", "not ".repeat(50_000))), &["condition is longer than"]),
        (step(format!("when = \"{}\"", "(".repeat(3000))), &["error[bad-condition]"]),
        (step(axes), &["more instances than", "at most 1000000"]),
        (step(format!("env.X = \"{}\"", "y".repeat(10_000_000))), &["10000000 bytes", "mlctl.toml:5:"]),
    ] {
        project.write("mlctl.toml", &spec);
        let ended = project.run(&["check"]);
        says(&ended, 2, texts);
        assert!(ended.stderr.len() < 2000, "{}", ended.stderr.len());
    }
}

#[test]
fn a_spec_of_ten_megabytes_is_read() {
    let mut spec = "[project]\nname = \"large\"\n".to_owned();
    let mut step = 0;
    while spec.len() < 10_000_000 {
        let _ = write!(spec, "[steps.s{step}]\ncommand = [\"true\"]\nenv.TEXT = \"{}\"\n", "x".repeat(400));
        step += 1;
    }
    let project = Project::new(&spec);
    project.ok(&["check"]);
    project.ok(&["run", "s7"]);
    project.write("mlctl.toml", &(spec + "[steps.last]\ncommand = [\"true\"]\nneeds = [\"nowhere\"]\n"));
    says(&project.run(&["run", "s7"]), 2, &["`nowhere`"]);
}

#[test]
fn a_hundred_thousand_instances_are_planned_and_recorded() {
    let axis = |length| format!("{:?}", (0..length).collect::<Vec<_>>());
    let spec = format!(
        "[project]\nname = \"many\"\n[params]\ngo = false\n[steps.a]\nwhen = \"params.go\"\ncommand = [\"true\"]\n\
         matrix.i = {}\nmatrix.j = {}\noutputs.v = {{ type = \"int\" }}\n[steps.all]\ncommand = [\"true\"]\ninputs.v = \"a[*].v\"\n",
        axis(1000),
        axis(100)
    );
    let project = Project::new(&spec);
    project.ok(&["plan", "-p", "go=true", "-q"]);
    says(&project.run(&["run"]), 0, &[]);
    let latest = project.json(&["runs"]);
    assert_eq!(latest[0]["tally"]["skipped"], 100_001);
    says(&project.run(&["run"]), 0, &[]);
}

#[test]
fn a_wide_matrix_runs_and_is_reused() {
    let spec = "[project]\nname = \"wide\"\n[steps.a]\nmatrix.i = LIST\nscript = 'echo $MLCTL_MATRIX_I > \"$MLCTL_OUTPUT_X\"'\n\
                outputs.x = {}\n[steps.all]\ninputs.x = \"a[*].x\"\nscript = 'cat \"$MLCTL_INPUT_X\"/a* | wc -l > \"$MLCTL_OUTPUT_N\"'\noutputs.n = {}\n";
    let project = Project::new(&spec.replace("LIST", &format!("{:?}", (0..1000).collect::<Vec<_>>())));
    project.ok(&["run"]);
    assert_eq!(output(&project, "all.n").trim(), "1000");
    fs::remove_dir_all(project.root().join(".mlctl/reuse")).unwrap();
    let again = project.json(&["run"]);
    assert_eq!(again["tally"]["cached"], 1001);
}

#[test]
fn params_reach_a_program_as_they_are() {
    let spec = r#"
        [project]
        name = "odd"
        [params]
        text = "x"
        [steps.a]
        params = ["text"]
        command = ["sh", "-euc", 'printf "%s" "$1" > "$MLCTL_OUTPUT_X"; test "$1" = "$MLCTL_PARAM_TEXT"', "sh", "{{ params.text }}"]
        outputs.x = {}
    "#;
    let project = Project::new(spec);
    let long = "z".repeat(60 * 1024);
    for text in
        ["", " ", "a\nb\n", "'\"\\", "{{ params.text }}", "$(id) `id` ${HOME} !x", "-n", "\u{1}\t→\u{202e}", &long]
    {
        project.ok(&["run", "-q", "-p", &format!("text={text}")]);
        assert_eq!(output(&project, "a.x"), text);
    }
    let huge = serde_json::json!({ "text": "z".repeat(300_000) });
    project.write("huge.json", &huge.to_string());
    says(&project.run(&["run", "--params-file", "huge.json"]), 2, &["has 300000 bytes", "help: "]);
    project.write("nul.json", r#"{ "text": "a\u0000b" }"#);
    says(&project.run(&["run", "--params-file", "nul.json"]), 1, &["NUL byte"]);
}

#[test]
fn bad_arguments_say_what_would_be_right() {
    let project = Project::new("[project]\nname = \"x\"\n[params]\nseed = 1\n[steps.train]\ncommand = [\"true\"]\n");
    project.write("list.json", "[1]");
    for (arguments, code, texts) in [
        (&["run", "-p", "sed=2"][..], 2, &["there is no param `sed`", "help: "][..]),
        (&["run", "-p", "seed"], 2, &["`-p seed` is not NAME=VALUE"]),
        (&["run", "-p", "seed=x"], 2, &["seed", "int"]),
        (&["run", "--params-file", "nowhere.toml"], 3, &["cannot read `nowhere.toml`"]),
        (&["run", "--params-file", "list.json"], 2, &["`list.json` does not hold params"]),
        (&["run", "trian"], 2, &["there is no step or instance `trian`", "train"]),
        (&["run", "--deadline", "5"], 2, &["`5` is not a duration", "90s"]),
        (&["run", "-j", "0"], 2, &["--jobs"]),
        (&["run", "--context", "cluod"], 2, &["there is no context `cluod`", "local"]),
        (&["-C", "/nowhere", "run"], 2, &["there is no directory `/nowhere`"]),
        (&["status", "zzz"], 2, &["there is no run `zzz`", "`mlctl runs`"]),
        (&["status"], 1, &["there are no runs yet", "`mlctl run`"]),
        (&["frobnicate"], 2, &["frobnicate"]),
    ] {
        says(&project.run(arguments), code, texts);
    }
}

#[test]
fn sources_that_cannot_be_used_are_named_all_at_once() {
    let project =
        Project::new("[project]\nname = \"s\"\n[steps.a]\nscript = 'ls > \"$MLCTL_OUTPUT_X\"'\noutputs.x = {}\n");
    let root = project.root();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../..", root.join("above")).unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"latin\xff")), "").unwrap();
    let named = [
        "fifo is a FIFO",
        "socket is a socket",
        "absolute is a symbolic link",
        "above is a symbolic link",
        "not UTF-8",
    ];
    let ended = project.run(&["run"]);
    says(&ended, 2, &named);
    says(&ended, 2, &["help: name it in `.mlctlignore`"]);

    for directory in 0..20 {
        let directory = root.join("ignored").join(directory.to_string());
        fs::create_dir_all(&directory).unwrap();
        (0..500).for_each(|file| fs::write(directory.join(file.to_string()), "").unwrap());
    }
    project.write(".mlctlignore", "fifo\nsocket\nabsolute\nabove\nlatin*\nignored\n");
    project.ok(&["run"]);
    assert_eq!(output(&project, "a.x"), "broken\n");
}
