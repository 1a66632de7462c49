//! The walk of a context: the paths that are in it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mlctl_exec::store::StoreError;

use super::as_path;
use crate::image::ignore::{Matched, Rules};

/// What mlctl keeps in a project. Every command changes something there: with it no context would ever be the same again.
const OWN: &[u8] = b".mlctl";

/// A path below the root.
pub(super) type Found = Box<[u8]>;

/// Every path of the context, sorted. A directory that is excluded is there if something in it is not.
pub(super) fn walk(root: &Path, rules: &Rules) -> Result<Vec<Found>, StoreError> {
    let mut walk = Walk { root, rules, found: Vec::new() };
    walk.directory(&[], None)?;
    walk.found.sort_unstable();
    Ok(walk.found)
}

struct Walk<'a> {
    root: &'a Path,
    rules: &'a Rules,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// Adds what is in a directory; `matched` is what the rules said of it.
    fn directory(&mut self, directory: &[u8], matched: Option<&Matched>) -> Result<(), StoreError> {
        let full = self.root.join(as_path(directory));
        let failed = |source: io::Error| StoreError::Io { doing: "read", path: full.clone(), source };
        for entry in fs::read_dir(&full).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let path = match directory {
                [] => name.as_bytes().to_vec(),
                _ => [directory, b"/", name.as_bytes()].concat(),
            };
            let is_directory = entry.file_type().map_err(failed)?.is_dir();
            if is_directory && path == OWN {
                continue;
            }
            let (excluded, matched) = self.rules.excludes(&path, matched);
            if !is_directory {
                self.found.extend((!excluded).then(|| path.into()));
            } else if !excluded {
                self.found.push(path.as_slice().into());
                self.directory(&path, Some(&matched))?;
            } else if self.rules.may_except_below(&path) {
                let before = self.found.len();
                self.directory(&path, Some(&matched))?;
                if self.found.len() > before {
                    self.found.push(path.into());
                }
            }
        }
        Ok(())
    }
}
