//! `sources = [...]`: which files a step has.

use std::collections::HashSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::walk::{Found, What};

/// Globs, and paths that are excluded. A glob (or plain path) that matches a directory takes what is below it; `*` and
/// `?` do not match `/`, `**` does.
pub(super) struct Filter<'a> {
    globs: Option<Globs>,
    excluded: HashSet<&'a str>,
}

struct Globs {
    set: GlobSet,
    /// For each pattern in the set the number of the glob it comes from.
    origin: Vec<usize>,
    /// Of each glob the leading directories without a wildcard.
    prefixes: Vec<String>,
}

/// Globs for whole paths: one that matches a directory does not match what is below it.
pub(super) struct Names {
    set: GlobSet,
    prefixes: Vec<String>,
}

impl Names {
    /// Globs that are none are left out; `None`: there are no others.
    pub(super) fn new<'a>(globs: impl IntoIterator<Item = &'a String>) -> Option<Self> {
        let (mut builder, mut prefixes) = (GlobSetBuilder::new(), Vec::new());
        for glob in globs {
            let text = clean(glob);
            if let Ok(parsed) = GlobBuilder::new(text).literal_separator(true).build() {
                builder.add(parsed);
                prefixes.push(literal_prefix(text));
            }
        }
        let set = builder.build().ok().filter(|set| !set.is_empty())?;
        Some(Self { set, prefixes })
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.prefixes.iter().any(|prefix| is_at_or_below(path, prefix)) && self.set.is_match(path)
    }
}

impl<'a> Filter<'a> {
    /// An invalid glob is an error with what is wrong with it.
    pub(super) fn new(globs: Option<&[String]>, excluded: &'a [String]) -> Result<Self, (String, String)> {
        Ok(Self {
            globs: globs.map(Globs::new).transpose()?,
            excluded: excluded.iter().map(|path| clean(path)).collect(),
        })
    }

    /// Whether the step has it. Globs that match are struck off `unmatched`.
    pub(super) fn wants(&self, found: &Found, unmatched: &mut [bool]) -> bool {
        if !self.excluded.is_empty() && with_parents(&found.path).any(|path| self.excluded.contains(path)) {
            return false;
        }
        let Some(globs) = &self.globs else { return true };
        let matching = globs.set.matches(&found.path);
        for &pattern in &matching {
            unmatched[globs.origin[pattern]] = false;
        }
        // What cannot be read may be a directory that holds what is wanted.
        !matching.is_empty()
            || (matches!(found.what, What::Unfit(_))
                && globs.prefixes.iter().any(|prefix| is_at_or_below(prefix, &found.path)))
    }
}

impl Globs {
    fn new(globs: &[String]) -> Result<Self, (String, String)> {
        let mut builder = GlobSetBuilder::new();
        let (mut origin, mut prefixes) = (Vec::new(), Vec::new());
        for (index, glob) in globs.iter().enumerate() {
            let text = clean(glob);
            let patterns =
                if text.is_empty() { vec!["**".to_owned()] } else { vec![text.to_owned(), format!("{text}/**")] };
            for pattern in patterns {
                let parsed = GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
                builder.add(parsed.map_err(|e| (glob.clone(), format!("is not a glob: {}", e.kind())))?);
                origin.push(index);
            }
            prefixes.push(literal_prefix(text));
        }
        let set = builder.build().map_err(|e| (globs.join(", "), format!("cannot be matched: {}", e.kind())))?;
        Ok(Self { set, origin, prefixes })
    }
}

/// `./src/` is `src`, `.` is everything.
pub(super) fn clean(path: &str) -> &str {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    if path == "." { "" } else { path }
}

/// The path and the directories it is in.
pub(super) fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end]).chain([path])
}

/// Whether a path is this directory or in it; everything is in the one without a name.
pub(super) fn is_at_or_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| directory.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

fn literal_prefix(glob: &str) -> String {
    let parts: Vec<&str> = glob.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).collect();
    parts.join("/")
}
