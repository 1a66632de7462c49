//! `docs/errors.md` lists every code, and every code of a spec is shown by a golden file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn each_file(dir: &Path, extension: &str, read: &mut dyn FnMut(&str)) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        // Tests invent codes of their own.
        if path.is_dir() && !path.ends_with("tests") {
            each_file(&path, extension, read);
        } else if path.extension().is_some_and(|found| found == extension) && !path.ends_with("tests.rs") {
            read(&fs::read_to_string(&path).expect("a text"));
        }
    }
}

/// The codes of the diagnostics that a source makes.
fn codes(source: &str, found: &mut BTreeSet<String>) {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    for maker in ["Diag::error(", "Diag::warning(", ".error(", ".unknown(", ".unknown_of_step(", "code: "] {
        for (at, _) in source.match_indices(maker) {
            let Some(rest) = source[at + maker.len()..].trim_start().strip_prefix('"') else { continue };
            let code = rest.split('"').next().unwrap_or_default();
            if code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
                found.insert(code.to_owned());
            }
        }
    }
}

fn codes_below(dir: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each_file(&root().join(dir), "rs", &mut |source| codes(source, &mut found));
    found
}

#[test]
fn every_code_is_documented() {
    let text = fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    let mut known = codes_below("crates/mlctl-core/src");
    assert!(known.len() > 60 && known.contains("unknown-key"), "{known:?}");
    known.extend(codes_below("src"));
    let missing: Vec<_> = known.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&known).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/errors.md lacks {missing:?} and lists {stale:?}, which are no more"
    );
}

#[test]
fn every_code_of_a_spec_has_a_golden_file() {
    let mut shown = BTreeSet::new();
    each_file(&root().join("crates/mlctl-core/tests/spec/bad"), "expected", &mut |said| {
        let names =
            said.lines().filter_map(|line| line.split_once('[')?.1.split_once("]: ").map(|(code, _)| code.to_owned()));
        shown.extend(names);
    });
    let missing: Vec<_> = codes_below("crates/mlctl-core/src/spec").difference(&shown).cloned().collect();
    assert!(missing.is_empty(), "no bad spec shows {missing:?}");
}
