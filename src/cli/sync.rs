//! `mlctl sync`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use mlctl_core::digest::Digest;
use mlctl_exec::store::Store;
use mlctl_remote::{Amount, ErrorKind, Remote, RemoteError};
use serde_json::json;

use super::{complete, select};
use crate::config::Context;
use crate::engine::argo;
use crate::error::CommandError;
use crate::forecast::{self, Stored};
use crate::prepare::Asked;
use crate::record::Runs;
use crate::session::{self, Project, Session};
use crate::ui::transfer::Transfer;
use crate::ui::{count, size};
use crate::{remote, ui};

/// The arguments of `mlctl sync`.
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Runs of this machine, or steps and instances as the project is now, with all they need [default: every step].
    #[arg(value_name = "RUN|STEP", add = complete::instances())]
    names: Vec<String>,
    /// Only bring there what it lacks.
    #[arg(long, conflicts_with = "pull")]
    push: bool,
    /// Only fetch from there what this machine lacks.
    #[arg(long)]
    pull: bool,
    /// Only say what would travel.
    #[arg(long)]
    dry_run: bool,
}

/// The results that are spoken of: each key with the instance it belongs to.
type Results = BTreeMap<Digest, String>;

/// One direction: what is to travel, and then what did.
#[derive(Debug, Default)]
struct Way {
    /// Instances whose results travel.
    instances: Vec<String>,
    /// Those whose results are there already.
    already: u64,
    amount: Amount,
    /// Instances whose keys somebody else recorded first.
    adopted: Vec<String>,
    /// Instances whose results cannot be had, and why.
    lost: Vec<(String, RemoteError)>,
}

/// Moves results between this machine's store and the one that the context shares.
pub(super) fn sync(session: &Session, args: &SyncArgs) -> Result<ExitCode, CommandError> {
    let project = session.project()?;
    let context = session.context(&project)?;
    let store = Arc::new(session::open_store()?);
    if argo::shares_store(&context, store.root()) {
        session
            .ui
            .note(&format!("the context `{}` uses this machine's own store: nothing has to travel", context.name));
        return Ok(ExitCode::SUCCESS);
    }
    let remote = remote::open(&context, &store)?;
    let url = context.merged.store.as_ref().map_or("", |store| store.url.as_str());
    let sync = Sync { session, store: &store, remote: &remote, url, dry_run: args.dry_run };
    let results = sync.results(&project, &context, &args.names)?;
    let (results, pulled) = if args.push {
        (results, None)
    } else {
        let (results, pulled) = sync.pull_all(results, || sync.results(&project, &context, &args.names))?;
        (results, Some(pulled))
    };
    let pushed = if args.pull { None } else { Some(sync.push(&results)?) };
    tell(session, (&context.name, url), args, pushed.as_ref(), pulled.as_ref())?;
    damaged(url, pulled.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

struct Sync<'a> {
    session: &'a Session,
    store: &'a Arc<Store>,
    remote: &'a Remote,
    url: &'a str,
    dry_run: bool,
}

impl Sync<'_> {
    /// The results that the names mean.
    fn results(&self, project: &Project, context: &Context, names: &[String]) -> Result<Results, CommandError> {
        let mut results = Results::new();
        let is_step = |name: &str| project.workflow.steps.iter().any(|step| step.name == select::step_of(name));
        let (steps, runs): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| is_step(name));
        if !runs.is_empty() {
            let all = Runs::open(&project.root)?;
            for name in &runs {
                let run = all.find(name).map_err(|error| match error.kind {
                    crate::error::Kind::Usage if error.message.starts_with("there is no run") => {
                        CommandError::usage(format!("`{name}` is neither a run nor a step"))
                            .hint("`mlctl runs` lists the runs of this machine, `mlctl plan` the steps")
                    }
                    _ => error,
                })?;
                for (id, instance) in run.fold().instances {
                    results.extend(instance.key.filter(|_| instance.result.is_some()).map(|key| (key, id)));
                }
            }
        }
        if !steps.is_empty() || runs.is_empty() {
            let asked = Asked { targets: steps, ..Asked::default() };
            let of = (project, context);
            let outset = forecast::outset(self.session, of, self.store, &asked, false)?;
            let stored = Stored { store: self.store, inputs: &outset.files.inputs, keeps: false };
            let keyed = remote::keyed(&outset.plan, &outset.facts, stored, self.remote);
            let keyed = keyed.map_err(|error| remote::failure("cannot look results up", self.url, &error))?;
            results.extend(keyed);
        }
        Ok(results)
    }

    /// Pulls, and again while that shows more: a list that a step made shows what comes after it only once it is here.
    fn pull_all(
        &self,
        mut results: Results,
        look: impl Fn() -> Result<Results, CommandError>,
    ) -> Result<(Results, Way), CommandError> {
        let mut all = self.pull(&results)?;
        let mut came = !all.instances.is_empty();
        while came && !self.dry_run {
            let more = look()?;
            if more.keys().all(|key| results.contains_key(key)) {
                break;
            }
            results = more;
            let way = self.pull(&results)?;
            came = !way.instances.is_empty();
            all.add(way);
        }
        Ok((results, all))
    }

    fn pull(&self, results: &Results) -> Result<Way, CommandError> {
        let keys: Vec<Digest> = results.keys().copied().collect();
        let failed = |error: RemoteError| remote::failure("cannot pull", self.url, &error);
        let plan = self.remote.plan_pull(self.store, &keys).map_err(failed)?;
        let mut way = Way {
            instances: named(results, plan.keys()),
            already: plan.here().len() as u64,
            amount: plan.amount(),
            ..Way::default()
        };
        if !self.dry_run {
            let transfer = Transfer::new(&self.session.ui, "pulling", way.amount);
            let pulled = self.remote.pull(self.store, plan, &transfer.watch()).map_err(failed)?;
            way.instances = named(results, pulled.received.iter());
            way.lost = pulled.lost.into_iter().map(|(key, error)| (results[&key].clone(), error)).collect();
        }
        Ok(way)
    }

    fn push(&self, results: &Results) -> Result<Way, CommandError> {
        let keys: Vec<Digest> = results.keys().copied().collect();
        let failed = |error: RemoteError| remote::failure("cannot push", self.url, &error);
        let plan = self.remote.plan_push(self.store, &keys).map_err(failed)?;
        let mut way = Way {
            instances: named(results, plan.keys()),
            already: plan.there().len() as u64,
            amount: plan.amount(),
            ..Way::default()
        };
        if !self.dry_run && way.amount.objects > 0 {
            let transfer = Transfer::new(&self.session.ui, "pushing", way.amount);
            let pushed = self.remote.push(plan, &transfer.watch()).map_err(failed)?;
            drop(transfer);
            way.instances = named(results, pushed.recorded.iter());
            way.adopted = named(results, pushed.adopted.iter());
            if !self.remote.is_conditional().map_err(failed)? {
                self.session.ui.warning(
                    "this server has no put-if-absent: two machines that compute the same at the same time may each go on \
                     with a result of its own",
                );
            }
        }
        Ok(way)
    }
}

impl Way {
    /// With what came in another look. What was here already the first one saw.
    fn add(&mut self, other: Self) {
        self.instances.extend(other.instances);
        self.amount = [self.amount, other.amount].into_iter().sum();
        for lost in other.lost {
            if self.lost.iter().all(|(known, _)| *known != lost.0) {
                self.lost.push(lost);
            }
        }
    }

    fn text(&self, way: &str, end: &str, dry_run: bool) -> String {
        let what = if dry_run { " would travel" } else { "" };
        let already = if self.already > 0 { format!("; {} {end} already", self.already) } else { String::new() };
        let results = count(self.instances.len() as u64, "result");
        let objects = count(self.amount.objects, "object");
        format!("{way}: {results}{what} ({objects}, {}){already}\n", size(self.amount.bytes))
    }

    fn json(&self) -> serde_json::Value {
        let lost: Vec<_> =
            self.lost.iter().map(|(id, error)| json!({ "instance": id, "why": error.to_string() })).collect();
        json!({
            "results": self.instances.len(),
            "objects": self.amount.objects,
            "bytes": self.amount.bytes,
            "already": self.already,
            "instances": self.instances,
            "adopted": self.adopted,
            "lost": lost,
        })
    }
}

fn named<'a>(results: &Results, keys: impl Iterator<Item = &'a Digest>) -> Vec<String> {
    let mut names: Vec<String> = keys.filter_map(|key| results.get(key).cloned()).collect();
    names.sort_unstable();
    names
}

fn tell(
    session: &Session,
    (context, url): (&str, &str),
    args: &SyncArgs,
    pushed: Option<&Way>,
    pulled: Option<&Way>,
) -> Result<(), CommandError> {
    let ui = &session.ui;
    match ui.format {
        ui::Format::Json => ui.json(&json!({
            "context": context,
            "store": url,
            "dry_run": args.dry_run,
            "push": pushed.map(Way::json),
            "pull": pulled.map(Way::json),
        })),
        ui::Format::Name => {
            let instances = pushed.into_iter().chain(pulled).flat_map(|way| &way.instances);
            ui.result(&instances.map(|id| format!("{id}\n")).collect::<String>())
        }
        ui::Format::Text => {
            let lines = pulled.map(|way| way.text(&format!("from {url}"), "here", args.dry_run));
            let lines =
                lines.into_iter().chain(pushed.map(|way| way.text(&format!("to {url}"), "there", args.dry_run)));
            ui.result(&lines.collect::<String>())?;
            let lost = pulled.into_iter().flat_map(|way| &way.lost);
            for (id, error) in lost.filter(|(_, error)| error.kind() == ErrorKind::Missing) {
                ui.warning(&format!("the result of `{id}` is not whole there, and counts as none: {error}"));
            }
            Ok(())
        }
    }
}

/// What is damaged there is not taken.
fn damaged(url: &str, pulled: Option<&Way>) -> Result<(), CommandError> {
    let lost = pulled.map(|way| way.lost.as_slice()).unwrap_or_default();
    let damaged: Vec<_> = lost.iter().filter(|(_, error)| error.kind() == ErrorKind::Damaged).collect();
    let Some((first, error)) = damaged.first() else { return Ok(()) };
    let message = match damaged.len() {
        1 => format!("the result of `{first}` is damaged there, and was not taken"),
        more => format!("the results of {more} instances are damaged there, and were not taken: `{first}`, ..."),
    };
    let failed = CommandError::failed(message).because(error);
    Err(error.hint(url).into_iter().fold(failed, CommandError::hint))
}
