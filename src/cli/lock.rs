//! `mlctl lock`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::complete;
use crate::engine::Engine;
use crate::error::CommandError;
use crate::lock::{self, Difference, FILE_NAME, Lock, Mode, Wanted};
use crate::session::{Project, Session, open_store};
use crate::ui::preparing::Preparing;
use crate::ui::style::{GOOD, STRONG};

/// The arguments of `mlctl lock`.
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// Lock only these environments [default: every environment and download].
    #[arg(value_name = "ENV", add = complete::environments())]
    environments: Vec<String>,
    /// Decide anew, whatever is locked: newest versions, present content of URLs.
    #[arg(long)]
    update: bool,
    /// Change nothing; fail if something would have to change.
    #[arg(long, conflicts_with = "update")]
    check: bool,
}

/// Brings `mlctl.lock` up to date.
pub(super) fn lock(session: &Session, args: LockArgs) -> Result<ExitCode, CommandError> {
    let project = session.project()?;
    let store = open_store()?;
    let mode = match &args {
        LockArgs { check: true, .. } => Mode::Frozen,
        LockArgs { update: true, .. } => Mode::Update,
        _ => Mode::Complete,
    };
    let before = Lock::read(&project.root)?;
    let progress = Preparing::new(&session.ui);
    let context = session.context(&project)?;
    let authorities = crate::prepare::authorities(&context)?;
    // What only looks asks nobody.
    let engine = if args.check { Engine::at_hand(&context)? } else { Engine::connect(&context)? };
    let target = engine.target(&project, &context);
    let layers = session.contexts(&project)?;
    let base_images: Vec<_> = layers
        .names()
        .filter_map(|name| layers.merge(name))
        .map(|context| context.merged.base_images.over(&project.workflow.base_images))
        .collect();
    let of = lock::Project {
        base_images: &base_images,
        daemon: engine.daemon().map(AsRef::as_ref),
        authorities: authorities.as_deref(),
        ..lock::Project::of(&project, &store, &target)
    };
    let wanted = wanted(&project, &args.environments)?;
    let after = lock::ensure(of, &wanted, mode, &|update| progress.update(update))?;
    drop(progress);
    if args.update && engine.daemon().is_none() && !after.images.is_empty() {
        session
            .ui
            .note("images are looked up anew in a context with containers: `mlctl lock --update --context docker`");
    }
    let differences = after.differences(&before);
    if session.ui.is_json() {
        session.ui.json(&report(&after, &differences))?;
    } else {
        session.ui.result(&text(&differences))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted<'a>(project: &'a Project, environments: &'a [String]) -> Result<Wanted<'a>, CommandError> {
    if environments.is_empty() {
        return Ok(Wanted::all(&project.workflow));
    }
    let mut wanted = Wanted::default();
    for name in environments {
        if !project.workflow.environments.contains_key(name) {
            let known: Vec<&str> = project.workflow.environments.keys().map(String::as_str).collect();
            return Err(CommandError::usage(format!("there is no environment `{name}`"))
                .hint(format!("there are: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })));
        }
        wanted.environments.insert(name);
        wanted.bases.insert(Some(name));
    }
    Ok(wanted)
}

fn text(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return format!("{GOOD}ok{GOOD:#}: {FILE_NAME} is up to date\n");
    }
    let mut text = String::new();
    let mut last = None;
    for difference in differences {
        if last.replace(&difference.of) != Some(&difference.of) {
            let _ = writeln!(text, "{STRONG}{}{STRONG:#}", difference.of);
        }
        let what = &difference.what;
        let _ = match (&difference.before, &difference.after) {
            (Some(before), Some(after)) => writeln!(text, "  {what} {before} -> {after}"),
            (None, Some(after)) => writeln!(text, "  + {what} {after}"),
            (Some(before), None) => writeln!(text, "  - {what} {before}"),
            (None, None) => Ok(()),
        };
    }
    text
}

fn report(lock: &Lock, differences: &[Difference]) -> Value {
    let environments: BTreeSet<(&String, &String)> =
        lock.environments.iter().flat_map(|(name, platforms)| platforms.keys().map(move |p| (name, p))).collect();
    let environments: Vec<Value> = environments
        .into_iter()
        .map(|(name, platform)| {
            let locked = &lock.environments[name][platform];
            let distributions = locked.distributions.iter().map(|d| json!({ "name": d.name, "version": d.version }));
            json!({
                "name": name,
                "platform": platform,
                "python": locked.python,
                "distributions": distributions.collect::<Vec<_>>(),
            })
        })
        .collect();
    let changes = differences
        .iter()
        .map(|change| json!({ "of": change.of, "what": change.what, "before": change.before, "after": change.after }));
    json!({
        "changed": !differences.is_empty(),
        "changes": changes.collect::<Vec<_>>(),
        "environments": environments,
        "urls": lock.urls.iter().map(|(url, locked)| json!({ "url": url, "sha256": locked.sha256, "size": locked.size })).collect::<Vec<_>>(),
    })
}
