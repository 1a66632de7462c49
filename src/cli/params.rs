//! `mlctl params`

use std::process::ExitCode;

use mlctl_core::value::Value;
use mlctl_core::workflow::ParamDecl;
use serde_json::json;

use crate::error::CommandError;
use crate::session::Session;
use crate::ui::Format;
use crate::ui::table::Table;

/// Lists the params of the project.
pub(super) fn params(session: &Session) -> Result<ExitCode, CommandError> {
    let project = session.project()?;
    let params = &project.workflow.params;
    match session.ui.format {
        Format::Json => {
            let list: Vec<_> = params.iter().map(|(name, param)| report(name, param)).collect();
            session.ui.json(&list)?;
        }
        Format::Name => session.ui.result(&params.keys().map(|name| format!("{name}\n")).collect::<String>())?,
        Format::Text if params.is_empty() => {
            session.ui.note(&format!("project `{}` has no params", project.workflow.name));
        }
        Format::Text => {
            let mut table = Table::new(&["PARAM", "TYPE", "DEFAULT", "ALLOWED", "HELP"]);
            for (name, param) in params {
                let default = param.default.as_ref().map_or_else(|| "(required)".into(), Value::to_string);
                let help = param.help.clone().unwrap_or_default();
                table.row([name.clone(), param.ty.to_string(), default, allowed(param), help]);
            }
            session.ui.result(&table.render())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `gbt | mlp`, `1 .. 10`, `0.0 ..`.
fn allowed(param: &ParamDecl) -> String {
    let text = |value: &Option<Value>| value.as_ref().map(Value::to_string).unwrap_or_default();
    if !param.choices.is_empty() {
        return param.choices.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if param.min.is_none() && param.max.is_none() {
        return String::new();
    }
    format!("{} .. {}", text(&param.min), text(&param.max)).trim().to_owned()
}

fn report(name: &str, param: &ParamDecl) -> serde_json::Value {
    json!({
        "name": name,
        "type": param.ty,
        "default": param.default,
        "required": param.default.is_none(),
        "min": param.min,
        "max": param.max,
        "choices": param.choices,
        "help": param.help,
    })
}
