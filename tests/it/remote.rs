//! Stores that machines share: `mlctl sync` between two machines by way of a directory, and of a real S3 server with and
//! without faults. Where the server is not built these tests say SKIPPED; with `MLCTL_TEST_S3=1` they fail then.
//! `tests/testbed/s3 --build` builds it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Ended, Project, Start, mlctl};

mod faults;
mod interrupted;
mod large;
mod proxy;
mod runs;
mod server;

use server::Server;

/// A directory of small files, a file of a size that is given, a value.
const STEPS: &str = r#"
[steps.make]
command = ["sh", "-c", '''
mkdir "$MLCTL_OUTPUT_D" && cd "$MLCTL_OUTPUT_D" && seq {{ params.files }} | split -l 1 -a 5 &&
head -c {{ params.bytes }} /dev/zero | tr '\0' x > "$MLCTL_OUTPUT_BIG"
''']
outputs.d = {}
outputs.big = {}

[steps.use]
inputs.d = "make.d"
script = 'ls "$MLCTL_INPUT_D" | wc -l > "$MLCTL_OUTPUT_N"'
outputs.n = { type = "int" }
"#;

fn spec(url: &str, files: u32, bytes: u64) -> String {
    format!(
        "[project]\nname = \"shared\"\n[params]\nfiles = {files}\nbytes = {bytes}\n[contexts.cloud]\nstore = {{ url = \"{url}\" \
         }}\n{STEPS}"
    )
}

/// One of the machines that share a store: a home and a store of its own, and the same project.
struct Machine {
    project: Project,
    server: Option<String>,
}

impl Machine {
    fn new(spec: &str, server: Option<&Server>) -> Self {
        Self { project: Project::new(spec), server: server.map(|server| server.url.clone()) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(mlctl());
        command.args(arguments).env("MLCTL_TRUST_PROJECT", "1");
        if let Some(url) = &self.server {
            command.env("AWS_ENDPOINT_URL", url).env("AWS_REGION", "us-east-1");
            command.env("AWS_ACCESS_KEY_ID", "testbed").env("AWS_SECRET_ACCESS_KEY", "testbed-secret");
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).ended()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// `mlctl sync --context cloud`, which must succeed.
    fn sync(&self, more: &[&str]) -> Value {
        self.json(&[&["sync", "--context", "cloud"], more].concat())
    }

    /// What a run would run.
    fn would_run(&self) -> String {
        self.project.ok(&["plan", "-o", "name"])
    }

    fn state(&self) -> PathBuf {
        let remotes = fs::read_dir(self.project.store().join("remotes")).unwrap();
        remotes.map(|entry| entry.unwrap().path()).next().unwrap()
    }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// Pushes from one machine and pulls to another: `cloud` is empty before.
fn there_and_back(spec: &str, server: Option<&Server>) {
    let (one, two) = (Machine::new(spec, server), Machine::new(spec, server));
    one.project.ok(&["run"]);
    let planned = one.sync(&["--dry-run"]);
    assert_eq!((&planned["push"]["results"], &planned["pull"]["results"]), (&2.into(), &0.into()), "{planned}");
    let pushed = one.sync(&[]);
    for key in ["results", "objects", "bytes", "instances"] {
        assert_eq!(planned["push"][key], pushed["push"][key], "{planned} {pushed}");
    }
    let again = one.sync(&[]);
    assert_eq!((&again["push"]["objects"], &again["push"]["already"]), (&0.into(), &2.into()), "{again}");

    assert_eq!(two.would_run(), "make\nuse\n");
    let planned = two.sync(&["--dry-run"]);
    assert_eq!(planned["pull"]["instances"], serde_json::json!(["make", "use"]), "{planned}");
    assert_eq!(two.would_run(), "make\nuse\n");
    let pulled = two.sync(&[]);
    assert_eq!(planned["pull"]["bytes"], pulled["pull"]["bytes"]);
    assert_eq!(two.would_run(), "");
    two.project.ok(&["artifacts", "get", "use.n", "--run", &run(&two)]);
}

fn run(machine: &Machine) -> String {
    machine.json(&["run"])["run"].as_str().unwrap().to_owned()
}

#[test]
fn a_result_computed_on_one_machine_is_a_hit_on_another() {
    let shared = tempfile::tempdir().unwrap();
    there_and_back(&spec(&format!("file://{}", shared.path().display()), 300, 100_000), None);
    let Some(server) = Server::start() else { return };
    there_and_back(&spec(&server.bucket(), 300, 20_000_000), Some(&server));
}

#[test]
fn a_run_or_a_step_can_be_named() {
    let shared = tempfile::tempdir().unwrap();
    let machine = Machine::new(&spec(&format!("file://{}", shared.path().display()), 3, 3), None);
    let run = run(&machine);
    // What ran then is not what would run now.
    machine.project.write("mlctl.toml", &spec(&format!("file://{}", shared.path().display()), 4, 4));
    assert_eq!(machine.sync(&["--push", "--dry-run"])["push"]["results"], 0);
    assert_eq!(machine.sync(&["--push", "--dry-run", &run])["push"]["results"], 2);
    assert_eq!(machine.sync(&["--push", "--dry-run", "@latest"])["push"]["results"], 2);
    machine.project.ok(&["run"]);
    assert_eq!(machine.sync(&["--push", "--dry-run", "make"])["push"]["instances"], serde_json::json!(["make"]));
    let ended = machine.run(&["sync", "--context", "cloud", "nothing"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("`nothing` is neither a run nor a step"), "{ended:?}");
}

#[test]
fn a_store_that_only_the_project_names_is_confirmed_first() {
    let shared = tempfile::tempdir().unwrap();
    let url = format!("file://{}", shared.path().display());
    let project = Project::new(&spec(&url, 3, 3));
    let ended = project.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("MLCTL_TRUST_PROJECT=1"), "{ended:?}");
    fs::create_dir_all(project.home().join(".config/mlctl")).unwrap();
    fs::write(project.home().join(".config/mlctl/trusted"), format!("store {url}\n")).unwrap();
    project.ok(&["sync", "--context", "cloud"]);
    // What the user's own file says needs no confirmation.
    let project = Project::new(&spec(&url, 3, 3));
    project.write("mlctl.local.toml", &format!("[contexts.cloud]\nstore = {{ url = \"{url}\" }}\n"));
    project.ok(&["sync", "--context", "cloud"]);
}

#[test]
fn a_context_without_a_store_has_nothing_to_sync_with() {
    let ended = Project::new(&spec("file:///srv", 3, 3)).run(&["sync"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("the context `local` has no store to share"), "{ended:?}");
}

#[test]
fn a_machines_own_store_is_not_shared_so() {
    let one = Project::new(&spec("file:///srv", 3, 3));
    one.ok(&["run"]);
    let url = format!("file://{}", fs::canonicalize(one.store()).unwrap().display());
    one.write("mlctl.toml", &spec(&url, 3, 3));
    let ended = one.run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("this machine's own store"), "{ended:?}");
    let ended = Machine::new(&spec(&url, 3, 3), None).run(&["sync", "--context", "cloud"]);
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("it is the own store of a machine"), "{ended:?}");
}

/// An AWS CLI that does what this script says.
fn aws_cli(home: &Path, script: &str) {
    let program = home.join("bin/aws");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
}

/// With the credentials of a profile, by that AWS CLI.
fn by_profile(mut command: Command, home: &Path) -> Command {
    let path = format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap());
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_PROFILE", "work").env("PATH", path);
    command
}

#[test]
fn a_profile_is_read_by_the_aws_cli() {
    let Some(server) = Server::start() else { return };
    let machine = Machine::new(&spec(&server.bucket(), 3, 3), Some(&server));
    machine.project.ok(&["run"]);
    let aws = |text: &str| {
        aws_cli(&machine.project.home(), text);
        by_profile(machine.command(&["sync", "--context", "cloud"]), &machine.project.home()).ended()
    };
    let ended = aws("echo 'The SSO session has expired. Run aws sso login.' >&2; exit 255");
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("The SSO session has expired"), "{ended:?}");
    let ended = aws(r#"[ "$AWS_PROFILE $*" = "work configure export-credentials --format process" ] || exit 1
        echo '{"Version": 1, "AccessKeyId": "testbed", "SecretAccessKey": "testbed-secret", "Expiration": "2999-01-01T00:00:00Z"}'"#);
    assert_eq!(ended.code, 0, "{ended:?}");
}
