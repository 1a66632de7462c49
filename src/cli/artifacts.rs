//! `mlctl artifacts`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use mlctl_core::action::{ActionResult, Artifact, ArtifactKind};
use mlctl_core::value::Value;
use mlctl_exec::store::Store;
use serde_json::json;

use super::{complete, select};
use crate::error::CommandError;
use crate::record::{Run, RunState};
use crate::run::attach;
use crate::session::{Session, open_store};
use crate::ui::table::Table;
use crate::ui::{Format, clean};

/// What to do with a run's results.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactsCommand {
    /// List what a run made: files, directories, values.
    Ls(LsArgs),
    /// Copy what a run made out of the store; a value is printed.
    Get(GetArgs),
}

/// The arguments of `mlctl artifacts ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only of these steps or instances.
    #[arg(value_name = "INSTANCE", add = complete::run_instances())]
    instances: Vec<String>,
    /// Which run: its id, the beginning of it, or @latest.
    #[arg(long, value_name = "RUN", default_value = "@latest", hide_default_value = true, add = complete::runs())]
    run: String,
}

/// The arguments of `mlctl artifacts get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// STEP.OUTPUT or INSTANCE.OUTPUT, as `train@depth=2.model`.
    #[arg(value_name = "OUTPUT", add = complete::outputs())]
    wanted: String,
    /// Which run: its id, the beginning of it, or @latest.
    #[arg(long, value_name = "RUN", default_value = "@latest", hide_default_value = true, add = complete::runs())]
    run: String,
    /// Where to put it: a directory that is there, or a new name; `-` is stdout [default: here].
    #[arg(short, long, value_name = "DEST", default_value = ".", hide_default_value = true, value_hint = clap::ValueHint::AnyPath)]
    dest: PathBuf,
}

/// An output of an instance.
enum Made<'a> {
    Artifact(&'a Artifact),
    Value(&'a Value),
}

/// Lists or fetches.
pub(super) fn artifacts(session: &Session, command: &ArtifactsCommand) -> Result<ExitCode, CommandError> {
    match command {
        ArtifactsCommand::Ls(args) => ls(session, args),
        ArtifactsCommand::Get(args) => get(session, args),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn ls(session: &Session, args: &LsArgs) -> Result<(), CommandError> {
    let run = attach::find_fresh(session, &args.run)?;
    let state = run.fold();
    let mut wanted = Vec::new();
    for name in &args.instances {
        wanted.extend(select::instances(&run, &state, name)?);
    }
    if args.instances.is_empty() {
        wanted = state.instances.keys().cloned().collect();
    }
    let made = wanted.iter().filter_map(|id| Some((id.as_str(), state.instances[id].result.as_deref()?)));
    let made: Vec<(&str, &str, Made<'_>)> =
        made.flat_map(|(id, result)| outputs(result).into_iter().map(move |(name, made)| (id, name, made))).collect();
    let ui = &session.ui;
    match ui.format {
        Format::Json => ui.json(&made.iter().map(|(id, name, made)| report(id, name, made)).collect::<Vec<_>>()),
        Format::Name => ui.result(&made.iter().map(|(id, name, _)| format!("{id}.{name}\n")).collect::<String>()),
        Format::Text if made.is_empty() => {
            ui.note(&format!("run {} made nothing{}", run.id(), if run.ended().is_some() { "" } else { " yet" }));
            Ok(())
        }
        Format::Text => {
            let mut table = Table::new(&["OUTPUT", "KIND", "SIZE", "DIGEST OR VALUE"]);
            for (id, name, made) in &made {
                table.row(row(id, name, made));
            }
            ui.result(&table.render())
        }
    }
}

fn outputs(result: &ActionResult) -> Vec<(&str, Made<'_>)> {
    let artifacts = result.artifacts.iter().map(|(name, artifact)| (name.as_str(), Made::Artifact(artifact)));
    artifacts.chain(result.values.iter().map(|(name, value)| (name.as_str(), Made::Value(value)))).collect()
}

fn row(id: &str, name: &str, made: &Made<'_>) -> [String; 4] {
    let name = format!("{id}.{name}");
    match made {
        Made::Artifact(artifact) => {
            [name, kind(artifact.kind).into(), crate::ui::size(artifact.size), artifact.digest.short()]
        }
        Made::Value(value) => {
            [name, value.type_of().to_string(), String::new(), clean::line(value.to_string().as_bytes(), 80)]
        }
    }
}

fn report(id: &str, name: &str, made: &Made<'_>) -> serde_json::Value {
    match made {
        Made::Artifact(artifact) => json!({
            "instance": id,
            "output": name,
            "kind": kind(artifact.kind),
            "size": artifact.size,
            "digest": artifact.digest,
        }),
        Made::Value(value) => json!({ "instance": id, "output": name, "kind": value.type_of(), "value": value }),
    }
}

const fn kind(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::File => "file",
        ArtifactKind::Executable => "executable",
        ArtifactKind::Directory => "directory",
    }
}

fn get(session: &Session, args: &GetArgs) -> Result<(), CommandError> {
    let run = attach::find_fresh(session, &args.run)?;
    let state = run.fold();
    // Values on axes may hold dots; names of outputs do not.
    let (name, output) = args.wanted.rsplit_once('.').ok_or_else(|| {
        CommandError::usage(format!("`{}` is not an output", args.wanted))
            .hint("write STEP.OUTPUT, as `mlctl artifacts ls -o name` lists them")
    })?;
    let instances = select::instances(&run, &state, name)?;
    let mut found = Vec::new();
    for instance in &instances {
        let result = state.instances[instance].result.as_deref();
        let made = result.and_then(|result| outputs(result).into_iter().find(|(name, _)| *name == output));
        found.extend(made.map(|(_, made)| (instance.as_str(), made)));
    }
    if found.is_empty() {
        return Err(not_made(&run, &state, &instances, name, output));
    }
    let get = Get { session, run: &run, output, dest: &args.dest };
    match found.as_slice() {
        [(instance, made @ Made::Value(value))] => get.tell(instance, made, None, &value.to_string()),
        [(instance, made @ Made::Artifact(artifact))] => get.one(instance, made, artifact),
        several => get.several(name, several),
    }
}

fn not_made(run: &Run, state: &RunState, instances: &[String], name: &str, output: &str) -> CommandError {
    let id = run.id();
    let finished = instances.iter().filter_map(|instance| state.instances[instance].result.as_deref()).next();
    if let Some(result) = finished {
        let known: Vec<&str> = outputs(result).into_iter().map(|(name, _)| name).collect();
        return CommandError::usage(format!("`{name}` has no output `{output}`"))
            .hint(format!("it has: {}", known.join(", ")));
    }
    let phase = state.instances[&instances[0]].phase.name();
    CommandError::failed(format!("run `{id}` has no result of `{name}`: it is {phase}"))
        .hint(format!("`mlctl why {} --run {id}` says why", instances[0]))
}

/// Copies artifacts out.
struct Get<'a> {
    session: &'a Session,
    run: &'a Run,
    output: &'a str,
    dest: &'a Path,
}

impl Get<'_> {
    fn one(&self, instance: &str, made: &Made<'_>, artifact: &Artifact) -> Result<(), CommandError> {
        let store = open_store()?;
        if self.dest == Path::new("-") {
            return self.to_stdout(&store, artifact);
        }
        let name = self.file_name(select::step_of(instance));
        let to = if self.dest.is_dir() { self.dest.join(name) } else { self.dest.to_owned() };
        self.copy(&store, artifact, &to)?;
        self.tell(instance, made, Some(&to), &to.display().to_string())
    }

    /// All instances': artifacts into a directory, each under its id.
    fn several(&self, step: &str, found: &[(&str, Made<'_>)]) -> Result<(), CommandError> {
        let mut artifacts = Vec::new();
        for (instance, made) in found {
            match made {
                Made::Value(value) => self.tell(instance, made, None, &format!("{instance}\t{value}"))?,
                Made::Artifact(artifact) => artifacts.push((instance, made, artifact)),
            }
        }
        if artifacts.is_empty() {
            return Ok(());
        }
        if self.dest == Path::new("-") {
            return Err(CommandError::usage(format!("`{step}` has {} instances: stdout takes one", found.len()))
                .hint(format!("name one, as `{}.{}`", found[0].0, self.output)));
        }
        std::fs::create_dir_all(self.dest).map_err(|error| {
            CommandError::missing(format!("cannot make the directory `{}`", self.dest.display())).because(&error)
        })?;
        let store = open_store()?;
        let name = self.file_name(step);
        let extension = Path::new(&name).extension().map(|end| format!(".{}", end.display())).unwrap_or_default();
        for (instance, made, artifact) in artifacts {
            let to = self.dest.join(format!("{instance}{extension}"));
            self.copy(&store, artifact, &to)?;
            self.tell(instance, made, Some(&to), &to.display().to_string())?;
        }
        Ok(())
    }

    /// Says what was got, and where it is: as JSON, or as `text`.
    fn tell(&self, instance: &str, made: &Made<'_>, path: Option<&Path>, text: &str) -> Result<(), CommandError> {
        let ui = &self.session.ui;
        if !ui.is_json() {
            return ui.result(&format!("{text}\n"));
        }
        let mut report = report(instance, self.output, made);
        if let Some(path) = path {
            report["path"] = json!(path);
        }
        ui.json_line(&report)
    }

    fn copy(&self, store: &Store, artifact: &Artifact, to: &Path) -> Result<(), CommandError> {
        if to.symlink_metadata().is_ok() {
            return Err(CommandError::failed(format!("`{}` is there already", to.display()))
                .hint("remove it, or give another name with `-d`"));
        }
        attach::fetch(self.session, self.run, artifact)?;
        store.copy_out(artifact, None, to).map_err(|error| self.lost(artifact, &error))
    }

    fn to_stdout(&self, store: &Store, artifact: &Artifact) -> Result<(), CommandError> {
        if artifact.kind == ArtifactKind::Directory {
            return Err(CommandError::usage(format!("`{}` is a directory: it cannot go to stdout", self.output))
                .hint("give a directory with `-d`"));
        }
        attach::fetch(self.session, self.run, artifact)?;
        let mut file = std::fs::File::open(store.object_path(artifact)).map_err(|error| self.lost(artifact, &error))?;
        // What was written to stdout cannot be taken back.
        store.verify(artifact).map_err(|error| self.lost(artifact, &error))?;
        self.session.ui.result_from(&mut file)
    }

    fn lost(&self, artifact: &Artifact, error: &dyn std::error::Error) -> CommandError {
        CommandError::missing(format!(
            "cannot get `{}` ({}) of run `{}`",
            self.output,
            artifact.digest.short(),
            self.run.id()
        ))
        .because(error)
        .hint("if the store does not have it any more, `mlctl run` makes it again")
    }

    /// The name that the program gave it, as the spec of that run says; else the output's.
    fn file_name(&self, step: &str) -> String {
        self.declared_name(step).unwrap_or_else(|| self.output.to_owned())
    }

    fn declared_name(&self, step: &str) -> Option<String> {
        let workflow = crate::session::workflow_of(self.run)?;
        let step = workflow.steps.into_iter().find(|declared| declared.name == step)?;
        let output = step.outputs.into_iter().find(|declared| declared.name == self.output)?;
        let path = output.at.or(output.export)?;
        Some(Path::new(&path).file_name()?.to_str()?.to_owned())
    }
}
