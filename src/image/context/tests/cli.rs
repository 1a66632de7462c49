//! Contexts as the real Docker CLI sends them: a listener of the test stands for the daemon, and keeps the archive.
//!
//! The CLI here is that of the classic builder. It differs from BuildKit, which we follow, in what can be told from the
//! rules: see [`as_classic`].

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::mpsc;

use super::chance::{self, Chance};
use super::*;

/// How many random contexts are compared.
const CASES: u64 = 250;

/// Docker's CLI, with our own daemon.
struct Cli {
    home: TempDir,
    received: mpsc::Receiver<Vec<u8>>,
}

impl Cli {
    /// None where there is no CLI whose patterns are those of today.
    fn new() -> Option<Self> {
        let version = Command::new("docker").arg("--version").output().map(|output| output.stdout);
        let version = String::from_utf8_lossy(&version.unwrap_or_default()).into_owned();
        let major = version.split("version ").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        let wanted = std::env::var_os("MLCTL_TEST_DOCKER").is_some_and(|value| value == "1");
        assert!(major.is_some() || !wanted, "MLCTL_TEST_DOCKER=1, but there is no Docker CLI");
        if major.is_none_or(|major| major < 23) {
            eprintln!("SKIPPED: no Docker CLI of version 23 or newer");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("docker.sock")).unwrap();
        let (sender, received) = mpsc::channel();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let sender = sender.clone();
                std::thread::spawn(move || serve(connection, &sender));
            }
        });
        Some(Self { home, received })
    }

    /// The archive that it sends, or what it says.
    fn build(&self, dir: &Path, dockerfile: &Path) -> Result<Vec<u8>, String> {
        let mut command = Command::new("docker");
        command.args(["build", "-q", "-f"]).arg(dockerfile).arg(dir).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("DOCKER_BUILDKIT", "0");
        command.env("HOME", self.home.path()).env("DOCKER_CONFIG", self.home.path());
        command.env("DOCKER_HOST", format!("unix://{}", self.home.path().join("docker.sock").display()));
        let output = command.output().unwrap();
        let archive = self.received.try_recv();
        archive.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Answers pings, and keeps what is to be built.
fn serve(connection: UnixStream, sender: &mpsc::Sender<Vec<u8>>) {
    let mut writer = connection.try_clone().unwrap();
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let mut body = "";
        if head.contains("/build?") {
            // Broken off where the CLI finds that it cannot go on.
            let Some(archive) = chunked(&mut reader) else { return };
            sender.send(archive).unwrap();
            body = "{\"aux\":{\"ID\":\"sha256:0\"}}\n";
        }
        let answer = format!("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A body in chunks.
fn chunked(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        body.truncate(start + size);
        if size == 0 {
            return Some(body);
        }
    }
}

/// What can be compared: kind, whether it is executable, and contents or target.
type Seen = BTreeMap<Vec<u8>, (tar::EntryType, bool, Vec<u8>)>;

fn seen(archive: &[u8]) -> Seen {
    let mut found = Seen::new();
    // What the extended header of the next entry says.
    let mut extended = BTreeMap::new();
    // Raw, because what this crate makes of a name with a line break is not what it is.
    for entry in tar::Archive::new(archive).entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let (kind, mode) = (entry.header().entry_type(), entry.header().mode().unwrap());
        let (mut path, mut text) = (entry.path_bytes().to_vec(), Vec::new());
        let mut link = entry.link_name_bytes().map(|link| link.to_vec());
        entry.read_to_end(&mut text).unwrap();
        match kind {
            tar::EntryType::XHeader => extended.extend(records(&text)),
            tar::EntryType::GNULongName => drop(extended.insert(b"path".to_vec(), text[..text.len() - 1].to_vec())),
            tar::EntryType::GNULongLink => drop(extended.insert(b"linkpath".to_vec(), text[..text.len() - 1].to_vec())),
            _ => {
                path = extended.remove(b"path".as_slice()).unwrap_or(path);
                link = extended.remove(b"linkpath".as_slice()).or(link);
                let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
                let executable = kind.is_file() && mode & 0o111 != 0;
                found.insert(path, (kind, executable, link.unwrap_or(text)));
                extended.clear();
            }
        }
    }
    found
}

/// The records of an extended header: `LENGTH KEY=VALUE\n`.
fn records(mut text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(space) = text.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&text[..space]).unwrap().parse().unwrap();
        let record = &text[space + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        found.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        text = &text[length..];
    }
    found
}

/// Whether the classic CLI sends a path that BuildKit has in the context: it looks below an excluded directory only if
/// a `!` pattern begins with that directory's name as text, and has no entry for the directory itself.
fn as_classic(rules: &Rules, exceptions: &[Vec<u8>], path: &[u8], is_directory: bool) -> bool {
    let mut parent: Option<Matched> = None;
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let (excluded, matched) = rules.excludes(&path[..end], parent.as_ref());
        parent = Some(matched);
        let prefix = [&path[..end], b"/"].concat();
        let is_last = end == path.len();
        if excluded && !is_last && !exceptions.iter().any(|text| [text.as_slice(), b"/"].concat().starts_with(&prefix))
        {
            return false;
        }
        if excluded && is_last && is_directory {
            return false;
        }
    }
    true
}

/// Compares one context; gives what differs.
fn compare(cli: &Cli, place: &Place, dockerfile: &Path, text: &[u8]) -> Result<(), String> {
    let sent = cli.build(&place.dir(), dockerfile);
    let stamps = place.0.path().join("stamps");
    let (sent, context) = match (sent, BuildContext::scan(&place.dir(), dockerfile, &stamps)) {
        (Ok(sent), Ok(context)) => (sent, context),
        (Err(_), Err(_)) => return Ok(()),
        // Docker finds what is no regular expression only when it compares with it, we when we read it.
        (Ok(_), Err(error)) if error.to_string().contains("cannot be used") => return Ok(()),
        (Ok(_), Err(error)) => return Err(format!("only we fail: {error}")),
        (Err(error), Ok(_)) => return Err(format!("only Docker fails: {error}")),
    };
    let (mut theirs, mut ours) = (seen(&sent), seen(&bytes(&Arc::new(context), &[]).unwrap()));
    let rules = Rules::parse("", text).unwrap();
    let exceptions = rules.exceptions();
    ours.retain(|path, (kind, ..)| as_classic(&rules, &exceptions, path, kind.is_dir()));
    for always in [b".dockerignore".as_slice(), b"Dockerfile"] {
        ours.remove(always);
        theirs.remove(always);
    }
    let show = |of: &Seen, but: &Seen| -> Vec<String> {
        let differing = of.iter().filter(|(path, what)| but.get(*path) != Some(*what));
        differing.map(|(path, what)| format!("{} {:?}", path.escape_ascii(), what.0)).collect()
    };
    let (theirs, ours) = (show(&theirs, &ours), show(&ours, &theirs));
    if theirs.is_empty() && ours.is_empty() { Ok(()) } else { Err(format!("theirs: {theirs:?} ours: {ours:?}")) }
}

/// Ignore files that people write, and some that nobody should.
const RULES: &[&str] = &[
    "",
    "*",
    "**",
    "*\n!a",
    "*\n!sub/a",
    "**\n!**/*.md",
    "sub\n!sub/deep/a",
    "sub/*\n!sub/deep",
    "sub\n!sub/deep/a\nsub",
    "**/a",
    "*/*/a",
    "/sub/",
    "./sub/../a",
    "../a\n/..\n.\n/",
    "# a\n #a\n\\#a",
    "\u{FEFF}a\r\nsub\r",
    "!\n",
    "a\n!",
    "[",
    "[a",
    "a*[",
    "[a-]",
    "[!a]",
    "[^a]*",
    "\\",
    "a\\",
    "\\a\n\\d",
    "**a",
    "a**",
    "sub**deep",
    "s?b/[a-d]*",
    "Dockerfile\n.dockerignore",
    "Dockerfile*\n.*",
    "a|b*",
    "  a  \n\tsub\t",
];

#[test]
fn rules_that_people_write_are_read_as_by_the_docker_cli() {
    let Some(cli) = Cli::new() else { return };
    let place = Place::new();
    for name in [
        "a",
        "b",
        "ab",
        "#a",
        " a",
        "d",
        "7",
        "x.md",
        ".b",
        "sub/a",
        "sub/b.md",
        "sub/deep/a",
        "sub/deep/d/a",
        "Dockerfile",
    ] {
        place.write(name, name);
    }
    fs::create_dir(place.dir().join("sub/empty")).unwrap();
    for rules in RULES {
        place.write(".dockerignore", rules);
        let compared = compare(&cli, &place, &place.dir().join("Dockerfile"), rules.as_bytes());
        assert_eq!(compared, Ok(()), "{rules:?}");
    }
}

#[test]
fn random_contexts_are_those_of_the_docker_cli() {
    let Some(cli) = Cli::new() else { return };
    let mut different = Vec::new();
    for seed in 0..CASES {
        let mut chance = Chance(seed);
        let place = Place::new();
        chance::tree(&mut chance, &place.dir(), 0);
        let text = chance::rules(&mut chance);
        let dockerfile = place.dir().join("Dockerfile");
        for name in ["Dockerfile", ".dockerignore"] {
            let path = place.dir().join(name);
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        fs::write(&dockerfile, "FROM scratch\n").unwrap();
        fs::write(place.dir().join(".dockerignore"), &text).unwrap();
        if let Err(difference) = compare(&cli, &place, &dockerfile, &text) {
            different.push(format!("seed {seed}, {}: {difference}", text.escape_ascii()));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
