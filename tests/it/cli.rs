//! `tests/cli/<case>/`: a project, and in `session.txt` what a user typed there and what came back.
//!
//! After a line `$ command` stand the lines of stdout, then those of stderr with `! ` before them, then `? code` unless
//! it is 0. What differs from run to run is written as `[RUN]`, `[TIME]`, `[AGO]`, `[DIGEST]`, `[DIR]`; columns are two spaces
//! apart. `SNAPSHOTS=overwrite cargo test --test it cli` writes what comes back now.

use std::fs;
use std::path::Path;

use snapbox::{Assert, Data, Redactions};

use crate::docs::all_commands;
use crate::support::{Ended, Project, Start, mlctl};

#[test]
fn sessions_are_as_written() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut cases: Vec<_> = fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let failed: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

fn check(case: &Path) -> Result<(), String> {
    let path = case.join("session.txt");
    let written = fs::read_to_string(&path).unwrap();
    let project = Project::copy_of(case);
    fs::remove_file(project.root().join("session.txt")).unwrap();
    let redactions = redactions(&project);
    let mut session = String::new();
    for line in written.lines().filter(|line| line.starts_with("$ ")) {
        let mut shell = project.command("sh");
        let path = format!("{}:{}", mlctl().parent().unwrap().display(), std::env::var("PATH").unwrap());
        let ended = shell.args(["-c", &line[2..]]).env("PATH", path).ended();
        session += &redactions.redact(&transcript(line, &ended));
    }
    let assert = Assert::new().action_env("SNAPSHOTS").normalize_paths(false);
    assert.try_eq(Some(&case.display()), Data::from(session), Data::read_from(&path, None)).map_err(|e| e.to_string())
}

fn transcript(line: &str, ended: &Ended) -> String {
    let mut text = format!("{line}\n");
    for line in ended.stdout.lines() {
        text += &format!("{}\n", columns(line));
    }
    for line in ended.stderr.lines() {
        text += format!("! {line}").trim_end();
        text.push('\n');
    }
    if ended.code != 0 {
        text += &format!("? {}\n", ended.code);
    }
    text + "\n"
}

/// Columns two spaces apart: how wide they are depends on what differs from run to run.
fn columns(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    format!("{}{}", &line[..indent], cells.join("  "))
}

fn redactions(project: &Project) -> Redactions {
    let regex = |text: &str| regex::Regex::new(text).unwrap();
    let mut redactions = Redactions::new();
    redactions.insert("[RUN]", regex(r"\b(?<redacted>[b-df-hjkmnp-tv-xz][b-df-hjkmnp-tv-xz2-9]{7})\b")).unwrap();
    redactions.insert("[TIME]", regex(r"\b(?<redacted>[0-9]+ms|[0-9]+\.[0-9]s|[0-9]+m[0-9]{2}s)\b")).unwrap();
    redactions.insert("[AGO]", regex(r"\b(?<redacted>just now|[0-9]+s ago)\b")).unwrap();
    redactions.insert("[DIGEST]", regex(r"\b(?<redacted>[0-9a-f]{64}|[0-9a-f]{12})\b")).unwrap();
    redactions.insert("[DIR]", project.root()).unwrap();
    redactions
}

#[test]
fn a_context_is_checked_without_trying() {
    let project = Project::new(
        "project.name = \"p\"\nsteps.a = { command = [\"a\"], settings = [\"URL\"], secrets = [\"KEY\"] }\n\
         [contexts.local]\nsettings.URL = \"x\"\n[contexts.there]\nengine = \"argo\"\nstore.url = \"s3://b\"\nsettings.URL = \"x\"\n\
         secrets.KEY = { secret = \"s\", key = \"k\" }\n[contexts.whole]\nengine = \"argo\"\nstore.url = \"s3://b\"\n\
         registry = \"r.example\"\nsettings.URL = \"x\"\nsecrets.KEY = { secret = \"s\", key = \"k\" }\n",
    );
    for (context, code, said) in [
        ("local", 3, "needs the secret `KEY`"),
        ("docker", 3, "needs the setting `URL`"),
        ("there", 2, "names no registry"),
        ("whole", 0, "as far as can be told"),
        ("nowhere", 2, "there is no context"),
    ] {
        let ended = project.run(&["context", "check", context]);
        assert!(ended.code == code && ended.stderr.contains(said), "{context}: {ended:?}");
    }
    let config = project.home().join(".config/mlctl/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, "contexts.local.secrets.KEY = { command = [\"touch\", \"ran\"] }\n").unwrap();
    let checked = project.json(&["context", "check"]);
    assert_eq!((&checked["name"], &checked["engine"]), (&"local".into(), &"process".into()));
    assert!(!project.root().join("ran").exists(), "no command is run");
}

/// What is typed, one after the other, in [`every_command_speaks_json`].
const TYPED: &[&str] = &[
    "init made --template minimal --yes",
    "check",
    "params",
    "lock",
    "plan",
    "plan --diff docker",
    "build",
    "run",
    "watch",
    "logs",
    "run",
    "runs",
    "status",
    "logs a",
    "artifacts ls",
    "artifacts get a.file --dest file",
    "artifacts get a.value",
    "artifacts get each.file --dest files",
    "artifacts get each.value",
    "why a",
    "cancel @latest",
    "sync",
    "gc",
    "doctor",
    "context list",
    "context show",
    "context check",
    "schema",
    "version",
];
/// Those that give any number of documents, one a line.
const BY_LINE: [&str; 3] = ["logs", "watch", "artifacts get"];
/// A script, and what needs a cluster: that is tested there.
const NOT_TYPED: [&str; 4] = ["completion", "submit", "context create kind", "context delete"];

#[test]
fn every_command_speaks_json() {
    let project = Project::empty();
    let script = "echo printed; echo 1 > \"$MLCTL_OUTPUT_FILE\"; echo 2 > \"$MLCTL_OUTPUT_VALUE\"";
    let step = format!("script = {script:?}\noutputs.file = {{}}\noutputs.value.type = \"int\"\n");
    project.write(
        "mlctl.toml",
        &format!("project.name = \"p\"\n[steps.a]\n{step}[steps.each]\nmatrix.x = [1, 2]\n{step}"),
    );
    fs::create_dir(project.home().join("shared")).unwrap();
    let shared = format!("contexts.local.store.url = \"file://{}/shared\"\n", project.home().display());
    fs::create_dir_all(project.home().join(".config/mlctl")).unwrap();
    fs::write(project.home().join(".config/mlctl/config.toml"), shared).unwrap();
    let mut not_typed = leaves();
    for line in TYPED {
        let words: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
        let ended = project.run(&words);
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        let by_line = BY_LINE.iter().any(|command| line.starts_with(command));
        let documents: Vec<&str> = if by_line { ended.stdout.lines().collect() } else { vec![&ended.stdout] };
        assert!(!documents.is_empty(), "{line}: {ended:?}");
        for document in documents {
            let read = serde_json::from_str::<serde_json::Value>(document);
            assert!(read.is_ok(), "{line}: {document:?} is no JSON");
        }
        not_typed.retain(|command| !format!("{line} ").starts_with(&format!("{command} ")));
    }
    not_typed.sort();
    let mut expected = NOT_TYPED.map(str::to_owned);
    expected.sort();
    assert_eq!(not_typed, expected);
}

/// The commands with none below them.
fn leaves() -> Vec<String> {
    let all: Vec<String> = all_commands().iter().map(|words| words.join(" ")).collect();
    let group = |name: &str| all.iter().any(|other| other.starts_with(&format!("{name} ")));
    all.iter().filter(|name| !group(name)).cloned().collect()
}
