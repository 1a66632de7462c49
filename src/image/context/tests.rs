mod chance;
mod cli;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use futures_util::StreamExt;
use tempfile::TempDir;

use super::*;
use crate::image::ignore::Matched;

/// A context for a test, and where its digests are remembered.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.dir()).unwrap();
        place
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("context")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn scan(&self) -> Result<Arc<BuildContext>, CommandError> {
        let dockerfile = self.dir().join("Dockerfile");
        BuildContext::scan(&self.dir(), &dockerfile, &self.0.path().join("stamps")).map(Arc::new)
    }

    fn digest(&self) -> Digest {
        self.scan().unwrap().digest()
    }
}

fn bytes(context: &Arc<BuildContext>, extra: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    let extra = extra.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    let mut stream = Box::pin(context.clone().tar(extra));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    })
}

/// What an archive holds: each path with its kind and mode, and contents or target.
fn contents(archive: &[u8]) -> BTreeMap<Vec<u8>, (String, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let kind = format!("{:?} {:o}", header.entry_type(), header.mode().unwrap());
        let mut text = entry.link_name_bytes().map(|name| name.to_vec()).unwrap_or_default();
        let path = entry.path_bytes().to_vec();
        entry.read_to_end(&mut text).unwrap();
        assert!(found.insert(path, (kind, text)).is_none());
    }
    found
}

#[test]
fn everything_comes_through_and_nothing_else() {
    let place = Place::new();
    let dir = place.dir();
    let long = "long-".repeat(30);
    place.write("a", "A");
    place.write("run.sh", "#!/bin/sh\n");
    fs::set_permissions(dir.join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    place.write(&format!("{long}/{long}"), "deep");
    fs::create_dir_all(dir.join("empty/below")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"not \xFF utf-8\n");
    fs::write(dir.join(odd), "odd").unwrap();
    for (target, link) in [("../../etc/passwd", "out"), ("./a//b/", "dangling"), (&*long.repeat(3), "far")] {
        symlink(target, dir.join(link)).unwrap();
    }
    fs::hard_link(dir.join("a"), dir.join("hard")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    place.write("big", &"0123456789".repeat(100_000));

    let context = place.scan().unwrap();
    let archive = bytes(&context, &[("Dockerfile.here", "FROM scratch"), ("a", "instead")]).unwrap();
    let expected: BTreeMap<Vec<u8>, (&str, Vec<u8>)> = [
        (b"Dockerfile.here".to_vec(), ("Regular 644", b"FROM scratch".to_vec())),
        (b"a".to_vec(), ("Regular 644", b"instead".to_vec())),
        (b"hard".to_vec(), ("Regular 644", b"A".to_vec())),
        (b"run.sh".to_vec(), ("Regular 755", b"#!/bin/sh\n".to_vec())),
        (format!("{long}/").into_bytes(), ("Directory 755", Vec::new())),
        (format!("{long}/{long}").into_bytes(), ("Regular 644", b"deep".to_vec())),
        (b"empty/".to_vec(), ("Directory 755", Vec::new())),
        (b"empty/below/".to_vec(), ("Directory 755", Vec::new())),
        (odd.as_bytes().to_vec(), ("Regular 644", b"odd".to_vec())),
        (b"out".to_vec(), ("Symlink 777", b"../../etc/passwd".to_vec())),
        (b"dangling".to_vec(), ("Symlink 777", b"./a//b/".to_vec())),
        (b"far".to_vec(), ("Symlink 777", long.repeat(3).into_bytes())),
        (b"pipe".to_vec(), ("Fifo 644", Vec::new())),
        (b"big".to_vec(), ("Regular 644", "0123456789".repeat(100_000).into_bytes())),
    ]
    .into();
    let found = contents(&archive);
    let found: BTreeMap<_, _> =
        found.iter().map(|(path, (kind, text))| (path.clone(), (kind.as_str(), text.clone()))).collect();
    assert_eq!(found, expected);
    assert_eq!(archive, bytes(&context, &[("Dockerfile.here", "FROM scratch"), ("a", "instead")]).unwrap());
}

#[test]
fn the_digest_is_of_what_is_in_it() {
    let place = Place::new();
    place.write("a", "A");
    place.write("b/c", "C");
    let before = place.digest();
    let file = fs::File::open(place.dir().join("a")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(place.dir().join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.digest(), before);

    let mut seen = vec![before];
    let mut differs = || {
        let digest = place.digest();
        assert!(!seen.contains(&digest));
        seen.push(digest);
    };
    fs::set_permissions(place.dir().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    differs();
    place.write("a", "B");
    differs();
    fs::create_dir(place.dir().join("empty")).unwrap();
    differs();
    symlink("a", place.dir().join("link")).unwrap();
    differs();
    fs::remove_file(place.dir().join("link")).unwrap();
    symlink("b", place.dir().join("link")).unwrap();
    differs();
    fs::rename(place.dir().join("b"), place.dir().join("bb")).unwrap();
    differs();
}

#[test]
fn what_mlctl_keeps_in_the_project_is_never_in_it() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch");
    place.write("sub/.mlctl/kept", "1");
    let before = place.digest();
    place.write(".mlctl/runs/x/events.jsonl", "1");
    assert_eq!(place.digest(), before);
    place.write(".dockerignore", "**\n!.mlctl\n!Dockerfile\n");
    let archive = bytes(&place.scan().unwrap(), &[]).unwrap();
    let names: Vec<Vec<u8>> = contents(&archive).into_keys().collect();
    assert!(!names.iter().any(|name| name.starts_with(b".mlctl")), "{names:?}");
}

#[test]
fn the_dockerfiles_own_rules_come_first() {
    let place = Place::new();
    for name in ["Dockerfile", "a", "b", "sub/a", "sub/b"] {
        place.write(name, "");
    }
    let names = || -> Vec<String> {
        let context = place.scan().unwrap();
        context.entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    };
    place.write(".dockerignore", "**/a\n.dockerignore\nDockerfile\n");
    assert_eq!(names(), ["b", "sub", "sub/b"]);
    place.write(".dockerignore", "**\n!sub/b");
    assert_eq!(names(), ["sub", "sub/b"]);
    place.write(".dockerignore", "*\n!**/b");
    assert_eq!(names(), ["b", "sub", "sub/b"]);
    place.write("Dockerfile.dockerignore", "*\n!sub");
    assert_eq!(names(), ["sub", "sub/a", "sub/b"]);
    place.write("Dockerfile.dockerignore", "");
    assert_eq!(names().len(), 8);
}

#[test]
fn a_file_that_is_not_what_was_hashed_ends_the_archive() {
    let place = Place::new();
    place.write("a", "before");
    let changes: [&dyn Fn(&Path); 5] = [
        &|path| fs::write(path, "after!").unwrap(),
        &|path| fs::write(path, "longer than before").unwrap(),
        &|path| fs::write(path, "").unwrap(),
        &|path| fs::remove_file(path).unwrap(),
        &|path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap(),
    ];
    for change in changes {
        place.write("a", "before");
        fs::set_permissions(place.dir().join("a"), fs::Permissions::from_mode(0o644)).unwrap();
        let context = place.scan().unwrap();
        assert!(bytes(&context, &[]).is_ok() && context.fault().is_none());
        change(&place.dir().join("a"));
        assert!(bytes(&context, &[]).is_err());
        let fault = context.fault().unwrap();
        assert!(fault.message.ends_with("a changed while it was read"), "{fault}");
        assert!(fault.hints[0].contains("run again") && fault.hints[0].contains(".dockerignore"), "{fault:?}");
    }
}

#[test]
fn digests_are_remembered_but_never_wrong() {
    let place = Place::new();
    place.write("a", "one");
    place.write("b", "same");
    // Only what has not been written to just now is remembered.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let first = place.digest();
    let remembered = fs::read(place.0.path().join("stamps")).unwrap();
    assert_eq!(place.digest(), first);
    place.write("a", "two");
    let second = place.digest();
    assert_ne!(second, first);
    fs::write(place.0.path().join("stamps"), &remembered).unwrap();
    assert_eq!(place.digest(), second);
    fs::write(place.0.path().join("stamps"), "damaged").unwrap();
    assert_eq!(place.digest(), second);
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let error = BuildContext::scan(Path::new("/no/such"), Path::new("/no/such/Dockerfile"), Path::new("/no/stamps"));
    let error = error.unwrap_err();
    assert_eq!(error.kind.code(), 3);
    assert!(error.to_string().contains("/no/such"), "{error}");
}

#[test]
fn the_dockerfile_comes_along_wherever_it_is() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch");
    place.write("sub/Other", "FROM scratch");
    fs::write(place.0.path().join("outside"), "FROM scratch").unwrap();
    symlink("sub/Other", place.dir().join("inner")).unwrap();
    symlink("../outside", place.dir().join("outer")).unwrap();
    let named = |dockerfile: &str, is_classic: bool| {
        let dockerfile = place.dir().join(dockerfile);
        let context = BuildContext::scan(&place.dir(), &dockerfile, &place.0.path().join("stamps")).unwrap();
        let (name, extra) = context.dockerfile("text", is_classic);
        let extra: Vec<_> = extra.into_iter().map(|(name, text)| (name, String::from_utf8(text).unwrap())).collect();
        (name, extra)
    };
    for (dockerfile, expected) in
        [("Dockerfile", "Dockerfile"), ("sub/../sub/Other", "sub/Other"), ("inner", "sub/Other")]
    {
        assert_eq!(named(dockerfile, true), (expected.to_owned(), Vec::new()));
    }
    let own = (".mlctl.Dockerfile".to_owned(), "text".to_owned());
    let ignore = (".dockerignore".to_owned(), ".dockerignore\n.mlctl.Dockerfile\n".to_owned());
    for dockerfile in ["../outside", "outer"] {
        assert_eq!(named(dockerfile, false), (own.0.clone(), vec![own.clone()]));
        assert_eq!(named(dockerfile, true), (own.0.clone(), vec![own.clone(), ignore.clone()]));
    }
    place.write(".dockerignore", "Dockerfile");
    assert_eq!(named("Dockerfile", true), (own.0.clone(), vec![own.clone()]));
    place.write(".dockerignore", "Dockerfile\n.docker*");
    assert_eq!(named("Dockerfile", true), (own.0.clone(), vec![own, ignore]));
}
