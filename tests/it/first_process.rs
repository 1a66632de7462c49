//! A container's first process, in a process namespace of its own instead of a container.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use mlctl_exec::init::{ARGUMENT, How, KILL, News, Order, TERMINATE};

use crate::support::mlctl;

/// `unshare` as root, or by a namespace of users; where neither is allowed there is nothing to test with.
#[allow(clippy::print_stderr, reason = "there is no other way to tell from a test")]
fn unshare() -> Option<Command> {
    let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    let command = |way: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(way).args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        command
    };
    let works = |way: &&&[&str]| command(way).arg("true").output().is_ok_and(|output| output.status.success());
    let found = ways.iter().find(works).map(|way| command(way));
    if found.is_none() {
        eprintln!("SKIPPED: this system allows no process namespaces");
    }
    found
}

struct Container {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Container {
    /// One that runs a script with `sh`.
    fn start(script: &str) -> Option<Self> {
        let mut child = unshare()?
            .arg(mlctl())
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let argv = ["sh", "-c", script].map(Into::into).to_vec();
        let path = ("PATH".into(), std::env::var_os("PATH").unwrap());
        let order = Order::new(argv, vec![path], Path::new("/")).to_bytes().unwrap();
        child.stdin.as_mut().unwrap().write_all(&order).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, output })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn tell(&mut self, byte: u8) {
        self.child.stdin.as_mut().unwrap().write_all(&[byte]).unwrap();
    }

    /// What it wrote from now on, and what was said of it.
    fn end(mut self) -> (String, Vec<News>) {
        let mut output = String::new();
        self.output.read_to_string(&mut output).unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        self.child.wait().unwrap();
        (output, said.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// How its command ended.
    fn how(self) -> How {
        match self.end().1.as_slice() {
            [News::Started, News::Ended { how, alone: true, .. }] => *how,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn both_streams_keep_their_order_and_a_status_is_no_signal() {
    let Some(container) = Container::start("echo a; echo b >&2; echo c; exit 137") else { return };
    let (output, news) = container.end();
    assert_eq!(output, "a\nb\nc\n");
    assert!(matches!(news.as_slice(), [News::Started, News::Ended { how: How::Exit(137), .. }]), "{news:?}");
    assert_eq!(Container::start("kill -9 $$").unwrap().how(), How::Signal(9));
}

#[test]
fn what_the_command_leaves_behind_ends_with_it() {
    let script = "(setsid sleep 1000 >/dev/null 2>&1 &); (sleep 1000 &); trap '' TERM; exit 3";
    let Some(container) = Container::start(script) else { return };
    assert_eq!(container.how(), How::Exit(3));
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    let script = "(true &); while grep -lq '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done";
    let Some(container) = Container::start(script) else { return };
    assert_eq!(container.how(), How::Exit(0));
}

#[test]
fn term_reaches_what_is_stopped_and_what_began_a_session_and_gives_it_time() {
    let script = "setsid sh -c 'trap \"echo late; exit\" TERM; echo ready; while :; do sleep 0.01; done' & \
                  while :; do kill -STOP $$; done";
    let Some(mut container) = Container::start(script) else { return };
    assert_eq!(container.line(), "ready");
    container.tell(TERMINATE);
    let (output, news) = container.end();
    assert!(output.ends_with("late\n"), "{output}");
    assert!(matches!(news[1], News::Ended { how: How::Signal(15), .. }), "{news:?}");
}

#[test]
fn kill_ends_what_ignores_term() {
    let Some(mut container) = Container::start("trap '' TERM; echo ready; while :; do sleep 1; done") else { return };
    assert_eq!(container.line(), "ready");
    container.tell(TERMINATE);
    container.tell(KILL);
    assert_eq!(container.how(), How::Signal(9));
}

#[test]
fn all_ends_when_mlctl_is_gone() {
    let Some(mut container) = Container::start("trap '' TERM; echo ready; while :; do sleep 1; done") else { return };
    assert_eq!(container.line(), "ready");
    drop(container.child.stdin.take());
    assert_eq!(container.end(), (String::new(), vec![News::Started]));
}

#[test]
fn it_is_only_for_a_first_process() {
    let output = Command::new(mlctl()).arg(ARGUMENT).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("first process of a container"));
}
