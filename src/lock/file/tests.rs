use mlctl_core::digest::Digest;

use super::*;
use crate::error::Kind;
use crate::lock::Distribution;

fn image(local: bool) -> LockedImage {
    LockedImage { digest: format!("sha256:{}", "dd".repeat(32)), local }
}

fn lock() -> Lock {
    let six = Distribution {
        name: "six".to_owned(),
        version: "1.17.0".to_owned(),
        sha256: vec!["aa".repeat(32), "bb".repeat(32)],
    };
    let locked = LockedEnvironment {
        inputs: Digest::of(b"inputs"),
        python: "3.11".to_owned(),
        options: vec!["--find-links a \"quoted\" dir\\x".to_owned()],
        distributions: vec![six],
    };
    let empty = LockedEnvironment { options: Vec::new(), distributions: Vec::new(), ..locked.clone() };
    let url = LockedUrl { sha256: "cc".repeat(32), blake3: Digest::of(b"content"), size: 7 };
    Lock {
        environments: BTreeMap::from([
            ("default".to_owned(), BTreeMap::from([("linux-x86_64".to_owned(), locked)])),
            ("gpu-2".to_owned(), BTreeMap::from([("macos-aarch64".to_owned(), empty)])),
        ]),
        images: BTreeMap::from([
            ("debian:12".to_owned(), BTreeMap::from([("linux-x86_64".to_owned(), image(false))])),
            ("mine".to_owned(), BTreeMap::from([("linux-aarch64".to_owned(), image(true))])),
        ]),
        urls: BTreeMap::from([("https://host/a b?c=\"d\"#\u{e9}".to_owned(), url)]),
    }
}

/// The first finding: its code, its line, the text it points at, and its help.
fn finding(text: &str) -> (&'static str, usize, String, String) {
    let error = Lock::parse(text).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    let (source, diags) = &error.diags[0];
    assert_eq!(source.name, FILE_NAME);
    let span = diags[0].span.range();
    let line = text[..span.start].matches('\n').count() + 1;
    (diags[0].code, line, text[span].to_owned(), diags[0].help.clone().unwrap())
}

#[test]
fn what_is_written_reads_back() {
    assert_eq!(Lock::parse(&lock().to_text()).unwrap(), lock());
    assert_eq!(Lock::parse(&Lock::default().to_text()).unwrap(), Lock::default());
}

#[test]
fn a_distribution_is_one_line() {
    let text = lock().to_text();
    let six = format!(
        "    {{ name = \"six\", version = \"1.17.0\", sha256 = [\"{}\", \"{}\"] }},",
        "aa".repeat(32),
        "bb".repeat(32)
    );
    assert!(text.lines().any(|line| line == six), "{text}");
}

#[test]
fn a_lock_without_images_is_one_that_older_versions_read() {
    let text = Lock { images: BTreeMap::new(), ..lock() }.to_text();
    assert!(text.contains("\nversion = 1\n"), "{text}");
    assert_eq!(Lock::parse(&text).unwrap().urls, lock().urls);
}

#[test]
fn an_image_is_named_by_its_digest() {
    let digest = image(false).digest;
    for (name, expected) in [
        ("debian:12", "debian"),
        ("debian", "debian"),
        ("host:5000/a/b", "host:5000/a/b"),
        ("host:5000/a/b:1.4", "host:5000/a/b"),
        ("host:5000/a/b:1.4@sha256:00", "host:5000/a/b"),
    ] {
        assert_eq!(image(false).reference(name), format!("{expected}@{digest}"), "{name}");
    }
    assert_eq!(image(true).reference("mine"), digest);
}

#[test]
fn writing_replaces_the_file_and_leaves_nothing_beside_it() {
    let project = tempfile::tempdir().unwrap();
    assert_eq!(Lock::read(project.path()).unwrap(), Lock::default());
    let _alone = exclusively(project.path()).unwrap();
    Lock::default().write(project.path()).unwrap();
    lock().write(project.path()).unwrap();
    assert_eq!(Lock::read(project.path()).unwrap(), lock());
    let mut names: Vec<_> =
        fs::read_dir(project.path().join(".mlctl")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".gitignore", "locking"]);
}

#[test]
fn a_lock_of_a_newer_mlctl_is_refused() {
    let text = lock().to_text().replace("version = 2\n", "version = 3\nnew = true\n");
    let (code, line, at, help) = finding(&text);
    assert_eq!((code, line, at.as_str()), ("lock-version", 3, "3"));
    assert!(help.contains("upgrade"), "{help}");
}

#[test]
fn a_mangled_lock_is_refused_at_its_line() {
    let whole = lock().to_text();
    let digest = Digest::of(b"inputs").to_hex();
    for (from, to, line) in [
        ("version = 2", "version = \"2\"", 3),
        ("python = \"3.11\"\noptions", "python = 3.11\noptions", 7),
        (digest.as_str(), "abc", 6),
        ("name = \"six\"", "nome = \"six\"", 10),
        ("distributions = [", "distributions = [[", 13),
        ("size = 7", "size = -7", 27),
    ] {
        let text = whole.replacen(from, to, 1);
        assert_ne!(text, whole, "{from}");
        let (code, found, at, _) = finding(&text);
        assert_eq!((code, found), ("lock-invalid", line), "{to}: {at}\n{text}");
    }
    assert_eq!(finding("").0, "lock-invalid");
}

#[test]
fn a_merge_conflict_is_recognised() {
    let text = lock().to_text().replace("distributions = [\n", "<<<<<<< HEAD\ndistributions = [\n=======\n>>>>>>> b\n");
    let (_, line, _, help) = finding(&text);
    assert_eq!(line, 9);
    assert!(help.contains("merge conflict"), "{help}");
}
