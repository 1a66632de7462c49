//! `mlctl lock`: what is written, when it changes, and what is said when it cannot be.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Ended, Project, Start, mlctl};
use crate::wheels;

/// A project whose environment takes `requirements` from an index of its own: alpha 1.0, alpha 1.1 (which needs beta),
/// beta 1.0 and 2.0.
fn project(requirements: &str) -> Project {
    let python = wheels::python_version();
    let project = Project::new(&format!(
        "[project]\nname = \"locked\"\n\n[environments.default]\npython = \"{python}\"\nrequirements = \"requirements.txt\"\n\n\
         [steps.only]\ncommand = [\"python\", \"-c\", \"pass\"]\nenvironment = \"default\"\n"
    ));
    let index = project.root().join("index");
    wheels::add(&index, "alpha", "1.0", &[]);
    wheels::add(&index, "alpha", "1.1", &["beta>=2"]);
    wheels::add(&index, "beta", "1.0", &[]);
    wheels::add(&index, "beta", "2.0", &[]);
    project.write("requirements.txt", &format!("--no-index\n--find-links index\n{requirements}\n"));
    project
}

/// mlctl with a store that all these tests share, since they all need pip.
fn command(project: &Project) -> Command {
    let mut command = project.command(mlctl());
    command.env("MLCTL_STORE", concat!(env!("CARGO_TARGET_TMPDIR"), "/store"));
    command
}

fn run(project: &Project, arguments: &[&str]) -> Ended {
    command(project).args(arguments).ended()
}

/// Runs mlctl, which must succeed, and gives what it printed.
fn ok(project: &Project, arguments: &[&str]) -> String {
    let ended = run(project, arguments);
    assert_eq!(ended.code, 0, "mlctl {arguments:?}: {ended:?}");
    ended.stdout
}

fn lock_text(project: &Project) -> String {
    fs::read_to_string(project.root().join("mlctl.lock")).unwrap()
}

/// `name==version` of what is locked.
fn locked(project: &Project) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(&ok(project, &["lock", "--check", "-o", "json"])).unwrap();
    let distributions = report["environments"][0]["distributions"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    distributions.iter().map(|d| format!("{}=={}", text(&d["name"]), text(&d["version"]))).collect()
}

/// A directory that holds nothing but uv.
fn uv() -> PathBuf {
    static UV: OnceLock<PathBuf> = OnceLock::new();
    UV.get_or_init(|| {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("uv");
        let bin = directory.join("only");
        if !bin.join("uv").exists() {
            let run = |command: &mut Command| assert!(command.status().unwrap().success());
            run(Command::new("python3").args(["-m", "venv"]).arg(directory.join("venv")));
            run(Command::new(directory.join("venv/bin/pip")).args(["install", "--quiet", "uv>=0.7"]));
            fs::create_dir_all(&bin).unwrap();
            std::os::unix::fs::symlink(directory.join("venv/bin/uv"), bin.join("uv")).unwrap();
        }
        bin
    })
    .clone()
}

/// A command that finds uv, and the certificates that this machine needs.
fn with_uv(project: &Project) -> Command {
    let mut command = command(project);
    command.env("PATH", format!("{}:{}", uv().display(), std::env::var("PATH").unwrap()));
    if let Some(certificates) = std::env::var_os("SSL_CERT_FILE") {
        command.env("SSL_CERT_FILE", certificates);
    }
    command
}

#[test]
fn what_is_asked_for_is_locked_with_all_it_needs() {
    let project = project("alpha");
    let said = ok(&project, &["lock"]);
    for line in ["  + alpha 1.1", "  + beta 2.0"] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
    assert_eq!(locked(&project), ["alpha==1.1", "beta==2.0"]);
    let text = lock_text(&project);
    assert!(text.contains("\noptions = [\"--no-index\", \"--find-links index\"]\n"), "{text}");
    assert!(ok(&project, &["lock"]).contains("up to date"));
    assert_eq!(lock_text(&project), text);
}

#[test]
fn a_changed_requirement_makes_it_stale_and_a_comment_does_not() {
    let project = project("alpha<1.1");
    ok(&project, &["lock"]);
    project.write("requirements.txt", "# where from\n--no-index\n--find-links index\n\nalpha<1.1 # for now\n");
    let before = lock_text(&project);
    ok(&project, &["lock", "--check"]);
    project.write("requirements.txt", "--no-index\n--find-links index\nalpha>1\n");
    let Ended { code, stderr, .. } = run(&project, &["lock", "--check"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("environment `default` asks for something else than it was locked from"), "{stderr}");
    assert_eq!(lock_text(&project), before);
    assert!(ok(&project, &["lock"]).contains("  alpha 1.0 -> 1.1\n"));
}

#[test]
fn only_an_update_takes_newer_versions() {
    let project = project("beta");
    ok(&project, &["lock"]);
    wheels::add(&project.root().join("index"), "beta", "2.1", &[]);
    assert!(ok(&project, &["lock"]).contains("up to date"));
    assert_eq!(locked(&project), ["beta==2.0"]);
    assert!(ok(&project, &["lock", "--update"]).contains("  beta 2.0 -> 2.1\n"));
}

#[test]
fn without_a_lock_check_says_what_is_missing() {
    let project = project("alpha");
    let Ended { code, stderr, .. } = run(&project, &["lock", "--check"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("environment `default` is not locked for "), "{stderr}");
    assert!(!project.root().join("mlctl.lock").exists());
}

#[test]
fn what_is_no_longer_in_the_spec_is_forgotten() {
    let project = project("beta");
    ok(&project, &["lock"]);
    let spec = fs::read_to_string(project.root().join("mlctl.toml")).unwrap();
    project.write(
        "mlctl.toml",
        &spec.replace("environments.default", "environments.other").replace("\"default\"", "\"other\""),
    );
    let Ended { code, stderr, .. } = run(&project, &["lock", "--check"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("there is no environment `default` any more"), "{stderr}");
    ok(&project, &["lock"]);
    let text = lock_text(&project);
    assert!(text.contains("[environments.other.") && !text.contains("[environments.default."), "{text}");
}

#[test]
fn an_index_may_have_a_space_in_its_name() {
    let project = project("alpha");
    fs::rename(project.root().join("index"), project.root().join("my index")).unwrap();
    project.write("sub/requirements.txt", "--no-index\n--find-links '../my index'\nalpha\n");
    project.write("requirements.txt", "-r \"sub/requirements.txt\"\n");
    ok(&project, &["lock"]);
    let by_pip = lock_text(&project);
    assert!(by_pip.contains("\"--find-links my index\""), "{by_pip}");
    fs::remove_file(project.root().join("mlctl.lock")).unwrap();
    let ended = with_uv(&project).arg("lock").ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(lock_text(&project), by_pip);
    let ended = with_uv(&project).arg("run").ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    ok(&project, &["run", "--force", "only"]);
}

#[test]
fn uv_and_pip_write_the_same_lock() {
    // From the real index: there uv sees the files of every platform.
    let project = project("alpha");
    project.write("requirements.txt", "six==1.17.0\nidna<3.11 ; python_version >= '3.8'\nMarkupSafe==3.0.2\n");
    ok(&project, &["lock"]);
    let by_pip = lock_text(&project);
    fs::remove_file(project.root().join("mlctl.lock")).unwrap();
    let output = with_uv(&project).arg("lock").ended();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(lock_text(&project), by_pip);
}

#[test]
fn resolvers_that_fail_are_quoted_with_the_reason_first() {
    for (requirement, reason) in [
        ("gamma", "there is no `gamma` for this Python and platform"),
        ("alpha==7", "there is no `alpha==7` for this Python and platform"),
        ("alpha==1.1\nbeta<2", "the requirements contradict each other"),
    ] {
        let project = project(requirement);
        for ended in [run(&project, &["lock"]), with_uv(&project).arg("lock").ended()] {
            assert_eq!(ended.code, 3, "{ended:?}");
            let mut lines = ended.stderr.lines().skip_while(|line| !line.starts_with("error"));
            let expected = format!("error: environment `default` cannot be resolved: {reason}");
            assert_eq!(lines.next(), Some(expected.as_str()), "{}", ended.stderr);
            assert!(ended.stderr.contains(" said:\n"), "{}", ended.stderr);
        }
        assert!(!project.root().join("mlctl.lock").exists());
    }
}

#[test]
fn what_a_lock_cannot_hold_is_refused_at_its_line() {
    let project = project("alpha\n-e .");
    let Ended { code, stderr, .. } = run(&project, &["lock"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("requirements.txt:4"), "{stderr}");
    assert!(stderr.contains("an editable install changes with its directory"), "{stderr}");
}

#[test]
fn a_lock_that_is_not_ours_to_read_is_refused_at_its_line() {
    let project = project("alpha");
    project.write("mlctl.lock", "version = 7\n");
    let ended = run(&project, &["lock"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("mlctl.lock:1") && ended.stderr.contains("upgrade"), "{}", ended.stderr);
    project.write("mlctl.lock", "version = 1\n<<<<<<< HEAD\n");
    let ended = run(&project, &["lock"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("mlctl.lock:2") && ended.stderr.contains("merge conflict"), "{}", ended.stderr);
}

#[test]
fn a_python_that_is_not_here_is_said_with_what_was_tried() {
    let project = project("alpha");
    let spec = fs::read_to_string(project.root().join("mlctl.toml")).unwrap();
    project.write("mlctl.toml", &spec.replace(&wheels::python_version(), "3.99"));
    let Ended { code, stderr, .. } = run(&project, &["lock"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("environment `default` needs Python 3.99, which was not found"), "{stderr}");
    assert!(stderr.contains(&format!("is Python {}.", wheels::python_version())), "{stderr}");
}

#[test]
fn several_at_once_write_one_lock() {
    let project = project("alpha");
    let children: Vec<_> = (0..4).map(|_| command(&project).arg("lock").start()).collect();
    for child in children {
        let ended = child.end();
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_eq!(locked(&project), ["alpha==1.1", "beta==2.0"]);
}
