//! What is different between two results of an instance: component by component of their keys, in words.

use std::collections::{BTreeMap, BTreeSet};

use mlctl_core::digest::Digest;
use mlctl_core::value::Value;
use mlctl_exec::manifest::{Manifest, Node};
use serde::Serialize;

use crate::record::{RunMeta, UsedEnvironment};

/// How many files are named.
const FILES: usize = 10;
/// How much of a param's value is shown.
const VALUE: usize = 60;

/// The digests of what went into a key, by component.
pub(in crate::cli) type Components = BTreeMap<String, Digest>;

/// Where the manifests of sources are.
type ManifestOf<'a> = &'a dyn Fn(&Digest) -> Option<Manifest>;

/// A component that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Change {
    /// Its name, as `param:seed` or `input:data`.
    pub(in crate::cli) component: String,
    /// What it was.
    pub(in crate::cli) before: Option<Digest>,
    /// What it is.
    pub(in crate::cli) now: Option<Digest>,
    /// In words.
    pub(in crate::cli) what: String,
}

/// One side of a comparison.
pub(in crate::cli) struct Side<'a> {
    pub(in crate::cli) components: &'a Components,
    pub(in crate::cli) params: &'a BTreeMap<String, Value>,
    /// What environments were.
    pub(in crate::cli) environments: &'a [UsedEnvironment],
}

impl<'a> Side<'a> {
    /// Of an instance in a run.
    pub(in crate::cli) fn of(components: &'a Components, run: &'a RunMeta) -> Self {
        Self { components, params: &run.params, environments: &run.environments }
    }
}

/// What is different, sorted by name.
pub(in crate::cli) fn between(before: &Side<'_>, now: &Side<'_>, manifest: ManifestOf<'_>) -> Vec<Change> {
    let names: BTreeSet<&String> = before.components.keys().chain(now.components.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.components.get(*name) != now.components.get(*name))
        .map(|name| Change {
            component: name.clone(),
            before: before.components.get(name).copied(),
            now: now.components.get(name).copied(),
            what: words(name, before, now, manifest),
        })
        .collect()
}

fn words(name: &str, before: &Side<'_>, now: &Side<'_>, manifest: ManifestOf<'_>) -> String {
    let (was, is) = match (before.components.get(name), now.components.get(name)) {
        (Some(was), Some(is)) => (was, is),
        (None, _) => return "new".into(),
        (_, None) => return "gone".into(),
    };
    if let Some(param) = name.strip_prefix("param:")
        && let (Some(was), Some(is)) = (before.params.get(param), now.params.get(param))
    {
        return format!("{} -> {}", short(was), short(is));
    }
    if name == "environment" {
        return environment((before, was), (now, is));
    }
    if name == "sources"
        && let (Some(was), Some(is)) = (manifest(was), manifest(is))
    {
        return files(&was, &is);
    }
    format!("{} -> {}", was.short(), is.short())
}

/// What an environment was and is: images by their digests.
fn environment((before, was): (&Side<'_>, &Digest), (now, is): (&Side<'_>, &Digest)) -> String {
    let shown = |side: &Side<'_>, digest: &Digest| {
        let used = side.environments.iter().find(|used| used.realisation == *digest);
        match used.and_then(|used| used.image.as_deref()) {
            Some(image) => format!("image {}", short_image(image)),
            None => digest.short(),
        }
    };
    format!("{} -> {}", shown(before, was), shown(now, is))
}

/// As Docker shortens it.
fn short_image(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}

fn short(value: &Value) -> String {
    crate::ui::clean::line(value.to_string().as_bytes(), VALUE)
}

/// The files that are different: `train.py changed, new.py added`.
fn files(was: &Manifest, is: &Manifest) -> String {
    let nodes = |manifest: &Manifest| -> BTreeMap<String, Node> {
        let entries = manifest.entries().iter().filter(|entry| entry.node != Node::Directory);
        entries.map(|entry| (entry.path.clone(), entry.node.clone())).collect()
    };
    let (was, is) = (nodes(was), nodes(is));
    let paths: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let changed = paths.into_iter().filter_map(|path| match (was.get(path), is.get(path)) {
        (Some(before), Some(now)) => (before != now).then(|| format!("{path} changed")),
        (None, _) => Some(format!("{path} added")),
        (_, None) => Some(format!("{path} removed")),
    });
    let mut changed: Vec<String> = changed.collect();
    let more = changed.len().saturating_sub(FILES);
    changed.truncate(FILES);
    changed.extend((more > 0).then(|| format!("and {more} more")));
    if changed.is_empty() { "directories changed".into() } else { changed.join(", ") }
}

#[cfg(test)]
mod tests {
    use mlctl_exec::manifest::Entry;

    use super::*;

    fn components(of: &[(&str, &str)]) -> Components {
        of.iter().map(|(name, text)| ((*name).to_owned(), Digest::of(text.as_bytes()))).collect()
    }

    fn side<'a>(
        components: &'a Components,
        params: &'a BTreeMap<String, Value>,
        environments: &'a [UsedEnvironment],
    ) -> Side<'a> {
        Side { components, params, environments }
    }

    #[test]
    fn an_image_is_told_by_its_digest() {
        let used = |image: Option<&str>, text: &str| UsedEnvironment {
            name: Some("e".to_owned()),
            realisation: Digest::of(text.as_bytes()),
            image: image.map(str::to_owned),
            id: None,
        };
        let (was, is) = (components(&[("environment", "1")]), components(&[("environment", "2")]));
        let (old, new) = ("sha256:00112233445566778899", "sha256:ffeeddccbbaa99887766");
        let none = BTreeMap::new();
        let told = |before: &[UsedEnvironment], now: &[UsedEnvironment]| {
            between(&side(&was, &none, before), &side(&is, &none, now), &|_| None)[0].what.clone()
        };
        let image = told(&[used(Some(old), "1")], &[used(Some(new), "2")]);
        assert_eq!(image, "image sha256:001122334455 -> image sha256:ffeeddccbbaa");
        let described = told(&[used(None, "1")], &[used(Some(new), "2")]);
        assert_eq!(described, format!("{} -> image sha256:ffeeddccbbaa", Digest::of(b"1").short()));
    }

    #[test]
    fn each_component_that_differs_is_told_in_its_own_words() {
        let params = |seed| BTreeMap::from([("seed".to_owned(), Value::Int(seed))]);
        let was = components(&[("command", "a"), ("param:seed", "7"), ("input:x", "1"), ("same", "s")]);
        let is = components(&[("command", "b"), ("param:seed", "8"), ("input:y", "1"), ("same", "s")]);
        let (old, new) = (params(7), params(8));
        let changes = between(&side(&was, &old, &[]), &side(&is, &new, &[]), &|_| None);
        let told: Vec<(&str, &str)> = changes.iter().map(|c| (c.component.as_str(), c.what.as_str())).collect();
        let command = format!("{} -> {}", Digest::of(b"a").short(), Digest::of(b"b").short());
        assert_eq!(told, [("command", &*command), ("input:x", "gone"), ("input:y", "new"), ("param:seed", "7 -> 8")]);
    }

    #[test]
    fn sources_name_their_files() {
        let file = |path: &str, text: &str| Entry {
            path: path.into(),
            node: Node::File { digest: Digest::of(text.as_bytes()), size: 1, executable: false },
        };
        let was = Manifest::new(vec![file("a.py", "1"), file("b.py", "1"), file("same", "s")]).unwrap();
        let is = Manifest::new(vec![file("a.py", "2"), file("c.py", "1"), file("same", "s")]).unwrap();
        assert_eq!(files(&was, &is), "a.py changed, b.py removed, c.py added");
        let many = Manifest::new((0..30).map(|n| file(&format!("f{n:02}"), "x")).collect()).unwrap();
        assert!(files(&Manifest::new(vec![]).unwrap(), &many).ends_with("f09 added, and 20 more"));
    }
}
