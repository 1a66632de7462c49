//! A whole file, as written.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::contexts::{self, Mentioned};
use super::draft::{Common, StepDraft};
use super::reader::{Field, Reader};
use super::sections::{self, Project};
use super::{Level, keys};
use crate::context::ContextLayer;
use crate::diag::{Diag, Span};
use crate::workflow::{Environment, ParamDecl};

/// A whole file: everything read and typed, names not yet resolved.
#[derive(Debug, Default)]
pub(super) struct FileDraft<'t> {
    pub(super) project: Project<'t>,
    pub(super) params: IndexMap<String, ParamDecl>,
    /// Params that could not be read: nothing is said of their types.
    pub(super) broken_params: HashSet<String>,
    pub(super) environments: IndexMap<String, Environment>,
    pub(super) steps: Vec<StepDraft<'t>>,
    pub(super) contexts: IndexMap<String, ContextLayer>,
    pub(super) mentioned: Mentioned<'t>,
}

/// Reads the file. `None`: a section is missing or misspelt as a whole, and whatever refers to it would be reported too.
pub(super) fn read<'t>(reader: &mut Reader<'t>, root: Field<'t>) -> Option<FileDraft<'t>> {
    let before = reader.found();
    let sections = reader.entries(root, &keys::FILE).unwrap_or_default();
    let whole = reader.found() == before && sections.iter().all(|field| field.value.is_table());
    let find = |name: &str| sections.iter().copied().find(|field| field.name == name);
    let mut file = FileDraft::default();
    let defaults = find("defaults").map(|field| Common::read(reader, field)).unwrap_or_default();
    for field in &sections {
        match field.name {
            "project" => file.project = sections::project(reader, *field),
            "params" => (file.params, file.broken_params) = sections::params(reader, *field),
            "environments" => file.environments = sections::environments(reader, *field),
            // Read before the steps that it goes into.
            "defaults" => {}
            "steps" => {
                let fields = reader.names(*field, "`steps`", keys::STEP.example).unwrap_or_default();
                file.steps = fields.into_iter().map(|field| StepDraft::read(reader, field, &defaults)).collect();
            }
            "contexts" => (file.contexts, file.mentioned) = contexts::read(reader, *field, Level::Project),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    if find("project").is_none() {
        reader.push(
            Diag::error("no-project", Span::default(), "there is no `[project]`")
                .help("add `[project]` with `name = \"...\"` at the top"),
        );
    }
    if file.steps.is_empty() && whole {
        let span = find("steps").map(|field| field.name_span).unwrap_or_default();
        reader.push(Diag::error("no-steps", span, "there are no steps").help("add `[steps.NAME]` with a `command`"));
    }
    whole.then_some(file)
}
