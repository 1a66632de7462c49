//! `mlctl logs`

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use indexmap::IndexMap;
use mlctl_core::event::{Event, Outcome, Reason, Status};

use super::{complete, select};
use crate::engine::argo::Wanted;
use crate::error::{CommandError, outcome_code};
use crate::record::{InstanceState, Phase, Run, RunState};
use crate::run::attach::{self, Upkeep};
use crate::session::Session;
use crate::ui::run_view::RunView;

mod printer;
mod source;

use printer::Printer;
use source::LogFile;

/// The arguments of `mlctl logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Steps or instances (`train@depth=2`) [default: all of the run].
    #[arg(value_name = "INSTANCE", add = complete::run_instances())]
    instances: Vec<String>,
    /// Which run: its id, the beginning of it, or @latest.
    #[arg(long, value_name = "RUN", default_value = "@latest", hide_default_value = true, add = complete::runs())]
    run: String,
    /// Go on while the run does, and end with its result; with instances, when they are done, with theirs.
    #[arg(short, long)]
    follow: bool,
    /// Of the attempt N [default: the last].
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    attempt: Option<u32>,
    /// Only the last N lines.
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
}

/// Prints what steps printed.
pub(super) fn logs(session: &Session, args: &LogsArgs) -> Result<ExitCode, CommandError> {
    let run = attach::find_fresh(session, &args.run)?;
    let state = run.fold();
    let mut wanted = Vec::new();
    for name in &args.instances {
        wanted.extend(select::instances(&run, &state, name)?);
    }
    let all = args.instances.is_empty();
    let mut printer = Printer::new(&session.ui, all || wanted.len() > 1);
    if args.follow && run.ended().is_none() {
        let logs = if all { Wanted::All } else { Wanted::Of(wanted.clone()) };
        let upkeep = Upkeep::of(session, &run, logs)?;
        return Follow::new(&run, wanted, args.tail).until_done(&mut printer, upkeep);
    }
    if all {
        wanted = state.instances.keys().cloned().collect();
    }
    attach::fetch_logs(
        session,
        &run,
        wanted.iter().map(|id| (id.as_str(), args.attempt.unwrap_or(state.instances[id].attempts))),
    );
    let mut found = 0;
    for instance in &wanted {
        if let Some((mut log, attempt)) =
            log_of(session, &run, instance, &state.instances[instance], args.attempt, !all)
        {
            found += 1;
            log.skip_to_tail(args.tail);
            printer.copy(instance, attempt, &mut log)?;
            printer.end(instance, attempt)?;
        }
    }
    if found == 0 {
        let (what, hint) = nothing(&run, &state, &wanted, args);
        return Err(CommandError::failed(what).hint(hint));
    }
    Ok(ExitCode::from(if args.follow { run.ended().map_or(0, |ended| outcome_code(ended.outcome)) } else { 0 }))
}

/// The log of an instance, and of which attempt it is. What was reused has its log in the run that made it.
fn log_of(
    session: &Session,
    run: &Run,
    instance: &str,
    state: &InstanceState,
    attempt: Option<u32>,
    search: bool,
) -> Option<(LogFile, u32)> {
    let attempt_here = attempt.unwrap_or(state.attempts);
    if (1..=state.attempts).contains(&attempt_here) {
        // One that printed nothing has no file.
        let log = LogFile::open_or_empty(&run.log_path(instance, attempt_here)).ok()?;
        return Some((log, attempt_here));
    }
    let key = state.key.filter(|_| search && state.phase == Phase::Finished(Status::Cached))?;
    let made_by = attach::provenance(session, run, &key)?;
    let maker = attach::find(session, &made_by.run).ok()?;
    let attempt = attempt.unwrap_or(made_by.attempt);
    attach::fetch_logs(session, &maker, std::iter::once((made_by.instance.as_str(), attempt)));
    let log = LogFile::open_or_empty(&maker.log_path(&made_by.instance, attempt)).ok()?;
    session.ui.note(&format!("{instance} was reused: this is what it printed in run {}", maker.id()));
    Some((log, attempt))
}

/// Why there is nothing to print, and what to do.
fn nothing(run: &Run, state: &RunState, wanted: &[String], args: &LogsArgs) -> (String, String) {
    let (id, status) = (run.id(), format!("`mlctl status {}` shows its instances", run.id()));
    match (wanted, args.attempt) {
        ([instance], Some(attempt)) => {
            let made = state.instances[instance].attempts;
            (format!("`{instance}` has no attempt {attempt} in run `{id}`"), format!("it made {made}"))
        }
        ([instance], None) => {
            let phase = state.instances[instance].phase.name();
            (
                format!("`{instance}` has no log in run `{id}`: it is {phase}"),
                format!("`mlctl why {instance} --run {id}` says why"),
            )
        }
        _ => (format!("run `{id}` has no logs: nothing was started"), status),
    }
}

/// The logs of a run that goes on.
struct Follow<'a> {
    run: &'a Run,
    /// Empty: all.
    wanted: Vec<String>,
    tail: Option<u64>,
    /// Being read, by instance.
    open: IndexMap<String, (u32, Option<LogFile>)>,
    done: BTreeMap<String, (Status, Option<Reason>)>,
}

impl<'a> Follow<'a> {
    fn new(run: &'a Run, wanted: Vec<String>, tail: Option<u64>) -> Self {
        Self { run, wanted, tail, open: IndexMap::new(), done: BTreeMap::new() }
    }

    fn until_done(mut self, printer: &mut Printer<'_>, mut upkeep: Option<Upkeep>) -> Result<ExitCode, CommandError> {
        let mut follower = self.run.follow();
        let mut first = true;
        loop {
            let ended = self.run.ended();
            for recorded in follower.read().unwrap_or_default() {
                self.event(&recorded.event, printer)?;
            }
            self.copy(printer, std::mem::take(&mut first))?;
            if let Some(code) = self.result(ended.map(|ended| ended.outcome)) {
                return Ok(ExitCode::from(code));
            }
            upkeep = upkeep.map(Upkeep::check).transpose()?;
            std::thread::sleep(RunView::TICK);
        }
    }

    fn event(&mut self, event: &Event, printer: &mut Printer<'_>) -> Result<(), CommandError> {
        match event {
            Event::InstanceStarted { instance, attempt, .. } if self.wants(instance) => {
                self.close(instance, printer)?;
                self.open.insert(instance.clone(), (*attempt, None));
            }
            Event::InstanceRetrying { instance, .. } if self.wants(instance) => self.close(instance, printer)?,
            Event::InstanceFinished { instance, status, reason, .. } if self.wants(instance) => {
                self.close(instance, printer)?;
                self.done.insert(instance.clone(), (*status, reason.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    fn wants(&self, instance: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == instance)
    }

    /// Prints what came. `first`: of what had been printed before, only the tail.
    fn copy(&mut self, printer: &mut Printer<'_>, first: bool) -> Result<(), CommandError> {
        for (instance, (attempt, log)) in &mut self.open {
            if log.is_none() {
                *log = LogFile::open(&self.run.log_path(instance, *attempt)).ok();
                if let Some(log) = log.as_mut().filter(|_| first) {
                    log.skip_to_tail(self.tail);
                }
            }
            if let Some(log) = log {
                printer.copy(instance, *attempt, log)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, instance: &str, printer: &mut Printer<'_>) -> Result<(), CommandError> {
        let Some((attempt, log)) = self.open.shift_remove(instance) else { return Ok(()) };
        let unread = || LogFile::open(&self.run.log_path(instance, attempt)).ok();
        if let Some(mut log) = log.or_else(unread) {
            printer.copy(instance, attempt, &mut log)?;
        }
        printer.end(instance, attempt)
    }

    /// The exit code once there is nothing more to follow.
    fn result(&self, ended: Option<Outcome>) -> Option<u8> {
        if self.wanted.is_empty() {
            return ended.map(outcome_code);
        }
        if ended.is_none() && self.done.len() < self.wanted.len() {
            return None;
        }
        let any = |status| self.done.values().find(|(done, _)| *done == status);
        Some(match (any(Status::Failed), any(Status::Cancelled)) {
            (Some(_), _) => outcome_code(Outcome::Failed),
            // The run goes on for a moment, or because something else cancelled this.
            (_, Some((_, reason))) => outcome_code(ended.unwrap_or(match reason {
                Some(Reason::Interrupted) => Outcome::Interrupted,
                Some(Reason::DeadlinePassed) => Outcome::TimedOut,
                _ => Outcome::Cancelled,
            })),
            _ => 0,
        })
    }
}
