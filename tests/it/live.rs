//! Runs that are looked at, cancelled and killed from another terminal while they go on.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use expectrl::{Eof, Expect, Session};
use rustix::process::Signal;

use crate::support::{Project, Running, Start, mlctl, wait};

/// `first` is quick, `slow` prints a line and waits until the file `go` of the home directory is there, `last` needs it.
const SPEC: &str = r#"
[project]
name = "live"

[steps.first]
script = "echo one > \"$MLCTL_OUTPUT_DATA\""
outputs.data = {}

[steps.slow]
inputs.data = "first.data"
script = '''
printf '\033[32mgreen\033[0m \033[2Jcleared\007 \033]0;title\007\n'
i=0
while ! test -e "$GATE" && test $i -lt 600; do sleep 0.05; i=$((i + 1)); done
echo after
echo two > "$MLCTL_OUTPUT_DATA"
'''
env.GATE = "@GATE@"
outputs.data = {}

[steps.last]
inputs.data = "slow.data"
command = ["cat", "{{ inputs.data }}"]
"#;

fn project() -> Project {
    let project = Project::empty();
    let gate = project.home().join("go");
    project.write("mlctl.toml", &SPEC.replace("@GATE@", gate.to_str().unwrap()));
    project
}

fn open_the_gate(project: &Project) {
    std::fs::write(project.home().join("go"), "").unwrap();
}

/// Starts a run, and waits until `slow` has printed something.
fn started(project: &Project) -> Running {
    let run = project.command(mlctl()).arg("run").start();
    wait_for("`slow` to print", || project.run(&["logs", "slow"]).stdout.contains("green"));
    run
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn statuses(project: &Project) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let status = project.json(&["status"]);
    let instances = status["instances"].as_array().unwrap();
    instances.iter().map(|instance| (text(&instance["instance"]), text(&instance["status"]))).collect()
}

fn is(statuses: &[(String, String)], expected: [(&str, &str); 3]) -> bool {
    statuses.iter().map(|(id, status)| (id.as_str(), status.as_str())).eq(expected)
}

#[test]
fn another_terminal_sees_a_run_follows_it_and_ends_with_its_result() {
    let project = project();
    let run = started(&project);
    assert_eq!(project.json(&["status"])["status"], "running");
    let expected = [("first", "succeeded"), ("slow", "running"), ("last", "pending")];
    assert!(is(&statuses(&project), expected), "{:?}", statuses(&project));

    let follow = |arguments: &[&str]| project.command(mlctl()).args(arguments).start();
    let (logs, one, watch) = (follow(&["logs", "-f"]), follow(&["logs", "-f", "slow"]), follow(&["watch"]));
    open_the_gate(&project);
    let (run, logs, one, watch) = (run.end(), logs.end(), one.end(), watch.end());
    assert_eq!((run.code, logs.code, one.code, watch.code), (0, 0, 0, 0), "{run:?} {logs:?} {one:?} {watch:?}");
    assert!(logs.stdout.contains("slow | after\n") && logs.stdout.contains("last | two\n"), "{}", logs.stdout);
    assert!(one.stdout.ends_with("\nafter\n"), "{}", one.stdout);
    assert!(watch.stderr.contains("slow: succeeded in "), "{}", watch.stderr);
    assert!(watch.stdout.contains("3 succeeded"), "{}", watch.stdout);
}

#[test]
fn a_run_is_cancelled_from_another_terminal() {
    let project = project();
    let run = started(&project);
    let watch = project.command(mlctl()).arg("watch").start();
    let cancel = project.run(&["cancel", "@latest"]);
    assert_eq!(cancel.code, 0, "{cancel:?}");
    let expected = [("first", "succeeded"), ("slow", "cancelled"), ("last", "cancelled")];
    assert!(is(&statuses(&project), expected), "{:?}", statuses(&project));
    let (run, watch) = (run.end(), watch.end());
    assert_eq!((run.code, watch.code), (5, 5), "{run:?} {watch:?}");
    assert!(project.ok(&["why", "last"]).contains("the run was cancelled"));
}

#[test]
fn an_interrupted_run_ends_its_steps_and_says_so() {
    let project = project();
    let run = started(&project);
    let logs = [&["logs", "-f"][..], &["logs", "-f", "slow"]].map(|logs| project.command(mlctl()).args(logs).start());
    run.signal(Signal::INT);
    let run = run.end();
    assert_eq!(run.code, 130, "{run:?}");
    for logs in logs {
        let logs = logs.end();
        assert_eq!(logs.code, 130, "{logs:?}");
    }
    assert!(run.stdout.contains("was interrupted after"), "{run:?}");
    let expected = [("first", "succeeded"), ("slow", "cancelled"), ("last", "cancelled")];
    assert!(is(&statuses(&project), expected), "{:?}", statuses(&project));
    assert_eq!(project.json(&["runs"])[0]["status"], "interrupted");
}

#[test]
fn a_killed_run_reads_as_interrupted_and_the_next_one_goes_on() {
    let project = project();
    let run = started(&project);
    run.signal(Signal::KILL);
    run.end();
    assert_eq!(project.json(&["runs"])[0]["status"], "interrupted");
    let expected = [("first", "succeeded"), ("slow", "cancelled"), ("last", "cancelled")];
    assert!(is(&statuses(&project), expected), "{:?}", statuses(&project));
    assert_eq!(project.run(&["watch"]).code, 130);
    let id = project.ok(&["runs", "-o", "name"]).trim().to_owned();
    let events = std::fs::read_to_string(project.root().join(format!(".mlctl/runs/{id}/events.jsonl"))).unwrap();
    assert_eq!(events.matches("\"instance.finished\"").count(), 3, "{events}");
    assert_eq!(events.matches("\"run.finished\"").count(), 1, "{events}");

    open_the_gate(&project);
    project.ok(&["run"]);
    let expected = [("first", "cached"), ("slow", "succeeded"), ("last", "succeeded")];
    assert!(is(&statuses(&project), expected), "{:?}", statuses(&project));
}

#[test]
fn a_terminal_sees_what_runs_and_what_is_next_and_nothing_that_a_step_made_up() {
    let project = project();
    let mut command = project.command(mlctl());
    command.arg("run").env("TERM", "xterm-256color");
    let mut session = Session::spawn(command).unwrap();
    session.set_expect_timeout(Some(Duration::from_secs(30)));
    let seen = session.expect("next: last").unwrap();
    let seen = String::from_utf8_lossy(seen.before()).into_owned();
    assert!(seen.contains("  slow  0s") && seen.contains("1/3 done, 1 running"), "{seen:?}");
    open_the_gate(&project);
    let seen = String::from_utf8_lossy(session.expect(Eof).unwrap().as_bytes()).into_owned();
    assert!(seen.contains("slow: \u{1b}[32msucceeded\u{1b}[0m in "), "{seen:?}");
    assert!(seen.contains("3 succeeded"), "{seen:?}");

    let mut command = project.command(mlctl());
    command.args(["logs", "slow"]).env("TERM", "xterm-256color");
    let mut session = Session::spawn(command).unwrap();
    session.set_expect_timeout(Some(Duration::from_secs(30)));
    let seen = String::from_utf8_lossy(session.expect(Eof).unwrap().as_bytes()).into_owned();
    assert_eq!(seen, "\u{1b}[32mgreen\u{1b}[0m cleared \r\nafter\r\n");
    let piped = project.ok(&["logs", "slow"]);
    assert!(piped.contains("\u{1b}[2J"), "into a pipe goes what was printed: {piped:?}");
}

#[test]
fn colours_go_where_they_are_wanted() {
    let project = project();
    let colourful = |arguments: &[&str], name: &str, value: &str| {
        project.command(mlctl()).args(arguments).env(name, value).ended().stdout.contains('\u{1b}')
    };
    let check = ["check"];
    assert!(!colourful(&check, "X", ""));
    assert!(colourful(&check, "CLICOLOR_FORCE", "1"));
    assert!(colourful(&["check", "--color", "always"], "X", ""));
    assert!(colourful(&["check", "--color", "always"], "NO_COLOR", "1"));
    assert!(!colourful(&["check", "--color", "never"], "CLICOLOR_FORCE", "1"));
}

#[test]
fn who_stops_reading_hears_nothing_more_and_it_is_no_failure() {
    let project = project();
    let mut schema = project.command(mlctl());
    let mut child = schema.arg("schema").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert_eq!((wait(&mut child).code(), complaints.as_str()), (Some(0), ""));
}
