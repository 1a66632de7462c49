//! `mlctl init`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::error::CommandError;
use crate::platform::python;
use crate::scaffold::{self, Answers, ScaffoldError, Template};
use crate::session::Session;
use crate::ui::{count, prompt};

/// What the templates say where this machine has no Python.
const PYTHON: &str = "3.12";

/// The arguments of `mlctl init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where to make the project.
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true, value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Which template.
    #[arg(short, long, value_name = "NAME", value_parser = templates())]
    pub(crate) template: Option<Template>,
    /// The project's name [default: that of the directory].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Ask nothing: take the defaults.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

fn templates() -> impl TypedValueParser<Value = Template> {
    let values =
        Template::ALL.map(|template| clap::builder::PossibleValue::new(template.name()).help(template.about()));
    PossibleValuesParser::new(values).map(|name| {
        let template = Template::ALL.into_iter().find(|template| template.name() == name);
        template.expect("clap lets only these names pass")
    })
}

/// Makes a new project.
pub(super) fn init(session: &Session, args: InitArgs) -> Result<ExitCode, CommandError> {
    let dir = session.start().join(&args.dir);
    let default_name = scaffold::project_name(&std::path::absolute(&dir).unwrap_or_else(|_| dir.clone()));
    let asks = !args.yes && args.template.is_none() && prompt::can_ask();
    let template = match args.template {
        Some(template) => template,
        None if asks => ask_template()?,
        None if args.yes => Template::Minimal,
        None => {
            return Err(CommandError::usage("there is no terminal to ask which template")
                .hint("name one: `--template sklearn`; or take the smallest: `--yes`"));
        }
    };
    let name = match args.name {
        Some(name) => name,
        None if asks => prompt::text("Project name", default_name, scaffold::check_name)?,
        None => default_name,
    };
    scaffold::check_name(&name)
        .map_err(|why| CommandError::usage(format!("`{name}` cannot be a project's name")).cause(why))?;
    let answers = Answers { name, python: python::usual().unwrap_or_else(|| PYTHON.to_owned()) };
    let files = scaffold::init(template, &dir, &answers).map_err(refused)?;
    report(session, template, &args.dir, &answers, &files)?;
    Ok(ExitCode::SUCCESS)
}

fn ask_template() -> Result<Template, CommandError> {
    let choices = Template::ALL.map(|template| format!("{:<8} {}", template.name(), template.about()));
    prompt::choose("Template", &choices).map(|index| Template::ALL[index])
}

fn refused(error: ScaffoldError) -> CommandError {
    match error {
        ScaffoldError::InTheWay(paths) => {
            let list: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            CommandError::failed(format!("{} in the way, nothing was written", count(list.len() as u64, "file")))
                .cause(list.join("\n"))
                .hint("move them away, or make the project in a new directory: `mlctl init DIR`")
        }
        ScaffoldError::Io { path, source } => {
            CommandError::missing(format!("cannot write `{}`, nothing was left behind", path.display()))
                .because(&source)
        }
    }
}

fn report(
    session: &Session,
    template: Template,
    dir: &Path,
    answers: &Answers,
    files: &[PathBuf],
) -> Result<(), CommandError> {
    if session.ui.is_json() {
        let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        return session.ui.json(&serde_json::json!({
            "project": answers.name, "template": template.name(), "dir": dir.display().to_string(), "files": files,
        }));
    }
    session.ui.note(&format!("made project `{}`: {}", answers.name, count(files.len() as u64, "file")));
    let enter = if dir == Path::new(".") { String::new() } else { format!("  cd {}\n", dir.display()) };
    session.ui.note(&format!("next:\n{enter}  mlctl run\n  mlctl status"));
    Ok(())
}
