//! The shared store of a run on this machine: what it has of the results is fetched before anything runs, and what the run
//! computes is sent while it goes on. It is only a cache: whatever is wrong with it is a warning.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use mlctl_core::context::EngineKind;
use mlctl_core::digest::Digest;
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::Facts;
use mlctl_exec::store::Store;
use mlctl_remote::{Amount, Remote, RemoteError, Watch};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{failure, keyed, open_with};
use crate::config::Context;
use crate::engine::argo;
use crate::error::{CommandError, Kind};
use crate::forecast::Stored;
use crate::ui::transfer::Transfer;
use crate::ui::{Ui, count, size};

/// A request that moves little has so long, tries included: runs do not wait for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tries after the first.
const RETRIES: usize = 2;
/// How often whoever waits for the last results to be sent looks up.
const TURN: Duration = Duration::from_millis(100);

/// A shared store, open.
#[derive(Debug)]
pub(crate) struct Shared {
    remote: Arc<Remote>,
    store: Arc<Store>,
    url: String,
}

/// Sends results while a run goes on.
#[derive(Debug)]
pub(crate) struct Sending {
    keys: Sender<Digest>,
    thread: JoinHandle<Sent>,
    url: String,
}

/// What became of the results.
#[derive(Debug, Default)]
struct Sent {
    failed: u64,
    why: Option<RemoteError>,
}

impl Shared {
    /// The store that a context of this machine shares, if it has one that can be used.
    pub(crate) fn of(ui: &Ui, context: &Context, store: &Arc<Store>) -> Result<Option<Self>, CommandError> {
        let Some(at) = &context.merged.store else { return Ok(None) };
        if context.engine() == EngineKind::Argo || argo::shares_store(context, store.root()) {
            return Ok(None);
        }
        let opened = open_with(context, store, |options| {
            options.patience = PATIENCE;
            options.retries = RETRIES;
        });
        match opened {
            Ok(remote) => Ok(Some(Self { remote: Arc::new(remote), store: store.clone(), url: at.url.clone() })),
            // Whoever was asked and says no, or interrupts, means it.
            Err(error) if matches!(error.kind, Kind::Usage | Kind::Interrupted) => Err(error),
            Err(error) => {
                warn(ui, &error, "the run goes on without it");
                Ok(None)
            }
        }
    }

    /// Fetches the results that a run of the plan could use and this machine lacks.
    pub(crate) fn fetch(&self, ui: &Ui, plan: &Plan, facts: &Facts, stored: Stored<'_>) {
        if let Err(error) = self.try_fetch(ui, plan, facts, stored) {
            let error = failure(format!("cannot fetch results from `{}`", self.url), &self.url, &error);
            warn(ui, &error, "what is missing is computed");
        }
    }

    fn try_fetch(&self, ui: &Ui, plan: &Plan, facts: &Facts, stored: Stored<'_>) -> Result<(), RemoteError> {
        // A list that a step made shows what comes after it only once it is here.
        loop {
            let keys: Vec<Digest> = keyed(plan, facts, stored, &self.remote)?.into_iter().map(|(key, _)| key).collect();
            let pull = self.remote.plan_pull(&self.store, &keys)?;
            if pull.keys().next().is_none() {
                return Ok(());
            }
            let amount = pull.amount();
            let transfer = Transfer::new(ui, "fetching results", amount);
            let pulled = self.remote.pull(&self.store, pull, &transfer.watch())?;
            drop(transfer);
            for (_, error) in &pulled.lost {
                ui.warning(&format!("a result in `{}` is of no use: {error}", self.url));
            }
            if pulled.received.is_empty() {
                return Ok(());
            }
            let results = count(pulled.received.len() as u64, "result");
            ui.note(&format!("fetched {results} from {} ({})", self.url, size(amount.bytes)));
            if !pulled.lost.is_empty() {
                return Ok(());
            }
        }
    }

    /// Begins to send what a run computes.
    pub(crate) fn send(&self) -> Sending {
        let (keys, received) = mpsc::channel();
        let (remote, store) = (self.remote.clone(), self.store.clone());
        let thread = std::thread::spawn(move || send_all(&remote, &store, &received));
        Sending { keys, thread, url: self.url.clone() }
    }
}

impl Sending {
    /// A result has been recorded: it is sent when there is time.
    pub(crate) fn computed(&self, key: Digest) {
        // Nobody receives any more after an error: it is told at the end.
        let _ = self.keys.send(key);
    }

    /// Waits until all is sent. Whoever interrupts that, or a store that fails, leaves what is not sent for `mlctl sync`.
    pub(crate) fn finish(self, ui: &Ui, run: &str) {
        let Self { keys, thread, url } = self;
        drop(keys);
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]);
        let shown = (!thread.is_finished()).then(|| Transfer::new(ui, "sending results", Amount::default()));
        let interrupted = match signals {
            Ok(mut signals) => loop {
                if thread.is_finished() {
                    break false;
                }
                if signals.pending().next().is_some() {
                    break true;
                }
                std::thread::sleep(TURN);
            },
            Err(_) => false,
        };
        drop(shown);
        let later = format!("`mlctl sync --push {run}` sends what was not sent");
        if interrupted {
            // The thread ends with the process.
            ui.warning(&format!("sending results to `{url}` was interrupted: {later}"));
            return;
        }
        let Ok(sent) = thread.join() else { return };
        if let Some(error) = sent.why {
            let results = count(sent.failed, "result");
            let error = failure(format!("cannot send {results} to `{url}`"), &url, &error);
            warn(ui, &error, &later);
        }
    }
}

/// Sends results as they come, together what has come meanwhile. After an error it only counts.
fn send_all(remote: &Remote, store: &Arc<Store>, keys: &Receiver<Digest>) -> Sent {
    /// Results that come close together travel together.
    const MOMENT: Duration = Duration::from_millis(50);
    let mut sent = Sent::default();
    let watch: Watch = Arc::new(|_| {});
    while let Ok(first) = keys.recv() {
        let mut batch = vec![first];
        while let Ok(key) = keys.recv_timeout(MOMENT) {
            batch.push(key);
        }
        if sent.why.is_none() {
            let pushed = remote.plan_push(store, &batch).and_then(|push| remote.push(push, &watch));
            sent.why = pushed.err();
        }
        if sent.why.is_some() {
            sent.failed += batch.len() as u64;
        }
    }
    sent
}

fn warn(ui: &Ui, error: &CommandError, consequence: &str) {
    let hints = error.hints.iter().map(|hint| format!("\n  {hint}")).collect::<String>();
    ui.warning(&format!("{error}: {consequence}{hints}"));
}
