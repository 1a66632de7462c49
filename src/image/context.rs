//! A build's context: what of a directory Docker is given, its digest, and the stream of its bytes.
//!
//! The digest is over names, kinds, executable bits, the targets of links and contents, and the archive holds nothing
//! else: no times, owners or other modes, which differ between clones. So one digest is one archive, byte for byte. Hard links are
//! files of their own; sockets are left out, as Docker does.
//!
//! Files are hashed first, and again when they are sent: one that has changed in between ends the build, so no image
//! holds anything else than what its tag says.

mod send;
mod walk;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mlctl_core::digest::Digest;
use mlctl_exec::hash;
use mlctl_exec::manifest;
use mlctl_exec::stamps::Stamps;
use mlctl_exec::store::{Stamp, StoreError};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::ignore::Rules;
use crate::error::CommandError;

/// The Dockerfile in the archive, where it is not in the context.
const DOCKERFILE: &str = ".mlctl.Dockerfile";

/// The ignore file of a directory.
const IGNORE: &str = ".dockerignore";

/// What is sent to build an image.
#[derive(Debug)]
pub(crate) struct BuildContext {
    root: PathBuf,
    /// What the ignore file is called, for hints.
    ignore: String,
    /// Sorted by path, directories before what is in them.
    entries: Vec<Entry>,
    digest: Digest,
    /// Where the Dockerfile is in it, if it is.
    dockerfile: Option<String>,
    /// Whether anyone may write into its directories.
    open: bool,
    /// Why it could not be sent.
    fault: Mutex<Option<CommandError>>,
}

#[derive(Debug)]
struct Entry {
    /// Below the root; any bytes.
    path: Box<[u8]>,
    node: Node,
}

#[derive(Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { size: u64, executable: bool, digest: Digest },
    Link(Box<[u8]>),
    Fifo,
    Device { block: bool, major: u32, minor: u32 },
}

impl BuildContext {
    /// Looks at `dir` and hashes what is new. The rules are those of `<dockerfile>.dockerignore` if there is one, else of
    /// `.dockerignore` in `dir`. `stamps` is a file in which digests are remembered: a cache, of this context alone.
    pub(crate) fn scan(dir: &Path, dockerfile: &Path, stamps: &Path) -> Result<Self, CommandError> {
        let unreadable = |e: io::Error| CommandError::missing(format!("cannot read {}", dir.display())).because(&e);
        let root = fs::canonicalize(dir).map_err(unreadable)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&root, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
        let (ignore, rules) = rules(&root, dockerfile)?;
        let explained = |error| explain(error, &ignore);

        let paths = walk::walk(&root, &rules).map_err(explained)?;
        let stamps = Stamps::at(stamps);
        let look = Look { root: &root, directory: &directory, stamps: &stamps };
        let nodes = hash::on_threads(paths.len(), |index| look.at(&paths[index])).map_err(explained)?;
        let entries = paths.into_iter().zip(nodes).filter_map(|(path, node)| Some(Entry { path, node: node? }));
        let entries: Vec<_> = entries.collect();
        let has = |name: &str| entries.binary_search_by(|entry| (*entry.path).cmp(name.as_bytes())).is_ok();
        // Without, the next time takes longer.
        let _ = stamps.save(has);
        let digest = digest(&entries);
        let mut context =
            Self { root, ignore, entries, digest, dockerfile: None, open: false, fault: Mutex::default() };
        context.dockerfile = context.place_of(dockerfile);
        Ok(context)
    }

    /// The same with directories into which anyone may write, which the digest does not tell.
    pub(crate) fn opened(self) -> Self {
        Self { open: true, ..self }
    }

    /// Where a file is in the context, if it is.
    fn place_of(&self, file: &Path) -> Option<String> {
        let path = fs::canonicalize(file).ok()?;
        let place = path.strip_prefix(&self.root).ok()?.to_str()?;
        self.has_file(place).then(|| place.to_owned())
    }

    fn has_file(&self, place: &str) -> bool {
        let found = self.entries.binary_search_by(|entry| (*entry.path).cmp(place.as_bytes()));
        found.is_ok_and(|index| matches!(self.entries[index].node, Node::File { .. }))
    }

    /// Where in the archive the builder finds the Dockerfile, and the files that have to be sent for that. One outside of
    /// the context, or excluded, goes along under another name: the classic builder takes it out again before anything is
    /// copied, if an ignore file says so. `text` is that of the Dockerfile.
    pub(crate) fn dockerfile(&self, text: &str, is_classic: bool) -> (String, Vec<(String, Vec<u8>)>) {
        if let Some(place) = &self.dockerfile {
            return (place.clone(), Vec::new());
        }
        let mut extra = vec![(DOCKERFILE.to_owned(), text.as_bytes().to_vec())];
        if is_classic && !self.has_file(IGNORE) {
            extra.push((IGNORE.to_owned(), format!("{IGNORE}\n{DOCKERFILE}\n").into_bytes()));
        }
        (DOCKERFILE.to_owned(), extra)
    }

    /// Over names, kinds, executable bits, targets of links and contents.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Why the archive broke off, if a file was to blame: what a failed request to the daemon cannot tell.
    pub(crate) fn fault(&self) -> Option<CommandError> {
        self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// The ignore file that holds, by its name, and its rules.
fn rules(root: &Path, dockerfile: &Path) -> Result<(String, Rules), CommandError> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(IGNORE);
    for path in [PathBuf::from(own), root.join(IGNORE)] {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match fs::read(&path) {
            Ok(bytes) => return Ok((name, Rules::parse(&path.display().to_string(), &bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(CommandError::missing(format!("cannot read {}", path.display())).because(&e)),
        }
    }
    Ok((IGNORE.to_owned(), Rules::default()))
}

/// What is needed to look at a path.
struct Look<'a> {
    root: &'a Path,
    directory: &'a OwnedFd,
    stamps: &'a Stamps,
}

impl Look<'_> {
    /// What is at this path; nothing for what Docker leaves out.
    fn at(&self, path: &[u8]) -> Result<Option<Node>, StoreError> {
        let full = || self.root.join(as_path(path));
        let io = |e: rustix::io::Errno| StoreError::Io { doing: "read", path: full(), source: e.into() };
        let stat = rustix::fs::statat(self.directory, path, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Node::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(self.directory, path, Vec::new()).map_err(io)?;
                Node::Link(target.into_bytes().into())
            }
            FileType::Fifo => Node::Fifo,
            kind @ (FileType::BlockDevice | FileType::CharacterDevice) => Node::Device {
                block: kind == FileType::BlockDevice,
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            FileType::RegularFile => {
                let stamp = Stamp::from(&stat);
                let executable = is_executable(stat.st_mode);
                let name = std::str::from_utf8(path).ok();
                if let Some(digest) = name.and_then(|name| self.stamps.get(name, stamp)) {
                    return Ok(Some(Node::File { size: stamp.size, executable, digest }));
                }
                // A name that is not UTF-8 is not remembered.
                let Some(name) = name else {
                    let (digest, stamp) = hash::file(&full())?;
                    return Ok(Some(Node::File { size: stamp.size, executable, digest }));
                };
                match self.stamps.hash(name, &full())? {
                    manifest::Node::File { digest, size, executable } => Node::File { size, executable, digest },
                    _ => return Err(StoreError::Changed { path: full() }),
                }
            }
            _ => return Ok(None),
        }))
    }
}

fn is_executable(mode: u32) -> bool {
    mode & 0o111 != 0
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn digest(entries: &[Entry]) -> Digest {
    fn text(hasher: &mut blake3::Hasher, bytes: &[u8]) {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"mlctl context 1\n");
    for entry in entries {
        text(&mut hasher, &entry.path);
        match &entry.node {
            Node::Directory => hasher.update(b"d"),
            Node::File { digest, executable, .. } => {
                hasher.update(if *executable { b"x" } else { b"f" }).update(digest.as_bytes())
            }
            Node::Link(target) => {
                hasher.update(b"l");
                text(&mut hasher, target);
                &mut hasher
            }
            Node::Fifo => hasher.update(b"p"),
            Node::Device { block, major, minor } => hasher
                .update(if *block { b"b" } else { b"c" })
                .update(&major.to_le_bytes())
                .update(&minor.to_le_bytes()),
        };
    }
    hasher.finalize().into()
}

/// What cannot be read can mostly be left out.
fn explain(error: StoreError, ignore: &str) -> CommandError {
    match error {
        StoreError::Changed { path } => changed(&path, ignore),
        StoreError::Io { source, path, .. } if source.kind() == io::ErrorKind::NotFound => changed(&path, ignore),
        error @ StoreError::Io { .. } => CommandError::missing("the build's context cannot be read")
            .because(&error)
            .hint(format!("name it in `{ignore}` if the image does not need it")),
        other => CommandError::failed("the build's context cannot be read").because(&other),
    }
}

fn changed(path: &Path, ignore: &str) -> CommandError {
    CommandError::failed(format!("{} changed while it was read", crate::ui::relative(path))).hint(format!(
        "something writes to it: run again when that is done, or name it in `{ignore}` if the image does not need it"
    ))
}

#[cfg(test)]
mod tests;
