//! Working through a unit: the scheduler has the whole plan, launches what is this pod's, and is told of the rest what
//! is recorded.
//!
//! - What earlier pods of the same unit did is told to the scheduler as if it happened now, attempt by attempt.
//! - Of two pods that run the same, the first that records how an instance ended is right. The other begins anew, with
//!   what is recorded then.

mod attempt;
mod history;
mod pod;
mod report;
mod surroundings;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;

use mlctl_core::plan::Plan;
use mlctl_core::scheduler::Facts;
use mlctl_core::submission::{Part, Submission};
use mlctl_core::units::Share;
use mlctl_exec::store::{Lease, Store, remove_tree};
use mlctl_exec::{Cancel, Executor};
use signal_hook::consts::SIGTERM;

use crate::arguments::Options;
use crate::connection::{Connection, unexpected};
use crate::protocol::{Answer, Request, SOCKET, STORE, Trouble};
use pod::{End, News, Pod};
use surroundings::Surroundings;

/// The directory of what is told to the cluster's engine.
const OUT: &str = "out";
/// The directory of attempts in the lease of a pod.
const WORK: &str = "work";

/// What does not change while a pod lives.
pub(crate) struct Unit {
    /// The directory that the pod's containers share.
    at: PathBuf,
    connection: Arc<Connection>,
    submission: Submission,
    plan: Plan,
    facts: Facts,
    part: Part,
    share: Share,
    /// Where the executor works: the run's store itself, or what this pod has of it.
    store: Arc<Store>,
    /// Whether it is the run's store itself.
    shares_store: bool,
    lease: Lease,
    executor: Executor,
    surroundings: Surroundings,
    /// Ends the attempt that runs.
    cancel: Cancel,
}

/// Runs a unit; gives the exit code.
pub(crate) fn run(options: &Options) -> Result<u8, Trouble> {
    let (news, received) = channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM]).map_err(Trouble::once)?;
    let told = news.clone();
    std::thread::spawn(move || signals.forever().try_for_each(|_| told.send(News::Terminate)));
    let unit = Arc::new(Unit::new(options)?);
    let end = loop {
        match Pod::new(unit.clone(), news.clone(), &received).work()? {
            End::Overtaken => {}
            End::Code(code) => break code,
        }
    };
    unit.connection.call(Request::Goodbye)?;
    // What cannot be removed is the next gc's.
    let _ = remove_tree(unit.lease.path());
    Ok(end)
}

impl Unit {
    fn new(options: &Options) -> Result<Self, Trouble> {
        let connection = Connection::open(options.at.join(SOCKET))?;
        let (text, directory) = match connection.call(Request::Submission)? {
            Answer::Submission { text, directory } => (text, directory),
            other => return Err(unexpected(&other)),
        };
        let submission: Submission = serde_json::from_str(&text)
            .map_err(|error| Trouble::once(format!("cannot read the submission: {error}")))?;
        let (plan, facts) = submission.plan().map_err(Trouble::once)?;
        let missing = || Trouble::once(format!("the submission has no unit `{}`", options.unit));
        let part = submission.units.get(&options.unit).cloned().ok_or_else(missing)?;
        let share = submission.share(&plan, &options.unit, options.worker).ok_or_else(missing)?;
        let shares_store = directory.is_some();
        let root = directory.unwrap_or_else(|| options.at.join(STORE));
        let store = Arc::new(Store::open(&root).map_err(Trouble::lasting_of)?);
        let surroundings = Surroundings::of(&plan, &share);
        let lease = store.lease(&format!("{}-{}", submission.run, surroundings.pod)).map_err(Trouble::lasting_of)?;
        Ok(Self {
            at: options.at.clone(),
            connection,
            plan,
            facts,
            part,
            share,
            shares_store,
            lease,
            executor: Executor::new(store.clone()).contained(),
            store,
            surroundings,
            cancel: Cancel::new().map_err(Trouble::once)?,
            submission,
        })
    }

    /// Whether its steps are those that run after all others.
    fn is_finally(&self) -> bool {
        self.share.steps.iter().any(|step| self.plan.step(*step).finally)
    }
}
