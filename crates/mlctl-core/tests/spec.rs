//! Specs that must parse, and what is said of those that must not: one golden file per message.
//!
//! `BLESS=1 cargo test -p mlctl-core --test spec` rewrites the golden files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mlctl_core::diag::{Source, render};
use mlctl_core::spec;

fn specs(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec").join(kind);
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("the specs").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn source(path: &Path) -> Source {
    Source { name: "mlctl.toml".to_owned(), text: fs::read_to_string(path).expect("a spec") }
}

fn with_extension(files: &[PathBuf], extension: &str) -> BTreeSet<String> {
    let wanted = files.iter().filter(|file| file.extension().is_some_and(|found| found == extension));
    wanted.map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn good_specs_parse_without_a_warning() {
    for path in specs("good") {
        let source = source(&path);
        match spec::parse(&source) {
            Ok(parsed) => assert!(parsed.warnings.is_empty(), "{path:?}\n{}", render(&source, &parsed.warnings, false)),
            Err(diags) => panic!("{path:?}\n{}", render(&source, &diags, false)),
        }
    }
}

#[test]
fn bad_specs_say_what_is_wrong() {
    let bless = std::env::var_os("BLESS").is_some();
    let files = specs("bad");
    let mut wrong = Vec::new();
    for path in files.iter().filter(|file| file.extension().is_some_and(|found| found == "toml")) {
        let source = source(path);
        let diags = match spec::parse(&source) {
            Ok(parsed) => parsed.warnings,
            Err(diags) => diags,
        };
        assert!(!diags.is_empty(), "{path:?} has nothing wrong");
        let said = render(&source, &diags, false);
        let golden = path.with_extension("expected");
        if bless {
            fs::write(&golden, &said).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ (BLESS=1 rewrites them):\n{}", wrong.join("\n"));
    let files = specs("bad");
    assert_eq!(with_extension(&files, "toml"), with_extension(&files, "expected"), "a golden file without its spec");
}
