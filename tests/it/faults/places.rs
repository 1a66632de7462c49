//! Odd surroundings: where the project and the store lie, whose they are, which variables and streams there are.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Tmpfs, is_root, output, says};
use crate::support::{Ended, LIMIT, Project, Start, mlctl, skip};

const SPEC: &str = r#"
[project]
name = "places"

[steps.a]
script = 'pwd; echo "$HOME"; echo x > "$MLCTL_OUTPUT_X"; echo y > y.txt'
outputs.x = { export = "out/x" }

[steps.b]
inputs.x = "a.x"
command = ["cp", "{{ inputs.x }}", "{{ outputs.y }}"]
outputs.y = {}
"#;

fn run_in(directory: &Path, store: &Path) -> Ended {
    let mut command = Command::new(mlctl());
    command.current_dir(directory).env_clear().env("MLCTL_STORE", store).arg("run").ended()
}

#[test]
fn a_directory_may_have_any_name() {
    let long = vec![vec![b'l'; 200]; 4].join(&b'/');
    let names: [&[u8]; 7] =
        [b"sp ace", b"qu'o\"te", b"new\nline", "ünï→".as_bytes(), b"$(id) {{ x }} *", b"not utf8 \xff", &long];
    let project = Project::empty();
    for name in names {
        let root = project.root().join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("mlctl.toml"), SPEC).unwrap();
        // The store within, and so under the same name.
        says(&run_in(&root, &root.join(".store")), 0, &["b: succeeded"]);
        assert_eq!(fs::read_to_string(root.join("out/x")).unwrap(), "x\n");
        says(&run_in(&root, &root.join(".store")), 0, &[]);
    }
}

#[test]
fn in_argv_a_directory_may_have_any_name_too() {
    let project = Project::empty();
    let root = project.root().join(std::ffi::OsStr::from_bytes(b"not utf8 \xff"));
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("mlctl.toml"), SPEC).unwrap();
    let run = || -> Ended { project.command(mlctl()).arg("-C").arg(&root).arg("run").ended() };
    says(&run(), 0, &["b: succeeded"]);
}

#[test]
fn without_variables_and_streams() {
    let project = Project::new(SPEC);
    let bare = |shell: &str| -> Ended {
        let mut sh = Command::new("/bin/sh");
        sh.current_dir(project.root()).env_clear().env("M", mlctl()).args(["-c", shell]).ended()
    };
    says(&bare("exec env -i $M run"), 3, &["no place for the store", "help: set MLCTL_STORE"]);
    let store = format!("exec env -i MLCTL_STORE='{}'", project.store().display());
    says(&bare(&format!("{store} $M run")), 0, &[]);
    for streams in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"] {
        says(&bare(&format!("{store} $M run --force a {streams}")), 0, &[]);
    }
    says(&bare(&format!("{store} $M run --force a >/dev/full")), 3, &["cannot write to stdout", "No space left"]);
    assert_eq!(project.json(&["status"])["status"], "succeeded");
    let ended = bare(&format!("{store} $M run --force a --force b -v 2>&1 | head -1; {store} $M logs a | true"));
    says(&ended, 0, &[]);
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_store_and_the_project_may_lie_on_different_file_systems() {
    let project = Project::new(SPEC);
    let Some(_elsewhere) = Tmpfs::mount(&project.store(), "20m") else { return };
    project.ok(&["run"]);
    assert_eq!(output(&project, "b.y"), "x\n");
    assert_eq!(fs::read_to_string(project.root().join("out/x")).unwrap(), "x\n");
}

#[test]
fn stores_that_cannot_be_used_say_why_and_what_to_do() {
    let project = Project::new(SPEC);
    fs::write(project.home().join("file"), "").unwrap();
    for (store, why) in
        [("/proc/x".into(), "No such file or directory"), (project.home().join("file"), "Not a directory")]
    {
        says(&run_in(&project.root(), &store), 3, &["cannot open the store", why, "help: MLCTL_STORE names another"]);
    }
}

/// As a user who is not root.
fn as_nobody(project: &Project, arguments: &[&str]) -> Ended {
    let mut command = project.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(mlctl()).args(arguments).ended()
}

#[test]
fn results_of_another_user_are_reused_however_old() {
    let Some(project) = of_nobody() else { return };
    project.ok(&["run"]);
    let mut sh = Command::new("sh");
    let shared = r#"find "$1" -type d -exec chmod a+rwx {} + && chmod a+rw "$1/gc.lock" && chown -R 65534 "$2" &&
        find "$1/actions" -type f -exec touch -d '3 days ago' {} +"#;
    let sh = sh.args(["-c", shared, "sh"]).arg(project.store()).arg(project.root());
    assert!(sh.status().unwrap().success());
    fs::remove_dir_all(project.root().join(".mlctl")).unwrap();
    let ended = as_nobody(&project, &["run"]);
    says(&ended, 0, &[]);
    assert!(ended.stdout.contains("2 cached"), "{}", ended.stdout);
}

/// A project that is nobody's; `None`: only root can make one.
fn of_nobody() -> Option<Project> {
    let project = Project::new(SPEC);
    let top = project.root().parent().unwrap().to_owned();
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    let mut chown = Command::new("chown");
    let chowned = is_root() && chown.args(["-R", "65534:65534"]).arg(&top).status().is_ok_and(|s| s.success());
    if !chowned || as_nobody(&project, &["version"]).code != 0 {
        skip("needs root, setpriv, and a binary that everybody may run");
        return None;
    }
    Some(project)
}

#[test]
fn another_user_and_what_that_user_may_not_read_or_write() {
    let Some(project) = of_nobody() else { return };
    says(&as_nobody(&project, &["run"]), 0, &["b: succeeded"]);

    let secret = project.root().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let unreadable = ["secret cannot be read", "Permission denied", "help: name it in `.mlctlignore`"];
    says(&as_nobody(&project, &["run"]), 2, &unreadable);
    project.write(".mlctlignore", "secret\n");
    says(&as_nobody(&project, &["run"]), 0, &[]);

    fs::set_permissions(project.root(), fs::Permissions::from_mode(0o555)).unwrap();
    std::os::unix::fs::chown(project.root(), Some(0), Some(0)).unwrap();
    says(&as_nobody(&project, &["check"]), 0, &[]);
    says(&as_nobody(&project, &["status"]), 0, &[]);
    fs::remove_dir_all(project.root().join(".mlctl")).unwrap();
    says(&as_nobody(&project, &["run"]), 3, &["cannot record the run", "Permission denied", "help: make"]);
    says(&as_nobody(&project, &["plan"]), 0, &[]);

    fs::set_permissions(project.root().join("mlctl.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(project.root().join("mlctl.toml"), Some(0), Some(0)).unwrap();
    says(&as_nobody(&project, &["run"]), 3, &["cannot read `mlctl.toml`", "Permission denied"]);
}

#[test]
fn what_is_private_stays_private() {
    let project = Project::new(SPEC);
    let mut sh = project.command("sh");
    let ended = sh.args(["-c", "umask 077; exec \"$0\" run"]).arg(mlctl()).ended();
    says(&ended, 0, &[]);
    let mode = |path: &str| fs::metadata(project.root().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".mlctl"), 0o700);
    assert_eq!(mode("out"), 0o700);
    assert_eq!(mode("out/x"), 0o600);
}

#[test]
fn times_in_the_future_and_in_the_past_change_nothing() {
    let project = Project::new(SPEC);
    project.write("source.txt", "one\n");
    let touch = |date: &str, path: &Path| {
        assert!(Command::new("touch").args(["-d", date]).arg(path).status().unwrap().success());
    };
    let spec = project.root().join("mlctl.toml");
    let source = project.root().join("source.txt");
    touch("2099-01-01", &source);
    touch("2099-01-01", &spec);
    project.ok(&["run"]);
    // The same size and time, another content.
    fs::write(&source, "two\n").unwrap();
    touch("2099-01-01", &source);
    let plan = project.json(&["run"]);
    assert_eq!(plan["tally"]["succeeded"], 2, "{plan}");
    touch("1970-01-02", &source);
    let plan = project.json(&["run"]);
    assert_eq!(plan["tally"]["cached"], 2, "{plan}");
    // Records, notes and leases of a clock that was ahead.
    for below in [project.root().join(".mlctl"), project.store()] {
        let mut find = Command::new("find");
        find.arg(below).args(["-type", "f", "-exec", "touch", "-h", "-d", "2099-01-01", "{}", "+"]).status().unwrap();
    }
    let plan = project.json(&["run"]);
    assert_eq!(plan["status"], "succeeded");
    assert_eq!(plan["tally"]["failed"], 0);
    project.ok(&["runs"]);
    project.ok(&["status"]);
    project.ok(&["gc"]);
    assert_eq!(output(&project, "b.y"), "x\n");
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("needs `script`");
    }
    let spec = r#"
        [project]
        name = "tty"
        [steps.a_rather_long_name_that_does_not_fit]
        matrix.i = [1, 2, 3]
        script = "for i in 1 2 3; do printf '\\033[31m→漢字\\033[2J %s' $i; sleep 0.1; done"
    "#;
    for columns in ["1", "2", "7", "0", "500"] {
        let project = Project::new(spec);
        let mut script = project.command("script");
        let shell = format!("stty cols {columns} rows 1; '{}' run", mlctl().display());
        script.env("TERM", "xterm").args(["-qec", &shell, "/dev/null"]);
        let ended = script.ended();
        let text = &ended.stdout;
        assert_eq!(ended.code, 0, "{columns}: {text}");
        assert!(!text.contains("panicked") && !text.contains("\u{1b}[2J"), "{columns}: {text}");
    }
}

#[test]
fn a_git_that_hangs_hangs_no_run() {
    let project = Project::new(SPEC);
    let git = project.home().join("git");
    fs::write(&git, "#!/bin/sh\nexec sleep 600\n").unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", project.home().display(), std::env::var("PATH").unwrap());
    let began = std::time::Instant::now();
    let ended = project.command(mlctl()).arg("run").env("PATH", path).ended();
    says(&ended, 0, &[]);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    assert_eq!(project.json(&["status"])["dirty"], serde_json::Value::Null);
}

#[test]
fn any_number_of_jobs_and_few_descriptors() {
    let spec = "[project]\nname = \"j\"\n[steps.a]\nmatrix.i = [1, 2, 3, 4, 5]\nscript = 'sleep 0.05'\n";
    let project = Project::new(spec);
    says(&project.run(&["run", "-j", "4000000000"]), 0, &[]);
    let limited = |shell: &str| -> Ended {
        let mut sh = project.command("sh");
        sh.args(["-c", shell]).env("M", mlctl()).ended()
    };
    // Too few to work, told rather than hung; and what is left over works.
    let ended = limited("ulimit -n 24; exec $M run -j 64 --force a");
    assert!([0, 1, 3].contains(&ended.code) && !ended.stderr.contains("panicked"), "{ended:?}");
    project.ok(&["run", "--force", "a"]);
}
