//! What the documents say is true as far as that can be tested: `docs/cli.md` shows the help of every command as it is
//! (`SNAPSHOTS=overwrite cargo test --test it docs` writes it), and links lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use snapbox::{Assert, Data};

use crate::support::{Start, mlctl};

const MARK: &str = "<!-- help -->\n";

#[test]
fn the_page_of_commands_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let page = fs::read_to_string(&path).unwrap();
    let (introduction, _) = page.split_once(MARK).unwrap();
    let mut current = format!("{introduction}{MARK}");
    for command in all_commands() {
        section(&mut current, &command.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let assert = Assert::new().action_env("SNAPSHOTS");
    assert.eq(Data::from(current), Data::read_from(&path, None));
}

/// Every command, each before those below it.
pub(crate) fn all_commands() -> Vec<Vec<String>> {
    fn add(of: &[String], all: &mut Vec<Vec<String>>) {
        for name in commands(&of.iter().map(String::as_str).collect::<Vec<_>>()) {
            let command = [of, &[name]].concat();
            all.push(command.clone());
            add(&command, all);
        }
    }
    let mut all = Vec::new();
    add(&[], &mut all);
    all
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
    Command::new(mlctl()).env_clear().env("COLUMNS", "110").args(command).arg("-h").ended().stdout
}

#[test]
fn every_command_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Command::new(mlctl()).args(["man", "-q", "--dir"]).arg(dir.path()).ended().code, 0);
    let mut expected = vec!["mlctl".to_owned()];
    expected.extend(all_commands().iter().map(|command| format!("mlctl-{}", command.join("-"))));
    for name in expected {
        let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["", "docs", "tests/conformance"].iter().flat_map(|dir| pages(&root.join(dir)));
    let broken: Vec<String> = pages.flat_map(|page| broken(&page)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

fn pages(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The links of a page to files or headings that are not there.
fn broken(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let own = links.filter(|link| !link.contains("://"));
    own.filter(|link| !leads_somewhere(page, link)).map(|link| format!("{}: {link}", page.display())).collect()
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
    let target = if file.is_empty() { page.to_owned() } else { page.with_file_name(file) };
    match heading {
        None => target.exists(),
        Some(heading) => fs::read_to_string(target)
            .is_ok_and(|text| text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading)),
    }
}

/// A heading's anchor, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
