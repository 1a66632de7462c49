//! Takes an attempt's outputs: artifacts into the store, values into the result.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use mlctl_core::action::{ActionResult, StepFailure, Task, TaskOutput, TaskValue};
use mlctl_core::value::{MAX_VALUE_BYTES, Value};
use rustix::fs::OFlags;

use super::render::Paths;
use super::{Place, value};
use crate::bundle::Bundle;
use crate::store::Store;

/// All declared outputs, or what is wrong with the first bad one. Nothing of the attempt may run any more.
pub(crate) fn collect(
    task: &Task,
    place: &Place,
    store: &Store,
    bundle: &Bundle,
    paths: &Paths,
    millis: u64,
) -> Result<ActionResult, StepFailure> {
    let mut result = ActionResult { millis, ..ActionResult::default() };
    let bad = |output: &str, reason| StepFailure::BadOutput { output: output.to_owned(), reason };
    // All are looked at before any is taken: what is good of a bad attempt is kept together.
    let found = written(task, paths).map(|(name, output, path)| {
        check(path, output, bundle).map(|found| (name, output, path, found)).map_err(|reason| bad(name, reason))
    });
    for (name, output, path, found) in found.collect::<Result<Vec<_>, _>>()? {
        match &output.value {
            None => {
                let put = store.put_output(path).map_err(|error| bad(name, super::chain(&error)))?;
                result.artifacts.insert(name.to_owned(), put);
            }
            Some(TaskValue { ty, .. }) => {
                let value = read_value(path, &found).and_then(|text| value::from_text(*ty, &text));
                result.values.insert(name.to_owned(), value.map_err(|reason| bad(name, reason))?);
            }
        }
    }
    for (name, output) in &task.outputs {
        if let Some(TaskValue { ty, from: Some((source, keys)) }) = &output.value {
            let value = read_document(source, &result, store)
                .and_then(|document| value::from_document(*ty, &document, keys))
                .map_err(|reason| bad(name, format!("`{source}` {reason}")))?;
            result.values.insert(name.clone(), value);
        }
    }
    refuse_secrets(place, &result)?;
    Ok(result)
}

/// Moves what a failed attempt left of its artifacts to `kept`, for people to look at. What cannot be moved is lost
/// with the rest of the bundle.
pub(crate) fn keep(task: &Task, bundle: &Bundle, paths: &Paths, kept: &Path) {
    let artifacts = written(task, paths).filter(|(_, output, _)| output.value.is_none());
    let good = artifacts.filter(|(_, output, path)| check(path, output, bundle).is_ok());
    for (name, _, path) in good {
        let _ = fs::create_dir_all(kept).and_then(|()| fs::rename(path, kept.join(name)));
    }
}

/// The outputs that the command itself writes, and where.
fn written<'a>(task: &'a Task, paths: &'a Paths) -> impl Iterator<Item = (&'a str, &'a TaskOutput, &'a Path)> {
    let outputs =
        task.outputs.iter().filter(|(_, output)| !matches!(&output.value, Some(value) if value.from.is_some()));
    outputs.filter_map(|(name, output)| Some((name.as_str(), output, paths.outputs.get(name.as_str())?.as_path())))
}

/// What is at `path`, if it is what an output may be and really is inside the bundle.
fn check(path: &Path, output: &TaskOutput, bundle: &Bundle) -> Result<Metadata, String> {
    let found = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => match &output.at {
            Some(at) => format!("was not written: the command left nothing at `{at}`"),
            None => "was not written: the command left nothing where its variable points".to_owned(),
        },
        _ => error.to_string(),
    })?;
    let kind = found.file_type();
    let refused = match () {
        () if kind.is_symlink() => Some("a symbolic link"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        () => None,
    };
    if let Some(what) = refused {
        return Err(format!("is {what}, not a file or directory"));
    }
    if let (Some(at), Some(parent)) = (&output.at, path.parent())
        && parent != bundle.work
        && !fs::canonicalize(parent).is_ok_and(|parent| parent.starts_with(&bundle.work))
    {
        return Err(format!("`{at}` leads out of the working directory through a link"));
    }
    Ok(found)
}

fn read_value(path: &Path, found: &Metadata) -> Result<Vec<u8>, String> {
    if !found.is_file() {
        return Err("is a directory, and a value is a file".to_owned());
    }
    let mut text = Vec::new();
    // One byte more for a trailing newline and one to see that there is more.
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .and_then(|file| file.take(MAX_VALUE_BYTES as u64 + 2).read_to_end(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

fn read_document(source: &str, result: &ActionResult, store: &Store) -> Result<Vec<u8>, String> {
    let artifact = result.artifacts.get(source).ok_or("is no artifact of this step")?;
    let mut text = Vec::new();
    File::open(store.object_path(artifact))
        .and_then(|mut file| file.read_to_end(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

/// Values are shown, recorded and put into other steps' commands: a secret in one is a leak.
fn refuse_secrets(place: &Place, result: &ActionResult) -> Result<(), StepFailure> {
    for (output, value) in &result.values {
        let text = value_text(value);
        if let Some((name, _)) = place.secrets.iter().find(|(_, secret)| holds(&text, secret)) {
            return Err(StepFailure::BadOutput {
                output: output.clone(),
                reason: format!("holds the secret `{name}`"),
            });
        }
    }
    Ok(())
}

/// The text to search: strings inside JSON without their escapes.
fn value_text(value: &Value) -> String {
    fn push(json: &serde_json::Value, text: &mut String) {
        match json {
            serde_json::Value::String(string) => text.push_str(string),
            serde_json::Value::Array(items) => items.iter().for_each(|item| push(item, text)),
            serde_json::Value::Object(members) => members.iter().for_each(|(key, member)| {
                text.push_str(key);
                text.push('\n');
                push(member, text);
            }),
            other => text.push_str(&other.to_string()),
        }
        text.push('\n');
    }
    match value {
        Value::Json(json) => {
            let mut text = String::new();
            push(json, &mut text);
            text
        }
        other => other.to_string(),
    }
}

fn holds(text: &str, secret: &str) -> bool {
    crate::redact::parts(secret).any(|part| text.contains(part))
}
