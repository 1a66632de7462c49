//! The project's sources: what a step finds in its working directory.
//!
//! Sources are the files and links of the project but for
//! - what `.gitignore` and `.mlctlignore` name, in any directory; in a git repository also the `.gitignore` files above
//!   the project, up to the repository's root. What only one machine ignores (`.git/info/exclude`, the user's global
//!   file) is not asked: the same commit must give the same digest everywhere;
//! - `.git`, `.mlctl`, `.gitignore` and `.mlctlignore` in any directory, and `mlctl.toml`, `mlctl.local.toml` and
//!   `mlctl.lock` in the root: what of those matters for a step is in its key already;
//! - empty directories, which git does not keep either;
//! - for a step, what lies outside its `sources` globs, and declared inputs, outputs and exports.
//!
//! Hidden files are sources. Links are kept as links, also those to directories and those that lead nowhere.
//!
//! [`Snapshot::take`] looks at names and stamps. A file is read when a tree first needs it and its stamp is not known:
//! data that no step has among its sources costs nothing.

mod filter;
mod inputs;
mod put;
mod walk;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mlctl_core::digest::Digest;

use crate::hash;
use crate::manifest::{Entry, Manifest, ManifestError, Node, with_parents};
use crate::stamps::{self, Stamps};
use crate::store::{StoreError, Unfit, now};
use filter::{Filter, Names};
pub use inputs::Inputs;
use walk::{Found, FoundFile, What};

/// What the project looked like at one moment.
#[derive(Debug)]
pub struct Snapshot {
    root: PathBuf,
    /// Nanoseconds since the Unix epoch.
    taken: i64,
    found: Vec<Found>,
    stamps: Stamps,
    trees: Mutex<HashMap<Wanted, Arc<SourceTree>>>,
}

/// What a step wants: its globs, and what is excluded.
type Wanted = (Option<Vec<String>>, Vec<String>);

/// The sources of a step.
#[derive(Debug)]
pub struct SourceTree {
    /// The digest of the manifest.
    pub digest: Digest,
    /// What it holds.
    pub manifest: Manifest,
    /// The globs that matched nothing: mostly a slip of the pen.
    pub unmatched: Vec<String>,
    root: PathBuf,
}

/// Something among the sources that cannot be one.
#[derive(Debug)]
pub struct SourceError {
    /// Relative to the project; a name that is not UTF-8 is shown with replacement characters.
    pub path: String,
    /// What is wrong with it; reads after the path.
    pub problem: String,
}

impl SourceError {
    /// What to do about it.
    pub const HELP: &'static str = "name it in `.mlctlignore`, or narrow the step's `sources`";
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.problem)
    }
}

impl std::error::Error for SourceError {}

impl Snapshot {
    /// Walks the project. `stamps` is a file in which digests are remembered between processes: a cache, which may be
    /// missing, damaged or unwritable.
    pub fn take(project: &Path, stamps: &Path) -> Result<Self, StoreError> {
        let root = fs::canonicalize(project).map_err(StoreError::io("read", project))?;
        let taken = now();
        let found = walk::walk(&root)?;
        Ok(Self { root, taken, found, stamps: Stamps::at(stamps), trees: Mutex::default() })
    }

    /// The tree of a step: what its `sources` match (all, without), but for `excluded` paths and what is below them.
    /// All that cannot be a source is reported at once. Asking again for the same costs next to nothing.
    pub fn tree(&self, globs: Option<&[String]>, excluded: &[String]) -> Result<Arc<SourceTree>, Vec<SourceError>> {
        // Steps that exclude different paths mostly have the same tree, for most of those do not exist.
        let excluded = excluded.iter().map(|path| filter::clean(path)).filter(|path| self.has(path));
        let mut wanted: Wanted = (globs.map(<[String]>::to_vec), excluded.map(str::to_owned).collect());
        wanted.1.sort_unstable();
        wanted.1.dedup();
        if let Some(tree) = hash::lock(&self.trees).get(&wanted) {
            return Ok(tree.clone());
        }
        let tree = Arc::new(self.build(&wanted)?);
        hash::lock(&self.trees).insert(wanted, tree.clone());
        Ok(tree)
    }

    /// Whether there is anything at this path.
    pub fn has(&self, path: &str) -> bool {
        let path = filter::clean(path);
        let below = format!("{path}/");
        let first = |prefix: &str| self.found.get(self.found.partition_point(|found| found.path.as_str() < prefix));
        first(path).is_some_and(|found| found.path == path)
            || first(&below).is_some_and(|found| found.path.starts_with(&below))
    }

    /// What there is that these globs match: of a directory itself, not what is in it.
    pub fn matching(&self, globs: &BTreeSet<String>) -> BTreeSet<String> {
        let Some(names) = Names::new(globs) else { return BTreeSet::new() };
        let mut matching = BTreeSet::new();
        let mut before = "";
        for found in &self.found {
            // Directories that the path before was in as well have been looked at.
            let new = filter::with_parents(&found.path).filter(|path| !filter::is_at_or_below(before, path));
            matching.extend(new.filter(|path| names.has(path)).map(str::to_owned));
            before = &found.path;
        }
        matching
    }

    /// A digest over the names and stamps of everything that could be a source, but for `excluded` paths and what is
    /// below them: while it is the same, so are all trees. `None`: something changed so shortly before the snapshot was
    /// taken that a further change might leave the same stamp.
    pub fn fingerprint(&self, excluded: &[String]) -> Option<Digest> {
        let filter = Filter::new(None, excluded).ok()?;
        let mut hasher = blake3::Hasher::new();
        for found in self.found.iter().filter(|found| filter.wants(found, &mut [])) {
            hasher.update(&(found.path.len() as u64).to_le_bytes()).update(found.path.as_bytes());
            match &found.what {
                What::File(file) => {
                    if !stamps::is_settled(file.stamp.ctime, self.taken) {
                        return None;
                    }
                    let (size, ino, mtime, ctime) = file.stamp.into();
                    hasher
                        .update(b"f")
                        .update([size, ino, mtime as u64, ctime as u64].map(u64::to_le_bytes).as_flattened())
                        .update(&[u8::from(file.executable)]);
                }
                What::Link(text) | What::Unfit(text) => {
                    hasher.update(b"t").update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
                }
            }
        }
        Some(hasher.finalize().into())
    }

    /// Remembers what was hashed for the next time. An error matters little: the next time then takes longer.
    pub fn save(&self) -> Result<(), StoreError> {
        self.stamps.save(|path| self.found.binary_search_by(|f| f.path.as_str().cmp(path)).is_ok())
    }

    fn build(&self, (globs, excluded): &Wanted) -> Result<SourceTree, Vec<SourceError>> {
        let filter = Filter::new(globs.as_deref(), excluded)
            .map_err(|(glob, problem)| vec![SourceError { path: glob, problem }])?;
        let mut used = Vec::new();
        let mut unmatched = vec![true; globs.as_ref().map_or(0, Vec::len)];
        for found in &self.found {
            if filter.wants(found, &mut unmatched) {
                used.push(found);
            }
        }
        let nodes = hash::on_threads(used.len(), |index| Ok::<_, std::convert::Infallible>(self.node(used[index])));
        let (mut leaves, mut errors) = (Vec::with_capacity(used.len()), Vec::new());
        for (found, node) in used.iter().zip(nodes.unwrap_or_default()) {
            match node {
                Ok(node) => leaves.push(Entry { path: found.path.clone(), node }),
                Err(problem) => errors.push(SourceError { path: found.path.clone(), problem }),
            }
        }
        let manifest = Manifest::new(with_parents(leaves)).unwrap_or_else(|e| {
            errors.extend(not_a_tree(e));
            Manifest::default()
        });
        if !errors.is_empty() {
            errors.sort_by(|a, b| a.path.cmp(&b.path));
            return Err(errors);
        }
        let unmatched =
            globs.iter().flatten().zip(unmatched).filter(|(_, unmatched)| *unmatched).map(|(g, _)| g.clone()).collect();
        Ok(SourceTree { digest: Digest::of(&manifest.encode()), manifest, unmatched, root: self.root.clone() })
    }

    fn node(&self, found: &Found) -> Result<Node, String> {
        match &found.what {
            What::Link(target) => Ok(Node::Link { target: target.clone() }),
            What::Unfit(problem) => Err(problem.clone()),
            What::File(file) => file.node.get_or_init(|| self.read(&found.path, file)).clone(),
        }
    }

    fn read(&self, path: &str, file: &FoundFile) -> Result<Node, String> {
        if let Some(digest) = self.stamps.get(path, file.stamp) {
            return Ok(Node::File { digest, size: file.stamp.size, executable: file.executable });
        }
        self.stamps.hash(path, &self.root.join(path)).map_err(|e| match e {
            StoreError::Io { source, .. } => format!("cannot be read: {source}"),
            StoreError::Changed { .. } => "changed while it was read".to_owned(),
            other => other.to_string(),
        })
    }
}

fn not_a_tree(error: ManifestError) -> Vec<SourceError> {
    match error {
        ManifestError::Links(links) => links
            .into_iter()
            .map(|(path, why)| SourceError {
                problem: match why {
                    Unfit::EscapingLink(target) => {
                        format!("is a symbolic link that leads out of the project, to {target}")
                    }
                    other => other.to_string(),
                },
                path,
            })
            .collect(),
        ManifestError::Malformed => {
            vec![SourceError { path: ".".to_owned(), problem: "changed while it was read".to_owned() }]
        }
    }
}
