//! The image that holds `mlctl-exec`: a program of mlctl in one layer, written without Docker. The same program is always
//! the same image, byte for byte.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use mlctl_exec::store::Stamp;
use serde_json::json;
use tar::EntryType;

use super::archive::{self, header};
use super::oci::{self, Blob, Sha256};
use super::{known, platform};
use crate::error::CommandError;

/// The program in the image.
pub(super) const PROGRAM: &str = "mlctl-exec";
/// What the image is called, without a registry.
pub(crate) const REPOSITORY: &str = "mlctl/exec";
/// This program, also when its file has been replaced since it was started.
const SELF: &str = "/proc/self/exe";
/// Below the store's root: for each platform the stamp of the program and the digest of its layer.
const KNOWN: &str = "images/executors";

/// The image, without its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    program: PathBuf,
    /// The program's bytes.
    size: u64,
    pub(super) layer: Blob,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    /// What the image is known by.
    pub(crate) digest: String,
}

impl Executor {
    /// The image for nodes of this platform (`linux-x86_64`). No network is reached; a program that was seen before is not
    /// read again.
    pub(crate) fn of(store: &Path, platform: &str) -> Result<Self, CommandError> {
        let program = program(platform)?;
        Self::of_program(store, &program, platform).map_err(|error| {
            CommandError::missing(format!("cannot read mlctl's own program {}", program.display())).because(&error)
        })
    }

    /// The image of this program.
    pub(super) fn of_program(store: &Path, program: &Path, platform: &str) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&File::open(program)?)?;
        let stamp = Stamp::from(&stat);
        let note = store.join(KNOWN).join(platform);
        let digest = match recall(&note, stamp) {
            Some(digest) => digest,
            None => {
                let mut hasher = Sha256::new();
                write_layer(program, stamp.size, &mut hasher)?;
                let digest = hasher.finish();
                known::write(&note, &(line(stamp) + &digest));
                digest
            }
        };
        Ok(Self::with(program.to_owned(), stamp.size, digest, platform))
    }

    fn with(program: PathBuf, size: u64, digest: String, platform: &str) -> Self {
        let layer = Blob { media_type: oci::LAYER.to_owned(), digest, size: layer_size(size) };
        let docker = platform::docker(platform);
        let (os, architecture) = docker.split_once('/').unwrap_or(("linux", &docker));
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": architecture,
            "os": os,
            "config": { "Entrypoint": [format!("/{PROGRAM}")] },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = config.to_string().into_bytes();
        let manifest = oci::manifest(&Blob::config(&config), std::slice::from_ref(&layer));
        let digest = oci::sha256(&manifest);
        Self { program, size, layer, config, manifest, digest }
    }

    /// What the image is called, without a registry: `mlctl/exec@sha256:...`.
    pub(crate) fn name(&self) -> String {
        format!("{REPOSITORY}@{}", self.digest)
    }

    /// The layer.
    pub(super) fn layer(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (program, size) = (self.program.clone(), self.size);
        archive::written(move |out| write_layer(&program, size, out))
    }

    /// The image as an archive in which it is called `name`.
    pub(super) fn archive(&self, name: &str) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let Self { program, size, layer, config, manifest, .. } = self.clone();
        let index = oci::index(&Blob::of(oci::MANIFEST, &manifest), name);
        archive::streamed(move |archive| {
            archive.file(oci::LAYOUT_FILE.0, oci::LAYOUT_FILE.1)?;
            for bytes in [&config, &manifest] {
                archive.file(&oci::path(&oci::sha256(bytes)), bytes)?;
            }
            let path = oci::path(&layer.digest);
            archive.entry(path.as_bytes(), &[], &mut header(EntryType::Regular, 0o644, layer.size))?;
            write_layer(&program, size, archive)?;
            archive.pad(layer.size)?;
            archive.file(oci::INDEX_FILE, &index)
        })
    }
}

/// The program for nodes of this platform: this very one where it can run there, else one that was delivered with it.
fn program(platform: &str) -> Result<PathBuf, CommandError> {
    if platform == format!("linux-{}", std::env::consts::ARCH) && cfg!(target_os = "linux") {
        return Ok(SELF.into());
    }
    let docker = platform::docker(platform);
    let name = format!("{PROGRAM}-{}", docker.replace('/', "-"));
    let own = std::env::current_exe()
        .map_err(|error| CommandError::missing("cannot find out where mlctl's own program is").because(&error))?;
    let beside = own.with_file_name(&name);
    if beside.is_file() {
        return Ok(beside);
    }
    Err(CommandError::missing(format!("there is no `{PROGRAM}` for {docker}, which the nodes are"))
        .cause(format!(
            "this mlctl is for {}-{}, and {} is not there",
            std::env::consts::OS,
            std::env::consts::ARCH,
            beside.display()
        ))
        .hint(format!("put the mlctl for {docker} there, under that name")))
}

/// The bytes of the layer of a program of this size.
const fn layer_size(program: u64) -> u64 {
    512 + program.next_multiple_of(512) + 1024
}

/// The layer: an archive with one file.
fn write_layer(program: &Path, size: u64, out: &mut impl Write) -> io::Result<()> {
    let mut header = header(EntryType::Regular, 0o755, size);
    header.set_path(PROGRAM)?;
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    let copied = io::copy(&mut File::open(program)?.take(size), out)?;
    if copied != size {
        return Err(io::Error::other("it has changed meanwhile"));
    }
    let rest = layer_size(size) - 512 - size;
    io::copy(&mut io::repeat(0).take(rest), out).map(drop)
}

/// The digest of the layer of the program with this stamp.
fn recall(note: &Path, stamp: Stamp) -> Option<String> {
    let text = fs::read_to_string(note).ok()?;
    let digest = text.strip_prefix(&line(stamp))?.trim_end();
    super::registry::is_digest(digest).then(|| digest.to_owned())
}

fn line(Stamp { size, ino, mtime, ctime }: Stamp) -> String {
    format!("{size} {ino} {mtime} {ctime} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_is_always_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, bytes: &[u8]| {
            let program = dir.path().join(name);
            fs::write(&program, bytes).unwrap();
            Executor::of_program(dir.path(), &program, "linux-x86_64").unwrap()
        };
        let (one, same, other) = (make("a", b"x"), make("b", b"x"), make("c", b"y"));
        assert_eq!((&one.digest, &one.manifest), (&same.digest, &same.manifest));
        assert_ne!(one.digest, other.digest);
        // Written down: it may change only with a reason.
        assert_eq!(one.name(), "mlctl/exec@sha256:46c26df690515b57f9174412683956f21d09e99a77a7bac2deece4472360756f");
        let mut layer = Vec::new();
        write_layer(&one.program, one.size, &mut layer).unwrap();
        assert_eq!(oci::sha256(&layer), one.layer.digest);
        assert_eq!(layer.len() as u64, one.layer.size);
        let mut archive = tar::Archive::new(layer.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!((entry.path().unwrap().to_str(), entry.header().mode().unwrap()), (Some("mlctl-exec"), 0o755));
        let config: serde_json::Value = serde_json::from_slice(&one.config).unwrap();
        assert_eq!((&config["architecture"], &config["os"]), (&json!("amd64"), &json!("linux")));
    }

    #[test]
    fn a_digest_is_remembered_until_the_program_changes() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join(KNOWN).join("linux-x86_64");
        let stamp = Stamp { size: 1, ino: 2, mtime: 3, ctime: 4 };
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(recall(&note, stamp), None);
        known::write(&note, &(line(stamp) + &digest));
        assert_eq!(recall(&note, stamp), Some(digest));
        assert_eq!(recall(&note, Stamp { size: 2, ..stamp }), None);
        fs::write(&note, line(stamp) + "sha256:cut").unwrap();
        assert_eq!(recall(&note, stamp), None);
    }

    #[test]
    fn nodes_of_another_kind_need_a_program_of_their_own() {
        let error = program("linux-s390x").unwrap_err();
        assert_eq!(error.kind.code(), 3);
        assert!(error.to_string().contains("mlctl-exec-linux-s390x"), "{error}");
        assert_eq!(Executor::of(Path::new("/nowhere"), "linux-s390x").unwrap_err().kind.code(), 3);
    }
}
