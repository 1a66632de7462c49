//! The paths of objects below a store's prefix.

use mlctl_core::digest::Digest;
use object_store::path::Path;

/// The content of a file.
pub(crate) fn object(prefix: &Path, digest: &Digest) -> Path {
    sharded(prefix, "objects", digest)
}

/// What a directory or a source tree holds.
pub(crate) fn tree(prefix: &Path, digest: &Digest) -> Path {
    sharded(prefix, "trees", digest)
}

/// Many small files.
pub(crate) fn pack(prefix: &Path, digest: &Digest) -> Path {
    sharded(prefix, "packs", digest)
}

/// The result of a key.
pub(crate) fn action(prefix: &Path, key: &Digest) -> Path {
    sharded(prefix, "actions", key)
}

/// A record of a run. The parts may hold any characters.
pub(crate) fn record(prefix: &Path, run: &str, name: &str) -> Path {
    let name = name.split('/').map(object_store::path::PathPart::from);
    runs(prefix).parts().chain([run.into()]).chain(name).collect()
}

/// What the records of all runs are below.
pub(crate) fn runs(prefix: &Path) -> Path {
    prefix.clone().join("runs")
}

fn sharded(prefix: &Path, directory: &str, digest: &Digest) -> Path {
    let hex = digest.to_hex();
    let parts = [directory, &hex[..2], &hex].map(|part| part.to_owned().into());
    prefix.parts().chain(parts).collect()
}
