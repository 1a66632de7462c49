//! `mlctl context`

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::complete;
use crate::config::{Context, Layers};
use crate::error::CommandError;
use crate::session::{Project, Session};
use crate::ui::Format;
use crate::ui::style::FAINT;
use crate::ui::table::Table;

mod check;
mod create;

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts.
    List,
    /// Show a context's values, and which file or variable gave each.
    Show {
        /// Its name [default: the one in force].
        #[arg(value_name = "NAME", add = complete::contexts())]
        name: Option<String>,
    },
    /// Check whether a context can run the project, as far as that can be told without trying.
    Check {
        /// Its name [default: the one in force].
        #[arg(value_name = "NAME", add = complete::contexts())]
        name: Option<String>,
    },
    /// Make a cluster, and the context to run there.
    #[command(subcommand)]
    Create(create::CreateCommand),
    /// Remove a context that was made so, and its cluster.
    Delete(create::DeleteArgs),
}

/// Lists, shows, checks, makes or removes contexts.
pub(super) fn context(session: &Session, command: ContextCommand) -> Result<ExitCode, CommandError> {
    match command {
        ContextCommand::List => {
            let project = session.project()?;
            list(session, &session.contexts(&project)?, &session.context(&project)?)
        }
        ContextCommand::Show { name } => show(session, &named(session, &session.project()?, name.as_deref())?),
        ContextCommand::Check { name } => {
            let project = session.project()?;
            check::check(session, (&project, &named(session, &project, name.as_deref())?))
        }
        ContextCommand::Create(command) => create::create(session, command),
        ContextCommand::Delete(args) => create::delete(session, &args),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The context of that name, or the one in force.
fn named(session: &Session, project: &Project, name: Option<&str>) -> Result<Context, CommandError> {
    match name {
        None => session.context(project),
        Some(name) => session.named_context(&session.contexts(project)?, name),
    }
}

fn list(session: &Session, layers: &Layers, current: &Context) -> Result<(), CommandError> {
    let contexts = layers.names().filter_map(|name| layers.merge(name));
    match session.ui.format {
        Format::Json => {
            let list: Vec<_> = contexts
                .map(|context| {
                    json!({ "name": context.name, "engine": context.engine(), "current": context.name == current.name })
                })
                .collect();
            session.ui.json(&list)
        }
        Format::Name => session.ui.result(&layers.names().map(|name| format!("{name}\n")).collect::<String>()),
        Format::Text => {
            let mut table = Table::new(&["", "CONTEXT", "ENGINE"]);
            for context in contexts {
                let mark = if context.name == current.name { "*" } else { "" };
                let engine = context.merged.engine.map(|engine| json!(engine)).unwrap_or_default();
                table.row([mark.into(), context.name, engine.as_str().unwrap_or_default().to_owned()]);
            }
            session.ui.result(&table.render())
        }
    }
}

fn show(session: &Session, context: &Context) -> Result<(), CommandError> {
    let origin = |key: &str| context.origins.get(key).map(ToString::to_string).unwrap_or_default();
    if session.ui.is_json() {
        let values: serde_json::Map<_, _> = context
            .entries()
            .into_iter()
            .map(|(key, value)| {
                let from = origin(&key);
                (key, json!({ "value": value, "from": from }))
            })
            .collect();
        return session.ui.json(&json!({ "name": context.name, "values": values }));
    }
    let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
    for (key, value) in context.entries() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let from = origin(&key);
        table.row([key, text, format!("{FAINT}{from}{FAINT:#}")]);
    }
    session.ui.result(&table.render())
}
