//! From text to a validated workflow: one pass over the parsed TOML reads and types everything, a second resolves names
//! and checks what holds between steps. All problems are reported at once, each at its place, none twice.

mod contexts;
mod convert;
mod draft;
mod file;
mod input;
pub(crate) mod keys;
mod literal;
mod matrix;
mod names;
mod output;
mod param;
mod paths;
pub mod quantity;
mod reader;
pub(crate) mod reference;
mod resolve;
mod sections;
mod syntax;
mod version;
pub mod words;

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};

use crate::context::ContextLayer;
use crate::diag::{Diag, Source, Span};
use crate::workflow::Workflow;
use reader::{Field, Reader};

/// Larger files are refused: offsets are 32 bits, and nobody writes this.
const MAX_BYTES: usize = 256 << 20;

/// What a spec says.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// Every name resolved, every rule checked.
    pub workflow: Workflow,
    /// What is probably not meant.
    pub warnings: Vec<Diag>,
}

/// Whose file it is: decides what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// `mlctl.toml`, shared.
    Project,
    /// `mlctl.local.toml`, this clone's.
    Local,
    /// `config.toml`, this user's: the only one that may say where secrets are on this machine.
    User,
}

/// Reads `mlctl.toml`.
pub fn parse(source: &Source) -> Result<Parsed, Vec<Diag>> {
    let root = toml(source)?;
    let mut reader = Reader::new(&source.text);
    let file = file::read(&mut reader, field(&root));
    let workflow = file.and_then(|file| resolve::workflow(&mut reader, file));
    let warnings = reader.finish()?;
    let bug = || Diag::error("internal", Span::default(), "the file was not understood, and mlctl cannot say why");
    workflow
        .map(|workflow| Parsed { workflow, warnings })
        .ok_or_else(|| vec![bug().help("this is a bug: please report it")])
}

/// Reads the `[contexts.NAME]` of a file that has nothing else.
pub fn parse_contexts(source: &Source, level: Level) -> Result<IndexMap<String, ContextLayer>, Vec<Diag>> {
    let root = toml(source)?;
    let mut reader = Reader::new(&source.text);
    let mut layers = IndexMap::new();
    for field in reader.entries(field(&root), &keys::CONTEXTS_FILE).unwrap_or_default() {
        layers.extend(contexts::read(&mut reader, field, level).0);
    }
    reader.finish()?;
    Ok(layers)
}

/// The file as TOML has it, if this mlctl may read it at all.
fn toml(source: &Source) -> Result<DeValue<'_>, Vec<Diag>> {
    if source.text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", source.text.len());
        return Err(vec![Diag::error("file-too-large", Span::default(), message)]);
    }
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let table = table.into_inner();
    if let Some(diag) = version::judge(&table, env!("CARGO_PKG_VERSION")) {
        return Err(vec![diag]);
    }
    if errors.is_empty() { Ok(DeValue::Table(table)) } else { Err(syntax::diags(&source.text, &errors)) }
}

fn field<'t>(root: &'t DeValue<'t>) -> Field<'t> {
    Field { name: "", name_span: Span::default(), value: root, span: Span::default(), is_element: false }
}
