//! Compares what came of a run with what must.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::case::{Artifact, Entry, Run};
use super::project::{Outcome, Project};

/// A run against its expectations.
pub(super) fn run(project: &Project, expected: &Run, outcome: &Outcome) -> Result<(), String> {
    if let Some(words) = expected.refused.get(&project.engine) {
        equal("the exit code", &outcome.exit, &2)?;
        let ran: Vec<&String> = outcome.instances.keys().collect();
        equal("what ran", &ran, &Vec::new())?;
        return said(words, outcome).and_then(|()| absent(&project.dir, &expected.absent));
    }
    equal("the exit code", &outcome.exit, &expected.exit)?;
    said(&expected.stderr, outcome)?;
    statuses(expected, outcome)?;
    for (name, value) in &expected.values {
        let actual = outcome.result("values", name).ok_or_else(|| format!("there is no value `{name}`"))?;
        equal(&format!("value `{name}`"), actual, value)?;
    }
    for (instance, failure) in &expected.failures {
        let actual = outcome.instances.get(instance).and_then(|report| report.get("failure")).unwrap_or(&Value::Null);
        has_at_least(actual, failure).map_err(|why| format!("the failure of `{instance}`: {why}"))?;
    }
    for (instance, attempts) in &expected.attempts {
        let actual = outcome.instances.get(instance).and_then(|report| report["attempts"].as_u64());
        equal(&format!("attempts of `{instance}`"), &actual, &Some(*attempts))?;
    }
    for (name, artifact) in &expected.artifacts {
        let recorded = outcome.result("artifacts", name).ok_or_else(|| format!("there is no artifact `{name}`"))?;
        let path = project.artifact(name)?;
        stored(recorded, artifact)
            .and_then(|()| on_disk(&path, artifact))
            .map_err(|why| format!("artifact `{name}`: {why}"))?;
    }
    logs(project, expected)?;
    for (path, text) in &expected.project {
        let actual =
            fs::read_to_string(project.dir.join(path)).map_err(|error| format!("{path} in the project: {error}"))?;
        equal(&format!("{path} in the project"), &actual, text)?;
    }
    absent(&project.dir, &expected.absent)
}

/// The same run once more: what succeeded is reused with the same results, the rest ends as before.
pub(super) fn again(expected: &Run, first: &Outcome, second: &Outcome) -> Result<(), String> {
    equal("the exit code", &second.exit, &first.exit)?;
    let reused = |instance: &str, status: &str| match status {
        "succeeded" if !expected.never_cached.iter().any(|never| never == instance) => "cached".to_owned(),
        other => other.to_owned(),
    };
    let should: BTreeMap<&str, String> = first
        .instances
        .iter()
        .map(|(instance, report)| (instance.as_str(), reused(instance, report["status"].as_str().unwrap_or_default())))
        .collect();
    let did: BTreeMap<&str, String> = second
        .instances
        .iter()
        .map(|(instance, report)| (instance.as_str(), report["status"].as_str().unwrap_or_default().to_owned()))
        .collect();
    equal("the statuses", &did, &should)?;
    for (instance, report) in second.instances.iter().filter(|(_, report)| report["status"] == "cached") {
        let before = &first.instances[instance];
        for what in ["artifacts", "values"] {
            equal(&format!("{what} of `{instance}`"), &report[what], &before[what])?;
        }
    }
    Ok(())
}

fn statuses(expected: &Run, outcome: &Outcome) -> Result<(), String> {
    if let Some(should) = &expected.status {
        let did: BTreeMap<String, String> = outcome
            .instances
            .keys()
            .map(|instance| (instance.clone(), outcome.status(instance).unwrap_or_default().to_owned()))
            .collect();
        equal("the statuses", &did, should)?;
    }
    for (status, count) in &expected.counts {
        let actual = outcome.instances.keys().filter(|instance| outcome.status(instance) == Some(status)).count();
        equal(&format!("the number of `{status}`"), &actual, count)?;
    }
    Ok(())
}

fn logs(project: &Project, expected: &Run) -> Result<(), String> {
    for (instance, should) in &expected.logs {
        let log = project.log(instance);
        if let Some(text) = should.has.iter().find(|text| !log.contains(text.as_str())) {
            return Err(format!("the log of `{instance}` lacks `{text}`:\n{log}"));
        }
        if let Some(text) = should.lacks.iter().find(|text| log.contains(text.as_str())) {
            return Err(format!("the log of `{instance}` has `{text}`:\n{log}"));
        }
    }
    Ok(())
}

fn said(words: &[String], outcome: &Outcome) -> Result<(), String> {
    match words.iter().find(|word| !outcome.stderr.contains(word.as_str())) {
        Some(word) => Err(format!("stderr does not say `{word}`")),
        None => Ok(()),
    }
}

fn absent(dir: &Path, paths: &[String]) -> Result<(), String> {
    match paths.iter().find(|path| dir.join(path).symlink_metadata().is_ok()) {
        Some(path) => Err(format!("{path} is in the project")),
        None => Ok(()),
    }
}

/// What the record says of an artifact: size and digest.
fn stored(recorded: &Value, artifact: &Artifact) -> Result<(), String> {
    let Artifact::Detailed(entry) = artifact else { return Ok(()) };
    if let Some(size) = entry.size {
        equal("the recorded size", &recorded["size"], &Value::from(size))?;
    }
    match &entry.digest {
        Some(digest) => equal("the digest", &recorded["digest"], &Value::from(digest.as_str())),
        None => Ok(()),
    }
}

fn on_disk(path: &Path, artifact: &Artifact) -> Result<(), String> {
    let entry = match artifact {
        Artifact::Text(text) => return text_is(path, text),
        Artifact::Detailed(entry) => entry,
    };
    let metadata = path.symlink_metadata().map_err(|error| error.to_string())?;
    if let Some(link) = &entry.link {
        let target = fs::read_link(path).map_err(|error| error.to_string())?;
        return equal("the link", &target.to_string_lossy().as_ref(), &link.as_str());
    }
    if let Some(text) = &entry.text {
        text_is(path, text)?;
        let executable = metadata.permissions().mode() & 0o111 != 0;
        equal("whether it is executable", &executable, &entry.executable.unwrap_or(false))?;
    }
    if let Some(size) = entry.size.filter(|_| metadata.is_file()) {
        equal("the size", &metadata.len(), &size)?;
    }
    directory(path, entry)
}

fn directory(path: &Path, entry: &Entry) -> Result<(), String> {
    if entry.tree.is_none() && entry.files.is_none() {
        return Ok(());
    }
    let mut names = Vec::new();
    list(path, "", &mut names).map_err(|error| error.to_string())?;
    names.sort();
    if let Some(files) = entry.files {
        equal("the number of files", &names.iter().filter(|name| !name.ends_with('/')).count(), &files)?;
    }
    let Some(tree) = &entry.tree else { return Ok(()) };
    equal("what is in it", &names.iter().collect::<Vec<_>>(), &tree.keys().collect::<Vec<_>>())?;
    let mut files = tree.iter().filter(|(name, _)| !name.ends_with('/'));
    files.try_for_each(|(name, file)| on_disk(&path.join(name), file).map_err(|why| format!("{name}: {why}")))
}

/// Every file and link below a directory, and the empty directories, with a `/` behind.
fn list(dir: &Path, prefix: &str, names: &mut Vec<String>) -> std::io::Result<()> {
    let mut empty = true;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        empty = false;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    if empty && !prefix.is_empty() {
        names.push(prefix.to_owned());
    }
    Ok(())
}

fn text_is(path: &Path, text: &str) -> Result<(), String> {
    let actual = fs::read(path).map_err(|error| error.to_string())?;
    equal("its text", &String::from_utf8_lossy(&actual).as_ref(), &text)
}

/// Whether each key of `expected` has that value in `actual`.
fn has_at_least(actual: &Value, expected: &Value) -> Result<(), String> {
    match expected.as_object() {
        Some(keys) => keys.iter().try_for_each(|(key, value)| has_at_least(&actual[key], value)),
        None => equal("it", actual, expected),
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what} is {actual:?}, not {expected:?}")) }
}
