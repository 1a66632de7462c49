//! What changed between two locks, for people.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lock, LockedEnvironment};

/// One thing that is otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The environment with its platform, or `downloads`.
    pub(crate) of: String,
    /// A distribution, `python`, or a URL.
    pub(crate) what: String,
    /// Its version or digest before; `None`: it was not there.
    pub(crate) before: Option<String>,
    /// Its version or digest now; `None`: it is not there any more.
    pub(crate) after: Option<String>,
}

impl Lock {
    /// What is otherwise in this lock than in an earlier one.
    pub(crate) fn differences(&self, before: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let (old, new) = (before.platforms(), self.platforms());
        for key in old.keys().chain(new.keys()).copied().collect::<BTreeSet<_>>() {
            let of = format!("{} ({})", key.0, key.1);
            compare(
                &mut differences,
                &of,
                &old.get(&key).map_or_else(BTreeMap::new, |locked| versions(locked)),
                &new.get(&key).map_or_else(BTreeMap::new, |locked| versions(locked)),
            );
        }
        for platform in before.image_platforms().union(&self.image_platforms()) {
            let of = format!("images ({platform})");
            compare(&mut differences, &of, &before.images_of(platform), &self.images_of(platform));
        }
        compare(&mut differences, "downloads", &before.digests(), &self.digests());
        differences
    }

    fn platforms(&self) -> BTreeMap<(&str, &str), &LockedEnvironment> {
        let environments = self.environments.iter();
        environments
            .flat_map(|(name, platforms)| {
                platforms.iter().map(move |(at, locked)| ((name.as_str(), at.as_str()), locked))
            })
            .collect()
    }

    fn image_platforms(&self) -> BTreeSet<&str> {
        self.images.values().flat_map(|platforms| platforms.keys().map(String::as_str)).collect()
    }

    fn images_of(&self, platform: &str) -> BTreeMap<&str, String> {
        let images = self.images.keys().filter_map(|name| Some((name.as_str(), self.image(name, platform)?)));
        images.map(|(name, locked)| (name, locked.to_string())).collect()
    }

    fn digests(&self) -> BTreeMap<&str, String> {
        self.urls.iter().map(|(url, locked)| (url.as_str(), format!("sha256:{}", locked.sha256))).collect()
    }
}

/// By name, what a reader would call the version.
fn versions(locked: &LockedEnvironment) -> BTreeMap<&str, String> {
    let distributions = locked.distributions.iter().map(|d| (d.name.as_str(), d.version.clone()));
    distributions.chain([("python", locked.python.clone())]).collect()
}

fn compare(into: &mut Vec<Difference>, of: &str, before: &BTreeMap<&str, String>, after: &BTreeMap<&str, String>) {
    for what in before.keys().chain(after.keys()).copied().collect::<BTreeSet<_>>() {
        let (before, after) = (before.get(what).cloned(), after.get(what).cloned());
        if before != after {
            into.push(Difference { of: of.to_owned(), what: what.to_owned(), before, after });
        }
    }
}
