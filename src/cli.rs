//! The command line: one file a command. The only place that knows clap.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::{CommandError, Kind};
use crate::session::Session;
use crate::ui::{Color, Format, Ui, Verbosity};

mod artifacts;
mod build;
mod cancel;
mod check;
mod complete;
mod completion;
mod context;
mod doctor;
mod gc;
mod init;
mod lock;
mod logs;
mod params;
mod plan;
mod run;
mod runs;
mod schema;
mod select;
mod status;
mod submit;
mod sync;
mod watch;
mod why;

/// Run ML workflows: the same spec as local processes, in containers, or on a cluster.
#[derive(Debug, Parser)]
#[command(name = "mlctl", version, disable_help_subcommand = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Work on the project in DIR, or above it.
    #[arg(short = 'C', long = "project", value_name = "DIR", global = true, value_hint = clap::ValueHint::DirPath)]
    project: Option<PathBuf>,
    /// Where to run: a context's name [default: $MLCTL_CONTEXT, or local].
    #[arg(long, value_name = "NAME", global = true, add = complete::contexts())]
    context: Option<String>,
    /// The form of results [default: text].
    #[arg(short, long, value_name = "FORM", global = true, default_value = "text", hide_default_value = true)]
    output: Form,
    /// Say nothing but errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more: every event.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to use colours [default: auto].
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto", hide_default_value = true)]
    color: Color,
}

/// The form of results. (What clap would show as help of the values stands behind `//`: they explain themselves.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    // For people.
    Text,
    // One document; one a line where the command follows something.
    Json,
    // Names only, one a line.
    Name,
    // What a cluster would be sent: of `plan` only.
    Manifest,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new project from a template.
    Init(init::InitArgs),
    /// Check mlctl.toml, without running anything.
    Check,
    /// Run the workflow: what has a result already is not run again.
    Run(run::RunArgs),
    /// Run the workflow on a cluster, without staying for it.
    Submit(submit::SubmitArgs),
    /// Show what a run would do, and why.
    Plan(plan::PlanArgs),
    /// Bring mlctl.lock up to date: what environments and downloads are, exactly.
    Lock(lock::LockArgs),
    /// Build images of environments: what is unchanged is not built again.
    Build(build::BuildArgs),
    /// List the params: types, defaults, what is allowed.
    Params,
    /// List the runs, the latest first.
    Runs(runs::RunsArgs),
    /// Show a run and its instances.
    Status(status::StatusArgs),
    /// Print what steps printed, also while they run.
    Logs(logs::LogsArgs),
    /// Follow a run to its end; the exit code is its result.
    Watch(watch::WatchArgs),
    /// List what a run made, or copy it out of the store.
    #[command(subcommand)]
    Artifacts(artifacts::ArtifactsCommand),
    /// Explain why an instance ran, was reused, skipped or cancelled.
    Why(why::WhyArgs),
    /// End a run.
    Cancel(cancel::CancelArgs),
    /// Bring results to the store that a context shares, and from there.
    Sync(sync::SyncArgs),
    /// Check all that a context needs: what is missing, and what to do about it.
    Doctor,
    /// Remove old runs, and from the store what nothing needs.
    Gc(gc::GcArgs),
    /// List, show, check, make or remove contexts: where steps run.
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Print the JSON Schema of mlctl.toml.
    Schema,
    /// Print a shell's completion script.
    Completion(completion::CompletionArgs),
    /// Write the man pages.
    #[command(hide = true)]
    Man(completion::ManArgs),
    /// Print the version.
    Version,
}

impl Command {
    fn execute(self, session: &Session) -> Result<ExitCode, CommandError> {
        match self {
            Self::Init(args) => init::init(session, args),
            Self::Check => check::check(session),
            Self::Run(args) => run::run(session, args),
            Self::Submit(args) => submit::submit(session, args),
            Self::Plan(args) => plan::plan(session, args),
            Self::Lock(args) => lock::lock(session, args),
            Self::Build(args) => build::build(session, args),
            Self::Params => params::params(session),
            Self::Runs(args) => runs::runs(session, &args),
            Self::Status(args) => status::status(session, &args),
            Self::Logs(args) => logs::logs(session, &args),
            Self::Watch(args) => watch::watch(session, &args),
            Self::Artifacts(command) => artifacts::artifacts(session, &command),
            Self::Why(args) => why::why(session, &args),
            Self::Cancel(args) => cancel::cancel(session, &args),
            Self::Sync(args) => sync::sync(session, &args),
            Self::Doctor => doctor::doctor(session),
            Self::Gc(args) => gc::gc(session, &args),
            Self::Context(command) => context::context(session, command),
            Self::Schema => schema::schema(session),
            Self::Completion(args) => completion::completion(session, &args),
            Self::Man(args) => completion::man(session, &args),
            Self::Version => version(session),
        }
    }
}

/// Runs the command line: parses, executes, and maps the end to an exit code.
pub(crate) fn main() -> ExitCode {
    // Set only by the shells' completion scripts.
    if std::env::var_os("COMPLETE").is_some() {
        clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version too: clap knows which stream and exit code each has.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Kind::Usage.code() } else { 0 });
        }
    };
    let Global { project, context, output, quiet, verbose, color } = cli.global;
    let verbosity = match (quiet, verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let format = match output {
        Form::Text | Form::Manifest => Format::Text,
        Form::Json => Format::Json,
        Form::Name => Format::Name,
    };
    let ui = Ui::new(color, format, verbosity);
    let session = Session::new(ui, project.unwrap_or_else(|| ".".into()), context);
    let ended = match cli.command {
        Command::Plan(args) if output == Form::Manifest => plan::manifest(&session, args),
        _ if output == Form::Manifest => {
            Err(CommandError::usage("`--output manifest` is for `mlctl plan`").hint("use `text`, `json` or `name`"))
        }
        command => command.execute(&session),
    };
    ended.unwrap_or_else(|error| {
        session.ui.error(&error);
        error.exit_code()
    })
}

fn version(session: &Session) -> Result<ExitCode, CommandError> {
    let version = env!("CARGO_PKG_VERSION");
    if session.ui.is_json() {
        session.ui.json(&serde_json::json!({ "version": version, "contract": mlctl_core::action::CONTRACT }))?;
    } else {
        session.ui.result(&format!("mlctl {version}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
