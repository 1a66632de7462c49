//! `mlctl check`

use std::process::ExitCode;

use mlctl_core::diag::{Diag, Severity, Source};
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::session::Session;
use crate::ui::style::GOOD;

/// Checks the spec and the context; runs nothing.
pub(super) fn check(session: &Session) -> Result<ExitCode, CommandError> {
    let checked = session.project().and_then(|project| session.context(&project).map(|_| project));
    let project = match checked {
        Ok(project) => project,
        Err(error) if session.ui.is_json() && !error.diags.is_empty() => {
            let diags: Vec<Value> =
                error.diags.iter().flat_map(|(source, diags)| diags.iter().map(|diag| report(source, diag))).collect();
            session.ui.json(&json!({ "valid": false, "diagnostics": diags }))?;
            return Ok(error.exit_code());
        }
        Err(error) => return Err(error),
    };
    if session.ui.is_json() {
        let diags: Vec<Value> = project.warnings.iter().map(|diag| report(&project.source, diag)).collect();
        session.ui.json(&json!({ "valid": true, "diagnostics": diags }))?;
    } else {
        session.ui.warnings(&project.source, &project.warnings);
        let workflow = &project.workflow;
        session.ui.result(&format!(
            "{GOOD}ok{GOOD:#}: {} is valid: project `{}`, {}\n",
            project.source.name,
            workflow.name,
            crate::ui::count(workflow.steps.len() as u64, "step")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A finding as JSON: lines and columns count from 1, columns in characters.
fn report(source: &Source, diag: &Diag) -> Value {
    let place = |span: mlctl_core::diag::Span| {
        let before = source.text.get(..span.start as usize).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        json!({
            "file": source.name,
            "line": before.matches('\n').count() + 1,
            "column": before[line_start..].chars().count() + 1,
            "start": span.start,
            "end": span.end,
        })
    };
    let severity = if diag.severity == Severity::Error { "error" } else { "warning" };
    let related: Vec<Value> =
        diag.related.iter().map(|(span, words)| json!({ "at": place(*span), "message": words })).collect();
    json!({
        "severity": severity,
        "code": diag.code,
        "message": diag.message,
        "label": diag.label,
        "at": place(diag.span),
        "related": related,
        "help": diag.help,
    })
}
