//! Exports as daemons of different ages make them.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::*;
use crate::platform::docker::Daemon;

/// Files of an archive, by path.
type Files = BTreeMap<String, Vec<u8>>;

fn files(archive: &[u8]) -> Files {
    let mut files = Files::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
    }
    files
}

/// What becomes of an export, and how many bytes were left out.
fn rewritten(export: Vec<u8>, layers: &[String], there: &[String]) -> io::Result<(Files, u64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let wanted = Wanted {
        name: "docker.io/mlctl/a:1".to_owned(),
        layers: layers.to_vec(),
        there: Arc::new(there.iter().cloned().collect()),
    };
    let left_out = Arc::new(AtomicU64::new(0));
    // In pieces that end anywhere.
    let pieces: Vec<_> = export.chunks(100_003).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let all = runtime.block_on(async {
        super::rewritten(stream::iter(pieces), wanted, left_out.clone()).try_collect::<Vec<Bytes>>().await
    })?;
    Ok((files(&all.concat()), left_out.load(Ordering::Relaxed)))
}

/// The manifest that an archive's index names; its config and layers must be there or be left out for a reason.
fn manifest(files: &Files, there: &[String]) -> Value {
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "docker.io/mlctl/a:1");
    let bytes = &files[&oci::path(entry["digest"].as_str().unwrap())];
    assert_eq!(oci::sha256(bytes), entry["digest"]);
    let manifest: Value = serde_json::from_slice(bytes).unwrap();
    let has: HashMap<String, usize> = files.values().map(|content| (oci::sha256(content), content.len())).collect();
    assert!(has.contains_key(manifest["config"]["digest"].as_str().unwrap()), "{manifest}");
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap().to_owned();
        match has.get(&digest) {
            Some(size) => assert_eq!(*size as u64, layer["size"]),
            None => assert!(there.contains(&digest), "{digest}"),
        }
    }
    manifest
}

#[test]
fn what_this_daemon_exports_is_an_image_again() {
    let connected = Daemon::connect();
    let wanted = std::env::var_os("MLCTL_TEST_DOCKER").is_some_and(|value| value == "1");
    let look = |daemon: &Daemon| daemon.block_on(daemon.client().inspect_image("python:3.11-slim")).ok();
    let Some((daemon, found)) = connected.ok().and_then(|daemon| look(&daemon).map(|found| (daemon, found))) else {
        assert!(!wanted, "MLCTL_TEST_DOCKER=1, but there is no Docker engine with python:3.11-slim");
        return eprintln!("SKIPPED: no Docker engine with python:3.11-slim");
    };
    let client = daemon.client();
    let (id, layers) = (found.id.unwrap(), found.root_fs.unwrap().layers.unwrap());
    let export = daemon.block_on(client.export_image(&id).map(Result::unwrap).collect::<Vec<Bytes>>()).concat();
    let whole = export.len() as u64;
    let (files, left_out) = rewritten(export.clone(), &layers, &[]).unwrap();
    let all = manifest(&files, &[]);
    let digests: Vec<&str> =
        all["layers"].as_array().unwrap().iter().filter_map(|one| one["digest"].as_str()).collect();
    assert_eq!((left_out, all["layers"].as_array().unwrap().len()), (0, layers.len()));
    assert!(all["config"]["digest"] == id || !digests.contains(&layers[0].as_str()), "{all}");
    let there: Vec<String> = digests.iter().map(|digest| (*digest).to_owned()).collect();
    let (files, left_out) = rewritten(export, &layers, &there).unwrap();
    assert_eq!(manifest(&files, &there), all);
    let sent: usize = files.values().map(Vec::len).sum();
    // Each was known before it was read.
    assert!(sent < 64 << 10 && left_out + (64 << 10) > whole, "{sent} {left_out} {whole}");
}

/// An archive of these files; a link is written `-> target`.
fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        if let Some(target) = content.strip_prefix(b"-> ") {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            builder.append_link(&mut header, path, std::str::from_utf8(target).unwrap()).unwrap();
        } else {
            let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
            builder.append_data(&mut header, path, content.as_slice()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[test]
fn newer_daemons_say_which_layer_it_is_and_have_a_manifest_of_their_own() {
    let (low, high) = ([&[0x1f, 0x8b][..], &[1; 3000]].concat(), [&[0x28, 0xb5, 0x2f, 0xfd][..], &[2; 500]].concat());
    let config = text(&json!({ "architecture": "amd64", "rootfs": { "diff_ids": [] } }));
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let own = text(&json!({
        "schemaVersion": 2,
        "mediaType": oci::MANIFEST,
        "config": { "digest": oci::sha256(&config), "size": config.len() },
        "layers": [
            { "mediaType": gzip, "digest": oci::sha256(&low), "size": low.len() },
            { "digest": oci::sha256(&high), "size": high.len() },
        ],
        "annotations": { "kept": "yes" },
    }));
    let place = |bytes: &[u8]| oci::path(&oci::sha256(bytes));
    let contents = text(&json!([{ "Config": place(&config), "Layers": [place(&low), place(&high)] }]));
    let export = |with: bool| {
        let mut all = vec![(place(&low), low.clone()), (place(&high), high.clone()), (place(&config), config.clone())];
        all.extend(with.then(|| (place(&own), own.clone())));
        all.extend([("manifest.json".to_owned(), contents.clone()), ("oci-layout".to_owned(), b"{}".to_vec())]);
        archive(&all.iter().map(|(path, content)| (path.as_str(), content.clone())).collect::<Vec<_>>())
    };
    let there = [oci::sha256(&low)];
    let (files, left_out) = rewritten(export(true), &[], &there).unwrap();
    assert_eq!((left_out, &manifest(&files, &there)["annotations"]["kept"]), (low.len() as u64, &json!("yes")));
    assert_eq!(files["oci-layout"], oci::LAYOUT_FILE.1);
    let (files, _) = rewritten(export(false), &[], &there).unwrap();
    let made = manifest(&files, &there);
    assert_eq!(made["layers"][0]["mediaType"], gzip);
    assert_eq!(made["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
}

#[test]
fn a_layer_that_is_another_one_is_sent_once() {
    let (layer, config) = (vec![7; 5000], text(&json!({ "rootfs": {} })));
    let contents = text(&json!([{ "Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"] }]));
    let export = archive(&[
        ("a/layer.tar", b"-> ../b/layer.tar".to_vec()),
        // What it is cannot be found out: it is sent, whatever is there.
        ("b/json", text(&json!({ "id": "b", "created": "1970-01-01T00:00:00Z" }))),
        ("b/layer.tar", layer.clone()),
        ("c.json", config),
        ("manifest.json", contents),
        ("repositories", b"{}".to_vec()),
    ]);
    let known = [oci::sha256(&layer)];
    let (files, left_out) = rewritten(export, &known, &known).unwrap();
    assert_eq!((left_out, files.contains_key("b/layer.tar")), (0, true));
    let made = manifest(&files, &[]);
    assert_eq!(made["layers"][0], made["layers"][1]);
    assert!(!files.contains_key("repositories"));
}

#[test]
fn an_export_that_is_not_whole_is_no_image() {
    let config = text(&json!({ "rootfs": {} }));
    let contents = text(&json!([{ "Config": "c.json", "Layers": ["a/layer.tar"] }]));
    let told = |entries: &[(&str, Vec<u8>)]| rewritten(archive(entries), &[], &[]).unwrap_err().to_string();
    assert!(told(&[("c.json", config.clone())]).contains("manifest.json"));
    assert!(told(&[("manifest.json", contents.clone())]).contains("c.json"));
    let lacks = told(&[("c.json", config.clone()), ("manifest.json", contents.clone())]);
    assert!(lacks.contains("a/layer.tar"), "{lacks}");
    let mut cut = archive(&[("a/layer.tar", vec![7; 5000]), ("c.json", config), ("manifest.json", contents)]);
    cut.truncate(3000);
    assert!(rewritten(cut, &[], &[]).is_err());
}
