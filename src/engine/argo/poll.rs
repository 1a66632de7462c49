//! Asks the store and the cluster about a run, again and again.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mlctl_core::event::{Event, Reason, Recorded, Status};
use mlctl_core::records::{self, Mark};

use super::explain::{self, Wait};
use super::judge::Judgement;
use super::logs::Logs;
use super::place::Place;
use super::sweep::Sweep;
use crate::error::CommandError;
use crate::platform::kube::Fault;

/// How often the cluster is asked: what it says is of interest only where there are no records.
const CLUSTER: Duration = Duration::from_secs(2);
/// How long a workflow that nobody has taken up is waited for after it was told to end.
const TAKEN_UP: Duration = Duration::from_secs(10);
/// How long pods may take to end after their workflow has.
const LINGERING: Duration = Duration::from_secs(20);

/// What was found out.
pub(super) enum News {
    /// Records that are new: names and contents.
    Records(Vec<(String, Bytes)>),
    /// Somebody has seen the end of the run.
    Ended(Recorded),
    /// What pods wait for.
    Waits {
        /// It.
        waits: Vec<Wait>,
        /// Whether anybody has taken the workflow up.
        taken_up: bool,
        /// Whether there are pods that do not wait in vain.
        busy: bool,
    },
    /// Something does not answer; it is asked again.
    Trouble(Box<CommandError>),
    /// The workflow is over and its pods are gone: there will be no more records.
    Over(Judgement),
}

/// What is to be done besides.
pub(super) enum Order {
    /// End the run. `again`: it was told to already.
    Cancel { reason: Reason, again: bool },
    /// End the workflow: what it waits for will not come.
    GiveUp,
}

/// Asks about a run.
pub(super) struct Poller<'a> {
    place: &'a Place,
    logs: Logs<'a>,
    seen: HashSet<String>,
    /// Attempts whose logs are wanted while they run.
    running: BTreeMap<String, u32>,
    asked: Option<Instant>,
    /// When the run was told to end.
    cancelled: Option<Instant>,
    /// Since its workflow was seen to be over.
    sweep: Option<Sweep>,
}

impl<'a> Poller<'a> {
    pub(super) fn new(place: &'a Place, logs: Logs<'a>, seen: HashSet<String>, running: BTreeMap<String, u32>) -> Self {
        Self { place, logs, seen, running, asked: None, cancelled: None, sweep: None }
    }

    /// Asks once. `cluster`: also the cluster, if it has not been asked just now.
    pub(super) fn look(&mut self, cluster: bool) -> Vec<News> {
        let mut news = Vec::new();
        if let Err(error) = self.records(&mut news).and_then(|()| self.ended(&mut news)) {
            return vec![News::Trouble(error.into())];
        }
        let is_over = matches!(news.last(), Some(News::Ended(_)));
        if is_over || !cluster || self.asked.is_some_and(|asked| asked.elapsed() < CLUSTER) {
            return news;
        }
        self.asked = Some(Instant::now());
        match self.cluster() {
            Ok(None) => {}
            Ok(Some(News::Over(judgement))) => {
                // What was recorded last was recorded before the pods ended.
                match self.records(&mut news).and_then(|()| self.ended(&mut news)) {
                    Ok(()) => news.push(News::Over(judgement)),
                    Err(error) => news.push(News::Trouble(error.into())),
                }
            }
            Ok(Some(found)) => news.push(found),
            Err(error) => news.push(News::Trouble(error.into())),
        }
        news
    }

    /// Carries out an order.
    pub(super) fn obey(&mut self, order: &Order) -> Result<(), CommandError> {
        self.cancelled.get_or_insert_with(Instant::now);
        self.asked = None;
        match order {
            Order::GiveUp => self.place.shut_down(false),
            Order::Cancel { reason, again } => self.place.cancel(reason.clone(), *again),
        }
    }

    fn records(&mut self, news: &mut Vec<News>) -> Result<(), CommandError> {
        let place = self.place;
        let failed = |error| place.failed("read the records of", &error);
        let all = place.remote.records(&place.run, records::INSTANCES).map_err(failed)?;
        let new: Vec<String> =
            all.into_iter().filter(|name| Mark::parse(name).is_some() && !self.seen.contains(name)).collect();
        let contents = place.remote.record_each(&place.run, &new).map_err(failed)?;
        let found: Vec<(String, Bytes)> =
            new.into_iter().zip(contents).filter_map(|(name, bytes)| Some((name, bytes?))).collect();
        self.seen.extend(found.iter().map(|(name, _)| name.clone()));
        // What an attempt printed is there before what says how it ended. Without it there is less to show.
        for (name, bytes) in &found {
            match Mark::parse(name) {
                Some((instance, Mark::Started(attempt))) if self.logs.wanted.wants(instance) => {
                    self.running.insert(instance.to_owned(), attempt);
                }
                Some((instance, Mark::Failed(_) | Mark::Finished)) => {
                    let running = self.running.remove(instance);
                    if let Some(attempt) = failure(bytes).or(running) {
                        let _ = self.logs.fetch(instance, attempt);
                    }
                }
                _ => {}
            }
        }
        for (instance, attempt) in &self.running {
            let _ = self.logs.fetch(instance, *attempt);
        }
        if !found.is_empty() {
            news.push(News::Records(found));
        }
        Ok(())
    }

    fn ended(&self, news: &mut Vec<News>) -> Result<(), CommandError> {
        let ended = self.place.record(records::ENDED)?;
        news.extend(ended.and_then(|bytes| records::decode_event(&bytes).ok()).map(News::Ended));
        Ok(())
    }

    fn cluster(&mut self) -> Result<Option<News>, CommandError> {
        let cluster = self.place.cluster()?;
        let failed = |fault: Fault| cluster.explain("ask about the run", &fault);
        let name = &self.place.workflow;
        let workflow = cluster.workflow(name).map_err(failed)?;
        let is_open = workflow.as_ref().is_some_and(|workflow| !workflow.is_finished());
        let pods = cluster.pods(name).map_err(failed)?;
        if is_open {
            let workflow = workflow.unwrap_or_default();
            // Of a large one Argo makes pods for a while before it says anything.
            let taken_up = !(workflow.status.phase.is_empty() && pods.is_empty());
            // Nobody ends what nobody has begun.
            if !taken_up && self.cancelled.is_some_and(|at| at.elapsed() > TAKEN_UP) {
                cluster.delete_workflow(name).map_err(failed)?;
            }
            let waits = explain::waits(&workflow, &pods);
            let busy =
                pods.iter().any(|pod| !pod.has_ended() && !explain::of_pod(pod).is_some_and(|wait| wait.in_vain));
            return Ok(Some(News::Waits { waits, taken_up, busy }));
        }
        let sweep = self.sweep.get_or_insert_with(|| Sweep::new(LINGERING));
        let is_empty = sweep.turn(cluster, &pods).map_err(failed)?;
        Ok(is_empty.then(|| News::Over(Judgement::of(workflow))))
    }
}

/// Which attempt failed, if a record says so.
fn failure(bytes: &[u8]) -> Option<u32> {
    match records::decode_event(bytes).ok()?.event {
        Event::InstanceRetrying { attempt, .. } => Some(attempt),
        Event::InstanceFinished { status: Status::Failed, attempts, .. } if attempts > 0 => Some(attempts),
        _ => None,
    }
}
