//! `docs/cli.md` shows the help of every command as it is. `SNAPSHOTS=overwrite cargo test --test it docs` writes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use snapbox::{Assert, Data};

use crate::support::mlctl;

const MARK: &str = "<!-- help -->\n";

#[test]
fn the_page_of_commands_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let page = fs::read_to_string(&path).unwrap();
    let (introduction, _) = page.split_once(MARK).unwrap();
    let mut current = format!("{introduction}{MARK}");
    for command in commands(&[]) {
        section(&mut current, &[&command]);
        for below in commands(&[&command]) {
            section(&mut current, &[&command, &below]);
        }
    }
    let assert = Assert::new().action_env("SNAPSHOTS");
    assert.eq(Data::from(current), Data::read_from(&path, None));
}

/// The commands that the help lists.
fn commands(of: &[&str]) -> Vec<String> {
    let help = help(of);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// A command's help, without what all have.
fn section(page: &mut String, command: &[&str]) {
    let help = help(command);
    let own = help.split("\nGlobal options:").next().unwrap_or_default();
    *page += &format!("\n## `mlctl {}`\n\n```text\n{}\n```\n", command.join(" "), own.trim_end());
}

fn help(command: &[&str]) -> String {
    let output = Command::new(mlctl()).env_clear().env("COLUMNS", "110").args(command).arg("-h").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(mlctl()).args(["man", "-q", "--dir"]).arg(dir.path()).status().unwrap();
    assert!(status.success());
    let mut expected = vec!["mlctl".to_owned()];
    for command in commands(&[]) {
        expected.extend(commands(&[&command]).iter().map(|below| format!("mlctl-{command}-{below}")));
        expected.push(format!("mlctl-{command}"));
    }
    for name in expected {
        let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
}
