//! Puts an attempt's inputs in its bundle: links to stored objects, never copies.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mlctl_core::action::{InputContent, Member, StepFailure, Task, TaskInput};
use serde::Serialize;

use super::failed;
use super::render::Paths;
use crate::bundle::Bundle;
use crate::slot::Slot;
use crate::store::Store;

/// An entry of a gather's `index.json`.
#[derive(Serialize)]
struct IndexEntry<'a> {
    id: &'a str,
    matrix: &'a std::collections::BTreeMap<String, mlctl_core::value::Value>,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a mlctl_core::value::Value>,
}

/// Places all inputs, makes the parents of outputs, and tells where everything is.
pub(crate) fn place<'a>(task: &'a Task, store: &Store, slot: &Slot) -> Result<Paths<'a>, StepFailure> {
    let (bundle, mut paths) = (&slot.bundle, Paths::default());
    for name in &slot.input_directories {
        if !task.inputs.get(name).is_some_and(TaskInput::has_directory) {
            fs::remove_dir(bundle.inputs.join(name))
                .map_err(|error| failed("cannot remove an earlier input", &error))?;
        }
    }
    for (name, input) in &task.inputs {
        let bad = |reason: String| StepFailure::BadInput { input: name.clone(), reason };
        if input.has_directory() && !slot.input_directories.contains(name) {
            fs::create_dir(bundle.inputs.join(name)).map_err(|error| bad(format!("cannot place it: {error}")))?;
        }
        if let Some(text) = place_one(name, input, store, bundle).map_err(bad)? {
            paths.inputs.insert(name, text);
        }
    }
    for (name, output) in &task.outputs {
        let path = match &output.at {
            None => bundle.outputs.join(name),
            Some(at) => {
                let path = bundle.work.join(at);
                make_parent(&path, &bundle.work).map_err(|error| StepFailure::BadOutput {
                    output: name.clone(),
                    reason: format!("cannot make the directory of `{at}`: {error}"),
                })?;
                path
            }
        };
        paths.outputs.insert(name, path);
    }
    Ok(paths)
}

/// The text that the input stands for, whose directory is there; `None` when nothing was produced.
fn place_one(name: &str, input: &TaskInput, store: &Store, bundle: &Bundle) -> Result<Option<OsString>, String> {
    let Some(content) = &input.content else { return Ok(None) };
    let directory = bundle.inputs.join(name);
    let in_bundle = |error: io::Error| format!("cannot place it: {error}");
    let (text, target) = match content {
        InputContent::Value(value) => (value.to_string().into(), None),
        InputContent::Artifact { .. } => {
            let target = object(content, store)?;
            let path = directory.join(&input.file_name);
            symlink(&target, &path).map_err(in_bundle)?;
            (path.into_os_string(), Some(target))
        }
        InputContent::Gather(members) => {
            gather(members, &directory, store)?;
            (directory.clone().into_os_string(), Some(directory))
        }
    };
    if let Some(at) = &input.at {
        place_at(at, &text, target.as_deref(), bundle)?;
    }
    Ok(Some(text))
}

/// Also places an input in the working directory: a link, or a file with a value's text.
fn place_at(at: &str, text: &OsString, target: Option<&Path>, bundle: &Bundle) -> Result<(), String> {
    let path = bundle.work.join(at);
    let placed = make_parent(&path, &bundle.work).and_then(|()| match target {
        Some(target) => symlink(target, &path),
        None => fs::write(&path, text.as_encoded_bytes()),
    });
    placed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("`{at}` is already taken by the step's sources or another input"),
        _ => format!("cannot place it at `{at}`: {error}"),
    })
}

fn make_parent(path: &Path, work: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != work => fs::create_dir_all(parent),
        _ => Ok(()),
    }
}

/// Where the object of an artifact, or the entry of it, is. It is looked at before each use: a step that is not confined,
/// or anybody else, may have damaged it since it was made, and what is computed from it would be kept under a good key.
fn object(content: &InputContent, store: &Store) -> Result<PathBuf, String> {
    let InputContent::Artifact { artifact, entry } = content else {
        return Err("a gather in a gather".to_owned());
    };
    let short = artifact.digest.short();
    match store.is_right(artifact) {
        Ok(true) => {}
        Ok(false) => {
            return Err(format!(
                "its object {short} was removed or damaged in the store while the run went on: run again, and it is made anew"
            ));
        }
        Err(error) => return Err(format!("its object {short} cannot be read: {error}")),
    }
    let mut path = store.object_path(artifact);
    let Some(entry) = entry else { return Ok(path) };
    path.push(entry);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("it has no entry `{entry}`")),
        Err(error) => Err(format!("its entry `{entry}` cannot be read: {error}")),
    }
}

/// Fills the directory of a gather.
fn gather(members: &[Member], directory: &Path, store: &Store) -> Result<(), String> {
    let mut index = Vec::with_capacity(members.len());
    for member in members {
        let path = directory.join(&member.file_name);
        let (value, placed) = match &*member.content {
            InputContent::Value(value) => (Some(value), fs::write(&path, value.to_string())),
            content => (None, symlink(object(content, store)?, &path)),
        };
        placed.map_err(|error| format!("cannot place `{}`: {error}", member.file_name))?;
        index.push(IndexEntry { id: &member.id, matrix: &member.matrix, path: &member.file_name, value });
    }
    let mut text = serde_json::to_vec(&index).map_err(|error| format!("cannot write its index: {error}"))?;
    text.push(b'\n');
    fs::write(directory.join("index.json"), text).map_err(|error| format!("cannot write its index: {error}"))
}
