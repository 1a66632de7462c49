//! What every command is given: how to print, where the project is, and what its files say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use mlctl_core::context::ContextLayer;
use mlctl_core::diag::Source;
use mlctl_core::digest::Digest;
use mlctl_core::spec::words::suggest;
use mlctl_core::spec::{self, Level};
use mlctl_core::workflow::Workflow;
use mlctl_exec::store::Store;

use crate::config::{Context, Layers, Origin};
use crate::error::CommandError;
use crate::record::{Run, Runs};
use crate::ui::Ui;

/// The spec's file name.
pub(crate) const SPEC: &str = "mlctl.toml";
/// The context when none is named.
const DEFAULT_CONTEXT: &str = "local";
/// The project's own, git-ignored contexts.
pub(crate) const LOCAL: &str = "mlctl.local.toml";

/// What a command is given.
#[derive(Debug)]
pub(crate) struct Session {
    /// The only thing that prints.
    pub(crate) ui: Ui,
    /// `--context`, or `$MLCTL_CONTEXT`.
    context: Option<(String, Origin)>,
    /// `--project`, or where we are.
    start: PathBuf,
}

/// A project with a valid spec.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    /// Its directory, absolute.
    pub(crate) root: PathBuf,
    /// The spec's text, under the name by which people know it.
    pub(crate) source: Source,
    /// The digest of the text.
    pub(crate) digest: Digest,
    /// What it means.
    pub(crate) workflow: Arc<Workflow>,
    /// What it says that may not be meant.
    pub(crate) warnings: Vec<mlctl_core::diag::Diag>,
}

impl Session {
    /// A session that starts in `start` and prints by `ui`.
    pub(crate) fn new(ui: Ui, start: PathBuf, context: Option<String>) -> Self {
        let from_environment = || variable("MLCTL_CONTEXT").map(|name| (name, Origin::Environment("MLCTL_CONTEXT")));
        let context = context.map(|name| (name, Origin::Flag("--context"))).or_else(from_environment);
        Self { ui, context, start }
    }

    /// Where we are, or where `-C` says.
    pub(crate) fn start(&self) -> &Path {
        &self.start
    }

    /// The project's directory: the nearest one with an `mlctl.toml`, from here upwards.
    pub(crate) fn root(&self) -> Result<PathBuf, CommandError> {
        let no_directory = |error: std::io::Error| {
            CommandError::usage(format!("there is no directory `{}`", self.start.display())).because(&error)
        };
        if !std::fs::metadata(&self.start).map_err(no_directory)?.is_dir() {
            return Err(CommandError::usage(format!("`{}` is not a directory", self.start.display())));
        }
        let start = std::path::absolute(&self.start).map_err(no_directory)?;
        let root = start.ancestors().find(|dir| dir.join(SPEC).is_file());
        root.map(Path::to_owned).ok_or_else(|| {
            CommandError::usage(format!("there is no `{SPEC}` in {} or any directory above it", start.display()))
                .hint("`mlctl init` makes a project; `-C DIR` names one that is elsewhere")
        })
    }

    /// The project: its spec read and checked. Warnings are for `check`, `plan` and `run` to show.
    pub(crate) fn project(&self) -> Result<Project, CommandError> {
        let (root, source) = self.spec()?;
        self.parse(root, source)
    }

    /// The project's directory, and the text of its spec as it is.
    pub(crate) fn spec(&self) -> Result<(PathBuf, Source), CommandError> {
        let root = self.root()?;
        let source = read(&root.join(SPEC))?;
        Ok((root, source))
    }

    /// The project of which [`Session::spec`] gave the text.
    pub(crate) fn parse(&self, root: PathBuf, source: Source) -> Result<Project, CommandError> {
        let parsed = spec::parse(&source).map_err(|diags| CommandError::diags(source.clone(), diags))?;
        Ok(Project {
            digest: Digest::of(source.text.as_bytes()),
            root,
            source,
            workflow: Arc::new(parsed.workflow),
            warnings: parsed.warnings,
        })
    }

    /// The project's runs, without reading its spec: records can be looked at whatever became of the spec.
    pub(crate) fn runs(&self) -> Result<Runs, CommandError> {
        Runs::open(&self.root()?)
    }

    /// The contexts of a project: its own, the local ones, the user's and the built-in ones.
    pub(crate) fn contexts(&self, project: &Project) -> Result<Layers, CommandError> {
        let mut layers = Layers::built_in();
        if let Some(path) = user_config().filter(|path| path.is_file()) {
            let source = read(&path)?;
            let contexts = in_directory(contexts_of(&source, Level::User)?, path.parent());
            layers.add(&Origin::User(source.name.clone()), contexts);
        }
        let contexts = in_directory(project.workflow.contexts.clone(), Some(&project.root));
        layers.add(&Origin::Project(project.source.name.clone()), contexts);
        let local = project.root.join(LOCAL);
        if local.is_file() {
            let source = read(&local)?;
            let contexts = contexts_of(&source, Level::Local)?;
            check_steps(&contexts, &project.workflow, &source.name)?;
            let contexts = in_directory(contexts, Some(&project.root));
            layers.add(&Origin::Local(source.name.clone()), contexts);
        }
        Ok(layers)
    }

    /// The name of the context in force.
    pub(crate) fn context_name(&self) -> &str {
        self.context.as_ref().map_or(DEFAULT_CONTEXT, |(name, _)| name)
    }

    /// The name of the context that was asked for.
    pub(crate) fn asked_context(&self) -> Option<&str> {
        self.context.as_ref().map(|(name, _)| name.as_str())
    }

    /// The context in force.
    pub(crate) fn context(&self, project: &Project) -> Result<Context, CommandError> {
        let layers = self.contexts(project)?;
        let (name, origin) = match &self.context {
            Some((name, origin)) => (name.as_str(), origin.clone()),
            None => (DEFAULT_CONTEXT, Origin::Default),
        };
        self.named_context(&layers, name).map_err(|error| match origin {
            Origin::Environment(variable) => error.cause(format!("${variable} names it")),
            _ => error,
        })
    }

    /// A context by name, with what the environment says laid over it.
    pub(crate) fn named_context(&self, layers: &Layers, name: &str) -> Result<Context, CommandError> {
        let mut context = layers.merge(name).ok_or_else(|| {
            let known: Vec<&str> = layers.names().collect();
            CommandError::usage(format!("there is no context `{name}`")).hint(
                suggest(name, layers.names()).unwrap_or_else(|| {
                    format!("there are: {}; [contexts.{name}] in {SPEC} would add it", known.join(", "))
                }),
            )
        })?;
        if let Some(jobs) = variable("MLCTL_JOBS") {
            let parallelism = jobs.parse().ok().filter(|jobs| *jobs > 0).ok_or_else(|| {
                CommandError::usage(format!("$MLCTL_JOBS is `{jobs}`: it must be a whole number above 0"))
            })?;
            let layer = ContextLayer { parallelism: Some(parallelism), ..ContextLayer::default() };
            context.lay(&layer, &Origin::Environment("MLCTL_JOBS"));
        }
        Ok(context)
    }
}

/// What the spec of a run meant, as far as this mlctl understands it.
pub(crate) fn workflow_of(run: &Run) -> Option<Workflow> {
    let source = Source { name: SPEC.to_owned(), text: run.spec()? };
    Some(spec::parse(&source).ok()?.workflow)
}

/// Where the store is: `$MLCTL_STORE`, else in the user's data directory.
pub(crate) fn store_root() -> Result<PathBuf, CommandError> {
    let absolute = |path: OsString| std::path::absolute(path).ok();
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let data = || set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/share").into()));
    set("MLCTL_STORE")
        .and_then(absolute)
        .or_else(|| data().and_then(absolute).map(|data| data.join("mlctl")))
        .ok_or_else(|| {
            CommandError::missing("no place for the store")
                .cause("none of $MLCTL_STORE, $XDG_DATA_HOME and $HOME is set")
                .hint("set MLCTL_STORE to a directory on a local disk")
        })
}

/// Opens the store, and says what to do where that cannot be.
pub(crate) fn open_store() -> Result<Store, CommandError> {
    Store::open(&store_root()?).map_err(|error| {
        CommandError::missing("cannot open the store")
            .because(&error)
            .hint("MLCTL_STORE names another place for it: a directory on a local disk")
    })
}

/// The user's own config file.
pub(crate) fn user_config() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(config.join("mlctl/config.toml"))
}

/// What people call the user's own config file.
pub(crate) fn user_config_name() -> String {
    user_config().map_or_else(|| "config.toml".into(), |path| display_name(&path))
}

/// A path that may begin with `~/`.
pub(crate) fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

/// A variable of the environment; empty is as good as absent.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn contexts_of(source: &Source, level: Level) -> Result<IndexMap<String, ContextLayer>, CommandError> {
    spec::parse_contexts(source, level).map_err(|diags| CommandError::diags(source.clone(), diags))
}

/// Paths in contexts are relative to the file that they stand in, and may begin with `~/`.
fn in_directory(mut contexts: IndexMap<String, ContextLayer>, dir: Option<&Path>) -> IndexMap<String, ContextLayer> {
    for ca in contexts.values_mut().filter_map(|layer| layer.ca.as_mut()) {
        let path = dir.unwrap_or(Path::new("")).join(expand_home(ca));
        *ca = path.to_string_lossy().into_owned();
    }
    contexts
}

/// The project's own files name steps that there are. (The user's file is for every project.)
fn check_steps(contexts: &IndexMap<String, ContextLayer>, workflow: &Workflow, file: &str) -> Result<(), CommandError> {
    let known = || workflow.steps.iter().map(|step| step.name.as_str());
    let named = contexts.iter().flat_map(|(context, layer)| layer.steps.keys().map(move |step| (context, step)));
    match named.into_iter().find(|(_, step)| !known().any(|name| name == *step)) {
        None => Ok(()),
        Some((context, step)) => {
            let error = CommandError::usage(format!("there is no step `{step}`"))
                .cause(format!("[contexts.{context}.steps.{step}] in `{file}` names it"));
            Err(suggest(step, known()).into_iter().fold(error, CommandError::hint))
        }
    }
}

/// Reads a text file of the user's.
fn read(path: &Path) -> Result<Source, CommandError> {
    let name = display_name(path);
    let cannot = || CommandError::missing(format!("cannot read `{name}`"));
    let bytes = std::fs::read(path).map_err(|error| cannot().because(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        CommandError::usage(format!("`{name}` is not UTF-8")).cause(format!("line {line} holds a byte that is not"))
    })?;
    Ok(Source { name, text })
}

/// A path as people know it: relative where it is below or right above where they are.
fn display_name(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    if let Ok(below) = path.strip_prefix(&here) {
        return below.display().to_string();
    }
    let ups = here.ancestors().position(|dir| path.parent() == Some(dir));
    if let (Some(ups), Some(name)) = (ups, path.file_name()) {
        return "../".repeat(ups) + &name.to_string_lossy();
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned)) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}
