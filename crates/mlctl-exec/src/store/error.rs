//! What can go wrong with the store, with its paths.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mlctl_core::digest::Digest;

/// Why the store could not do what it was asked.
#[derive(Debug)]
pub enum StoreError {
    /// The system refused: disk full, permission, a failing disk.
    Io {
        /// What was being done: `read`, `write`, ...
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file was written to while it was read: no digest of it means anything.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// This cannot be stored.
    Unfit {
        /// The file, link or directory.
        path: PathBuf,
        /// Why not.
        why: Unfit,
    },
    /// The store was written by a newer mlctl.
    Newer {
        /// The store.
        root: PathBuf,
        /// What its `format` file says.
        format: String,
    },
    /// An object that something names is not there.
    Missing {
        /// Its digest.
        digest: Digest,
    },
    /// An object's bytes were not what its name says. It has been moved out of the way: what needs it makes it again.
    Damaged {
        /// Its digest.
        digest: Digest,
    },
    /// A stored directory has no such entry.
    NoEntry {
        /// The directory.
        digest: Digest,
        /// The entry asked for.
        entry: String,
    },
    /// Another process holds the lease of this run.
    Leased {
        /// The run's id.
        run: String,
    },
}

/// Why something on disk cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is a symbolic link where a file or directory must be.
    IsLink,
    /// It is a symbolic link with an absolute target.
    AbsoluteLink(String),
    /// It is a symbolic link whose target lies outside the stored tree.
    EscapingLink(String),
    /// It lies outside the project, here.
    Outside(PathBuf),
    /// Its path is absolute, or has `..` in it.
    NotRelative,
    /// It is the project itself, or of what mlctl and git keep there.
    Reserved,
    /// It is a FIFO, a socket or a device.
    Special(&'static str),
    /// Its name, or a link's target, is not UTF-8.
    NotUtf8,
}

impl StoreError {
    /// Whether what was to be stored is at fault, and not the store.
    pub const fn is_content(&self) -> bool {
        matches!(self, Self::Unfit { .. } | Self::Changed { .. })
    }

    /// For `map_err`: an I/O error with what was being done to which path.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn unfit(path: &Path, why: Unfit) -> Self {
        Self::Unfit { path: path.to_owned(), why }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Changed { path } => write!(f, "{} changed while it was read", path.display()),
            Self::Unfit { path, why } => write!(f, "{} {why}", path.display()),
            Self::Newer { root, format } => write!(
                f,
                "the store {} has format `{format}`, which this mlctl does not know: use a newer mlctl, or another store",
                root.display()
            ),
            Self::Missing { digest } => write!(f, "object {} is missing from the store", digest.short()),
            Self::Damaged { digest } => {
                write!(f, "object {} was damaged and has been removed from the store: run again", digest.short())
            }
            Self::NoEntry { digest, entry } => write!(f, "directory {} has no entry `{entry}`", digest.short()),
            Self::Leased { run } => write!(f, "run {run} is held by another process"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Reads after the path: `out/model is a FIFO`.
impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IsLink => f.write_str("is a symbolic link, not a file or directory"),
            Self::AbsoluteLink(target) => write!(f, "is a symbolic link with an absolute target, {target}"),
            Self::EscapingLink(target) => write!(f, "is a symbolic link that leads out of the directory, to {target}"),
            Self::Outside(at) => write!(f, "lies outside the project, in {}", at.display()),
            Self::NotRelative => f.write_str("must be named by its path in the project, without `..`"),
            Self::Reserved => f.write_str("is the project itself, or what mlctl or git keep in it"),
            Self::Special(what) => write!(f, "is a {what}"),
            Self::NotUtf8 => f.write_str("has a name or target that is not UTF-8"),
        }
    }
}
