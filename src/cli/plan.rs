//! `mlctl plan`

use std::process::ExitCode;

use clap::Args;
use mlctl_core::context::EngineKind;
use mlctl_core::event::Status;
use mlctl_core::forecast::{Forecast, Outlook};
use mlctl_core::scheduler::Instance;
use serde_json::json;

use super::complete;
use super::run::{Request, asked};
use crate::engine::argo;
use crate::error::CommandError;
use crate::forecast;
use crate::session::Session;
use crate::ui::run_view::explain;
use crate::ui::style::{FAINT, STRONG};
use crate::ui::table::Table;
use crate::ui::{Format, Verbosity, count};

mod diff;
mod past;

use past::Past;

/// The arguments of `mlctl plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What would be made.
    #[command(flatten)]
    pub(crate) request: Request,
    /// Show instead what is different in this context: place, size and images.
    #[arg(long, value_name = "CONTEXT", add = complete::contexts())]
    pub(crate) diff: Option<String>,
}

/// Shows what a run would do now. Executes nothing, writes nothing but caches, reaches no network.
pub(super) fn plan(session: &Session, args: PlanArgs) -> Result<ExitCode, CommandError> {
    let locked = args.request.locked;
    if let Some(other) = args.diff {
        diff::diff(session, &other, &asked(args.request)?, locked)?;
        return Ok(ExitCode::SUCCESS);
    }
    let looked = forecast::of(session, &asked(args.request)?, locked)?;
    let (forecast, past) = (&looked.forecast, Past::new(session, &looked));
    match session.ui.format {
        Format::Json => session.ui.json(&report(forecast, past))?,
        Format::Name => {
            let ids = forecast.iter().filter(|(_, outlook)| runs(outlook)).map(|(instance, _)| instance.id() + "\n");
            session.ui.result(&ids.collect::<String>())?;
        }
        Format::Text => session.ui.result(&text(forecast, past, session.ui.verbosity == Verbosity::Verbose))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what a cluster would be sent.
pub(super) fn manifest(session: &Session, args: PlanArgs) -> Result<ExitCode, CommandError> {
    let project = session.project()?;
    let context = session.context(&project)?;
    if context.engine() != EngineKind::Argo {
        return Err(CommandError::usage(format!("context `{}` sends no manifest anywhere", context.name))
            .cause("manifests are for contexts with `engine = \"argo\"`")
            .hint("name one by `--context`; `mlctl context list` lists them"));
    }
    let locked = args.request.locked;
    let asked = asked(args.request)?;
    let forecast = forecast::of(session, &asked, locked)?.forecast;
    match argo::manifest((&project, &context), &asked, &forecast)? {
        Some(workflow) => session.ui.yaml(&workflow)?,
        None => session.ui.note("there is nothing to run: a cluster would be sent nothing"),
    }
    Ok(ExitCode::SUCCESS)
}

const fn runs(outlook: &Outlook) -> bool {
    matches!(outlook, Outlook::Runs(_))
}

fn word(outlook: &Outlook) -> &'static str {
    match outlook {
        Outlook::Runs(_) => "run",
        Outlook::Ends(Status::Succeeded | Status::Cached, _) => "cached",
        Outlook::Ends(Status::Skipped, _) => "skip",
        Outlook::Ends(Status::Failed, _) => "fail",
        Outlook::Ends(Status::Cancelled, _) => "cancel",
    }
}

fn why(outlook: &Outlook) -> String {
    match outlook {
        Outlook::Runs(why) => why.to_string(),
        Outlook::Ends(_, reason) => reason.as_ref().map(explain).unwrap_or_default(),
    }
}

fn report(forecast: &Forecast, mut past: Past<'_>) -> serde_json::Value {
    let instances = forecast.iter().map(|(instance, outlook)| {
        json!({
            "id": instance.id(),
            "step": instance.step().name,
            "outlook": word(outlook),
            "why": past.why(forecast, &instance, outlook).unwrap_or_else(|| why(outlook)),
            "key": instance.key(),
        })
    });
    json!({ "plan": forecast.plan(), "forecast": instances.collect::<Vec<_>>() })
}

/// A line for each step; in detail for each instance.
fn text(forecast: &Forecast, mut past: Past<'_>, detail: bool) -> String {
    let mut table = if detail {
        Table::new(&["INSTANCE", "OUTLOOK", "WHY"])
    } else {
        Table::new(&["STEP", "INSTANCES", "CACHED", "RUN", "WHY"])
    };
    let (mut total, mut running) = (0, 0);
    let mut outlooks = forecast.iter().peekable();
    while let Some((instance, outlook)) = outlooks.next() {
        let step = &instance.step().name;
        let (mut members, mut run, mut cached, mut first) = (0_u64, 0_u64, 0_u64, why(outlook));
        let mut add = |instance: &Instance<'_>, outlook: &Outlook| {
            members += 1;
            run += u64::from(runs(outlook));
            cached += u64::from(word(outlook) == "cached");
            // Why some run says more than why others do not.
            let is_first = runs(outlook) && run == 1;
            if detail || is_first {
                let why = past.why(forecast, instance, outlook).unwrap_or_else(|| why(outlook));
                if detail {
                    table.row([instance.id(), word(outlook).into(), why]);
                } else {
                    first = why;
                }
            }
        };
        add(&instance, outlook);
        while let Some((instance, outlook)) = outlooks.next_if(|(next, _)| next.step().name == *step) {
            add(&instance, outlook);
        }
        if !detail {
            table.row([step.clone(), members.to_string(), cached.to_string(), run.to_string(), first]);
        }
        total += members;
        running += run;
    }
    let head = format!("{STRONG}plan{STRONG:#} of {}: {}", forecast.plan().workflow.name, count(total, "instance"));
    let end = match running {
        0 => "nothing to run".to_owned(),
        some if detail => format!("{some} to run"),
        some => format!("{some} to run {FAINT}(each of them: -v){FAINT:#}"),
    };
    format!("{head}, {end}\n{}", table.render())
}
