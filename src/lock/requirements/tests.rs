use std::fs;

use super::*;
use crate::error::Kind;

/// A project with these files.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn spec() -> Source {
    Source { name: "mlctl.toml".to_owned(), text: "[environments.default]".to_owned() }
}

fn described<'a>(requirements: Option<&'a str>, packages: &'a [String]) -> Described<'a> {
    Described {
        name: "default",
        span: Span { start: 14, end: 21 },
        python: Some("3.11"),
        requirements: requirements.map(|file| (file, Span { start: 14, end: 21 })),
        packages,
    }
}

fn read_files(files: &[(&str, &str)]) -> Result<Inputs, CommandError> {
    read(project(files).path(), &spec(), &described(Some("requirements.txt"), &[]))
}

/// The first finding: its file, the text it points at, and its label.
fn finding(error: &CommandError) -> (String, String, String) {
    let (source, diags) = &error.diags[0];
    (source.name.clone(), source.text[diags[0].span.range()].to_owned(), diags[0].label.clone())
}

#[test]
fn comments_continuations_and_includes_make_logical_lines() {
    let inputs = read_files(&[
        (
            "requirements.txt",
            "\u{feff}# models\r\nscikit-learn[alldeps]==1.7.2 ; \\\r\n    python_version > '3.8'  # pinned\n\n\
             -r sub/more.txt\n--constraint=limits.txt\n--no-index\nurl#fragment==1\n",
        ),
        ("sub/more.txt", "-r ../requirements.txt\n-c other.txt\nsix\n--find-links wheels\n-f https://host/x\n"),
        ("sub/other.txt", "idna<4\n"),
        ("sub/wheels/x.whl", ""),
        ("limits.txt", "six<2\n-r nested.txt\n"),
        ("nested.txt", "numpy<3"),
    ])
    .unwrap();
    let continued = "scikit-learn[alldeps]==1.7.2 ;     python_version > '3.8'";
    assert_eq!(inputs.requirements, [continued, "six", "url#fragment==1"]);
    assert_eq!(inputs.constraints, ["idna<4", "six<2", "numpy<3"]);
    assert_eq!(inputs.options, ["--find-links sub/wheels", "-f https://host/x", "--no-index"]);
}

#[test]
fn only_what_is_asked_for_makes_a_lock_stale() {
    let digest =
        |text: &str| read_files(&[("requirements.txt", text), ("c.txt", "six<2"), ("d.txt", "six<3")]).unwrap().digest;
    let plain = digest("six\nidna\n-c c.txt\n");
    assert_eq!(plain, digest("# a comment\n  six\n\nidna  # another\n-c   c.txt"));
    for other in [
        "six\nidna\n",
        "six\nidna==1\n-c c.txt",
        "six\nidna\n-c d.txt",
        "six\nidna\nsix<2",
        "six\nidna\n-c c.txt\n--pre",
    ] {
        assert_ne!(plain, digest(other), "{other}");
    }
    let packages = ["six".to_owned(), "idna".to_owned()];
    let nothing = project(&[]);
    let in_spec = read(nothing.path(), &spec(), &described(None, &packages)).unwrap();
    assert_eq!(in_spec.requirements, packages);
    let other_python = Described { python: Some("3.12"), ..described(None, &packages) };
    assert_ne!(in_spec.digest, read(nothing.path(), &spec(), &other_python).unwrap().digest);
}

#[test]
fn what_cannot_be_locked_is_refused_at_its_line() {
    for (line, label) in [
        ("-e .", "an editable install changes with its directory"),
        ("--editable=src/x", "an editable install changes with its directory"),
        ("git+https://host/x.git@main", "a version-control checkout has no hash"),
        ("x @ git+ssh://git@host/x.git", "a version-control checkout has no hash"),
        ("x @ https://host/x-1.0-py3-none-any.whl", "a distribution from a URL"),
        ("https://host/x-1.0.tar.gz#egg=x", "a distribution from a URL"),
        ("./wheels/x-1.0-py3-none-any.whl", "a distribution from a local path"),
        ("x-1.0-py3-none-any.whl", "a distribution from a local path"),
        ("../x", "a distribution from a local path"),
        (".", "a distribution from a local path"),
        ("-r https://host/requirements.txt", "a file of the network"),
    ] {
        let error = read_files(&[("requirements.txt", &format!("six\n{line}  # why\n"))]).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{line}");
        let (file, text, why) = finding(&error);
        assert_eq!((file.as_str(), text, why.as_str()), ("requirements.txt", format!("{line}  # why"), label));
    }
}

#[test]
fn what_can_be_locked_is_not_refused() {
    let text = "six>=1,<2; sys_platform == 'linux'\nidna[all] ~= 3.0\nx == 1.0 --hash=sha256:aa \\\n --hash=sha256:bb\n\
                A.b_c-d\nx===1.0+cu121\n";
    assert_eq!(read_files(&[("requirements.txt", text)]).unwrap().requirements.len(), 5);
}

#[test]
fn several_findings_are_told_at_once() {
    let error = read_files(&[("requirements.txt", "-e .\nsix\ngit+https://host/x\n")]).unwrap_err();
    assert_eq!(error.diags[0].1.len(), 2);
}

#[test]
fn a_missing_file_is_told_where_it_is_named() {
    let error = read_files(&[]).unwrap_err();
    assert_eq!(error.kind, Kind::Missing);
    assert_eq!(finding(&error).0, "mlctl.toml");
    let error = read_files(&[("requirements.txt", "six\n-c gone.txt\n")]).unwrap_err();
    assert_eq!(error.kind, Kind::Missing);
    assert_eq!((finding(&error).0.as_str(), finding(&error).1.as_str()), ("requirements.txt", "-c gone.txt"));
}

#[test]
fn packages_take_one_requirement_each() {
    for package in ["six\n-e .", "-r x.txt", "git+https://host/x"] {
        let packages = [package.to_owned()];
        let error = read(project(&[]).path(), &spec(), &described(None, &packages)).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert_eq!(finding(&error).1, "default");
    }
}

#[test]
fn paths_in_options_hold_anywhere() {
    let project = Path::new("/p");
    assert_eq!(absolute("--find-links sub/wheels", project), "--find-links file:///p/sub/wheels");
    assert_eq!(absolute("--find-links a b/\u{e9}%", project), "--find-links file:///p/a%20b/%C3%A9%25");
    assert_eq!(absolute("--find-links /opt/wheels", project), "--find-links file:///opt/wheels");
    assert_eq!(absolute("-f https://host/x", project), "-f https://host/x");
    assert_eq!(absolute("--no-index", project), "--no-index");
}
