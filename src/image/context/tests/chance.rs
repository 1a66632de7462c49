//! Random trees and ignore files that can be made again from a seed: few names, so that patterns match, and nasty ones.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A generator of numbers (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn name(&mut self) -> &'static [u8] {
        if self.percent(80) { self.pick(PLAIN) } else { self.pick(NASTY) }
    }
}

const PLAIN: &[&[u8]] = &[b"a", b"b", b"ab", b"a.b", b"abc", b"sub", b"x.md", b".b", b"README.md"];

const NASTY: &[&[u8]] = &[
    b"Dockerfile",
    b"dockerfile",
    b".dockerignore",
    b"#a",
    b"!a",
    b"! a",
    b" a",
    b"a ",
    b"a b",
    b"a\tb",
    b"a\nb",
    b"a\rb",
    b"a\\",
    b"\\a",
    b"a\\b",
    b"[a]",
    b"[a",
    b"]",
    b"a*",
    b"*",
    b"**",
    b"a?",
    b"^a",
    b"a^",
    b"a-b",
    b"-",
    b"..a",
    b"...",
    b"(a)",
    b"{a}",
    b"a+",
    b"a|b",
    b"$a",
    b"a$",
    b"~",
    b"'\"",
    b"7",
    b"A",
    b"_",
    "é".as_bytes(),
    "日本".as_bytes(),
    "\u{FEFF}a".as_bytes(),
    "\u{FFFD}".as_bytes(),
    "\u{3000}".as_bytes(),
    b"\xff",
    b"a\xffb",
    b"\xe2\x82",
    b"\xed\xa0\x80",
];

/// Fills an empty directory.
pub(super) fn tree(chance: &mut Chance, dir: &Path, depth: usize) {
    for _ in 0..1 + chance.below(5) {
        let path = dir.join(OsStr::from_bytes(chance.name()));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match chance.below(20) {
            0 => {
                let targets: &[&[u8]] =
                    &[b"a", b"../b", b"/etc/passwd", b"./a//b/", b"nowhere", b"\xff", &[b'x'; 150], b"..", b"."];
                symlink(OsStr::from_bytes(chance.pick(targets)), path).unwrap();
            }
            1 => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from(0o600)).unwrap(),
            2..=8 if depth < 4 => {
                fs::create_dir(&path).unwrap();
                tree(chance, &path, depth + 1);
            }
            9 => fs::create_dir(&path).unwrap(),
            _ => {
                fs::write(&path, vec![b'x'; chance.below(3000)]).unwrap();
                let mode = if chance.percent(20) { 0o755 } else { 0o640 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// An ignore file.
pub(super) fn rules(chance: &mut Chance) -> Vec<u8> {
    let mut text = Vec::new();
    if chance.percent(5) {
        text.extend_from_slice("\u{FEFF}".as_bytes());
    }
    let noisy = chance.percent(15);
    for _ in 0..1 + chance.below(6) {
        let decoration: &[&[u8]] =
            &[b" ", b"\t", b"#", b"# ", b"/", b"./", b"\r\n", b"\n", b"! ", "\u{3000}".as_bytes()];
        if chance.percent(10) {
            text.extend_from_slice(chance.pick(decoration));
        }
        if chance.percent(35) {
            text.push(b'!');
        }
        if noisy && chance.percent(50) {
            noise(chance, &mut text);
        } else {
            pattern(chance, &mut text);
        }
        if chance.percent(10) {
            text.extend_from_slice(chance.pick(&[b" ".as_slice(), b"/", b"/.", b"\r", b"/..", b"\xC2\xA0", b"\\"]));
        }
        text.push(b'\n');
    }
    text
}

/// A pattern that is likely to match something.
fn pattern(chance: &mut Chance, text: &mut Vec<u8>) {
    let wild: &[&[u8]] = &[
        b"*", b"**", b"?", b"a*", b"*a", b"*b*", b"a?", b"[ab]", b"[a-c]*", b"[^a]", b"[^a]*", b"*.md", b"**a", b"a**",
        b"[!a]", b"*.*", b"?*", b"***", b"**b**", b"\\a", b"\\*", b"[\\]a]", b"[[]*", b"..", b".", b"",
    ];
    for part in 0..1 + chance.below(3) {
        if part > 0 {
            text.push(b'/');
        }
        if chance.percent(60) {
            text.extend_from_slice(chance.name());
        } else {
            text.extend_from_slice(chance.pick(wild));
        }
    }
}

/// Any characters that mean something to someone.
fn noise(chance: &mut Chance, text: &mut Vec<u8>) {
    let pieces: &[&[u8]] = &[
        b"a",
        b"b",
        b"/",
        b"*",
        b"**",
        b"?",
        b"[",
        b"]",
        b"^",
        b"-",
        b"\\",
        b"!",
        b".",
        b"#",
        b" ",
        b"{",
        b"}",
        b"(",
        b")",
        b"|",
        b"$",
        b"+",
        b"\\d",
        b"\\w",
        b"\\W",
        b"\\s",
        b"\\b",
        b"\\B",
        b"\\A",
        b"\\z",
        b"\\Q",
        b"\\E",
        b"\\x61",
        b"\\141",
        b"\\0",
        b"\\1",
        b"\\n",
        b"\\t",
        b"[[:alpha:]]",
        b"[[:^digit:]]",
        b"[[:no:]]",
        b"[a-z]",
        b"[*]",
        b"[?]",
        b"[^*]",
        b"[a*",
        b"[.]",
        b"[\\d]",
        b"[\\W]",
        b"\\.",
        b"\\_",
        b"\xff",
        b"[\xff]",
        "é".as_bytes(),
        "\\é".as_bytes(),
        b"a-b",
        b"\0",
    ];
    for _ in 0..1 + chance.below(6) {
        text.extend_from_slice(chance.pick(pieces));
    }
}
