//! Manifests and digests.

use std::collections::BTreeMap;
use std::fs;

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_exec::hash;
use mlctl_exec::manifest::{Entry, Manifest, ManifestError, Node};
use proptest::prelude::*;

fn file(text: &str) -> Node {
    Node::File { digest: Digest::of(text.as_bytes()), size: text.len() as u64, executable: false }
}

fn link(target: &str) -> Node {
    Node::Link { target: target.to_owned() }
}

fn manifest(entries: &[(&str, Node)]) -> Result<Manifest, ManifestError> {
    Manifest::new(entries.iter().map(|(path, node)| Entry { path: (*path).to_owned(), node: node.clone() }).collect())
}

#[test]
fn links_may_lead_anywhere_inside_and_nowhere_outside() {
    let with = |path: &str, target: &str| {
        let tree = [("d", Node::Directory), ("d/e", Node::Directory), ("up", link("d/e"))];
        manifest(&[&tree[..], &[(path, link(target))]].concat())
    };
    for (path, target) in [
        ("l", "d/e"),
        ("l", "./d//e/"),
        ("l", "nowhere/at/all"),
        ("d/l", "../up"),
        ("d/e/l", "../../d"),
        ("d/l", ".."),
        ("l", "d/e/.."),
        ("l", "d/../d/e/../.."),
    ] {
        assert!(with(path, target).is_ok(), "{path} -> {target}");
    }
    for (path, target) in [
        ("l", "/etc"),
        ("l", ".."),
        ("l", "../x"),
        ("d/l", "../.."),
        ("d/e/l", "../../../x"),
        ("l", ""),
        // Through a link up could be anywhere.
        ("l", "up/../../x"),
        ("l", "nowhere/.."),
        ("l", "d/../.."),
    ] {
        assert!(matches!(with(path, target), Err(ManifestError::Links(_))), "{path} -> {target}");
    }
}

#[test]
fn malformed_paths_are_refused() {
    for path in ["", ".", "..", "/a", "a/", "a//b", "a/../b", "./a", "missing/parent", "a\0b"] {
        assert_eq!(manifest(&[(path, file("x"))]), Err(ManifestError::Malformed), "{path:?}");
    }
    assert_eq!(manifest(&[("a", file("x")), ("a", file("y"))]), Err(ManifestError::Malformed));
    assert_eq!(manifest(&[("a", file("x")), ("a/b", file("y"))]), Err(ManifestError::Malformed));
    assert_eq!(manifest(&[("a", link("b")), ("a/b", file("y"))]), Err(ManifestError::Malformed));
}

#[test]
fn a_part_is_found_through_links() {
    let tree = manifest(&[
        ("d", Node::Directory),
        ("d/f", file("f")),
        ("e", Node::Directory),
        ("e/f", file("f")),
        ("to_d", link("d")),
        ("to_f", link("to_d/f")),
        ("loop", link("loop")),
        ("root", Node::Directory),
        ("root/up", link("..")),
    ])
    .unwrap();
    let f = Artifact { kind: ArtifactKind::File, digest: Digest::of(b"f"), size: 1 };
    for path in ["d/f", "to_d/f", "to_f", "root/up/d/f", "root/up/to_d/f"] {
        assert_eq!(tree.sub(path), Some(f), "{path}");
    }
    assert_eq!(tree.sub("d"), Some(manifest(&[("f", file("f"))]).unwrap().artifact()));
    assert_eq!(tree.sub("to_d"), tree.sub("e"));
    assert_eq!(tree.sub("root/up"), Some(tree.artifact()));
    for path in ["x", "d/x", "d/f/x", "loop", "loop/x", "../d"] {
        assert_eq!(tree.sub(path), None, "{path}");
    }
}

#[test]
fn what_links_out_of_a_part_make_readable_is_part_of_it() {
    let tree = |shared: &str| {
        let links = ("d/up", link("../shared"));
        manifest(&[("d", Node::Directory), links, ("e", Node::Directory), ("shared", file(shared))]).unwrap()
    };
    assert_ne!(tree("1").sub("d"), tree("2").sub("d"));
    assert_eq!(tree("1").sub("d"), tree("1").sub("d"));
    assert_eq!(tree("1").sub("e"), tree("2").sub("e"));
}

/// A tree as nested maps: whatever it is, its paths are right.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(Node),
    Directory(BTreeMap<String, Tree>),
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Tree>> {
    let name =
        "[a-c.+/-]{1,3}".prop_map(|name| name.replace('/', "\u{e9}")).prop_filter("plain", |n| n != "." && n != "..");
    let leaf = prop_oneof![
        (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(digest, size, executable)| Node::File {
            digest: Digest::from_bytes(digest),
            size: size >> 8,
            executable
        }),
        "[a-c]{1,3}(/[a-c]){0,2}".prop_map(|target| Node::Link { target }),
    ];
    let leaf = leaf.prop_map(Tree::Leaf);
    let node = leaf.prop_recursive(4, 40, 6, {
        let name = name.clone();
        move |inner| prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(Tree::Directory)
    });
    prop::collection::btree_map(name, node, 0..6)
}

fn flatten(tree: &BTreeMap<String, Tree>, prefix: &str, out: &mut Vec<Entry>) {
    for (name, node) in tree {
        let path = format!("{prefix}{name}");
        match node {
            Tree::Leaf(node) => out.push(Entry { path, node: node.clone() }),
            Tree::Directory(below) => {
                flatten(below, &format!("{path}/"), out);
                out.push(Entry { path, node: Node::Directory });
            }
        }
    }
}

proptest! {
    #[test]
    fn an_encoding_reads_back_and_every_directory_is_a_manifest(tree in tree()) {
        let mut entries = Vec::new();
        flatten(&tree, "", &mut entries);
        let all = Manifest::new(entries).unwrap();
        prop_assert_eq!(&Manifest::decode(&all.encode()).unwrap(), &all);
        let names: Vec<&str> = tree.keys().map(String::as_str).collect();
        prop_assert_eq!(all.names(), names);
        for (name, node) in &tree {
            if let Tree::Directory(below) = node {
                let mut entries = Vec::new();
                flatten(below, "", &mut entries);
                prop_assert_eq!(all.sub(name), Some(Manifest::new(entries).unwrap().artifact()));
            }
        }
    }

    #[test]
    fn there_is_only_one_encoding(tree in tree(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut entries = Vec::new();
        flatten(&tree, "", &mut entries);
        let mut bytes = Manifest::new(entries).unwrap().encode();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(other) = Manifest::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn rubbish_is_no_manifest_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&b"mlctl manifest 1\n"[..], &bytes].concat();
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}

#[test]
fn a_files_digest_is_its_blake3_whatever_its_size() {
    const MIB: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut bytes = vec![0; 13 * MIB + 77];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    for size in [
        0,
        1,
        1023,
        1024,
        1025,
        MIB - 1,
        MIB,
        MIB + 1,
        4 * MIB - 1,
        4 * MIB,
        4 * MIB + 1,
        5 * MIB,
        8 * MIB,
        13 * MIB + 77,
    ] {
        fs::write(&path, &bytes[..size]).unwrap();
        let (digest, stamp) = hash::file(&path).unwrap();
        assert_eq!(digest, Digest::of(&bytes[..size]), "{size}");
        assert_eq!(stamp.size, size as u64);
    }
}

#[test]
fn the_parts_of_a_file_may_be_hashed_in_any_order() {
    const KIB: usize = 1 << 10;
    let bytes: Vec<u8> = (0..(1_u32 << 20) / 4 + 77).flat_map(u32::to_le_bytes).collect();
    for part in [KIB, 64 * KIB, 512 * KIB] {
        for size in [part + 1, 2 * part, 2 * part - 1, 3 * part, 3 * part + 1025, bytes.len()] {
            let content = &bytes[..size.min(bytes.len())];
            let hashed = |(index, bytes): (usize, &[u8])| {
                let mut hash = hash::Part::at((index * part) as u64);
                // As they come.
                bytes.chunks(1000).for_each(|piece| hash.update(piece));
                hash.value()
            };
            let parts: Vec<_> = content.chunks(part).enumerate().collect();
            let mut values: Vec<_> = parts.into_iter().rev().map(hashed).collect();
            values.reverse();
            let digest = hash::joined(&values, part as u64, content.len() as u64);
            assert_eq!(digest, Digest::of(content), "{size} bytes in parts of {part}");
        }
    }
}
