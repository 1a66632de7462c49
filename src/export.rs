//! Exports: outputs that a run which succeeded copies into the project.

use std::fs;
use std::io;
use std::path::Path;

use mlctl_core::action::Artifact;
use mlctl_core::plan::Plan;
use mlctl_core::workflow::StepIx;
use mlctl_exec::sources::Inputs;
use mlctl_exec::store::{Store, remove_tree};

use crate::error::CommandError;
use crate::record;

/// How the names of what is on its way begin.
pub(crate) const STAGED: &str = ".mlctl-";

/// One export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    /// The step, of one instance.
    pub(crate) step: StepIx,
    /// Its output.
    pub(crate) output: String,
    /// Where to, relative to the project.
    pub(crate) path: String,
}

/// The exports of the steps that a plan needs.
pub(crate) fn of(plan: &Plan) -> Vec<Export> {
    let of_step = |step: StepIx| {
        plan.step(step)
            .outputs
            .iter()
            .filter_map(move |output| Some(Export { step, output: output.name.clone(), path: output.export.clone()? }))
    };
    plan.needed().flat_map(of_step).collect()
}

/// The paths of exports.
pub(crate) fn paths(exports: &[Export]) -> Vec<String> {
    exports.iter().map(|export| export.path.clone()).collect()
}

/// Copies an artifact to where it is exported, unless it is there already. Readers see the old or the new, whole.
pub(crate) fn write(
    export: &Export,
    artifact: &Artifact,
    project: &Path,
    store: &Store,
    inputs: &Inputs,
) -> Result<(), CommandError> {
    if inputs.digest(&export.path).is_ok_and(|there| there == *artifact) {
        return Ok(());
    }
    let failed = |error: &dyn std::error::Error| {
        CommandError::missing(format!(
            "the run succeeded, but `{}` cannot be exported to {}",
            export.output, export.path
        ))
        .because(error)
        .hint("once it can be written, `mlctl run` exports it without running anything again")
    };
    let to = project.join(&export.path);
    let parent = to.parent().unwrap_or(project);
    fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    if let Some(path) = only_there(export, artifact, project, store, inputs) {
        return Err(CommandError::missing(format!(
            "the run succeeded, but `{}` was not exported to {}",
            export.output, export.path
        ))
        .cause(format!("that would remove {path}, which no run made"))
        .hint(
            "move it elsewhere, or export to another path; then `mlctl run` exports without running anything again",
        ));
    }
    let home = record::make_home(project).map_err(|error| failed(&error))?;
    // Mostly `.mlctl`, where what a killed run leaves is in nobody's way.
    for place in [&*home, parent] {
        let beside = |what: &str| place.join(format!("{STAGED}{what}-{}", std::process::id()));
        let (new, old) = (beside("new"), beside("old"));
        let _ = remove_tree(&new);
        let copied = store.copy_out(artifact, None, &new);
        let moved = copied.map(|()| put_in_place(&new, &old, &to));
        if !matches!(moved, Ok(Ok(()))) {
            let _ = remove_tree(&new);
        }
        match moved.map_err(|error| failed(&error))? {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices && place != parent => {}
            other => return other.map_err(|error| failed(&error)),
        }
    }
    Ok(())
}

/// A file in the directory that stands where `artifact` goes, that would be lost: it has no successor there, and the
/// directory is not, as it is, in the store, as what an earlier run exported would be.
fn only_there(export: &Export, artifact: &Artifact, project: &Path, store: &Store, inputs: &Inputs) -> Option<String> {
    if !project.join(&export.path).symlink_metadata().is_ok_and(|there| there.is_dir()) {
        return None;
    }
    if inputs.digest(&export.path).is_ok_and(|there| store.contains(&there)) {
        return None;
    }
    let new = store.manifest(&artifact.digest).unwrap_or_default();
    let mut open = vec![String::new()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(project.join(&export.path).join(&directory)).ok()?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                _ if new.get(&path).is_some() => {}
                _ => return Some(format!("{}/{path}", export.path)),
            }
        }
    }
    None
}

/// A file takes the place of a file at once; for a directory the old one is moved aside first, and back if the new one
/// cannot take its place.
fn put_in_place(new: &Path, old: &Path, to: &Path) -> io::Result<()> {
    let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|data| data.is_dir());
    let mut aside = false;
    if is_directory(new) || is_directory(to) {
        aside = match fs::rename(to, old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            moved => moved.map(|()| true)?,
        };
    }
    let moved = fs::rename(new, to);
    if aside {
        let _ = if moved.is_ok() { remove_tree(old) } else { fs::rename(old, to) };
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_replaced_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (new, old, to) = (path("new"), path("old"), path("to"));
        fs::create_dir(&to).unwrap();
        fs::write(to.join("f"), "mine").unwrap();
        // A directory in itself: refused once the old one is aside.
        fs::create_dir_all(to.join("new")).unwrap();
        assert!(put_in_place(&to.join("new"), &old, &to).is_err());
        assert_eq!(fs::read(to.join("f")).unwrap(), b"mine");
        fs::create_dir(&new).unwrap();
        put_in_place(&new, &old, &to).unwrap();
        assert_eq!((to.join("f").exists(), old.exists(), new.exists()), (false, false, false));
        fs::write(&new, "a file").unwrap();
        put_in_place(&new, &old, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"a file");
        assert!(!old.exists());
    }
}
