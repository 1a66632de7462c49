//! Working through a unit: the scheduler has the whole plan, launches what is this pod's, and is told of the rest what
//! is recorded.
//!
//! - What earlier pods of the same unit did is told to the scheduler as if it happened now, attempt by attempt.
//! - Of two pods that run the same, the first that records how an instance ended is right. The other begins anew, with
//!   what is recorded then.

mod attempt;
mod history;
mod marks;
mod pod;
mod report;
mod surroundings;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use mlctl_core::action::CONTRACT;
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::Facts;
use mlctl_core::submission::{Part, Submission};
use mlctl_core::units::Share;
use mlctl_exec::store::{Lease, Store, remove_tree};
use mlctl_exec::{Cancel, Executor};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::arguments::Options;
use crate::connection::{Connection, unexpected};
use crate::protocol::{Answer, Request, SOCKET, STORE, Trouble};
use marks::Marks;
use pod::{End, News, Pod};
use surroundings::Surroundings;

/// How often it is looked whether the run is to end: mostly TERM tells of it first.
const TICK: Duration = Duration::from_secs(10);
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
    // From now on: whoever is asked to end before there is anything to end, ends then.
    let signals = signal_hook::iterator::Signals::new([SIGTERM]).map_err(Trouble::once)?;
    let connection = Connection::open(options.at.join(SOCKET))?;
    let ended = work(options, signals, &connection);
    // What still runs ends with this container, and for no want of memory.
    let farewell = connection.call(Request::Goodbye);
    ended.and_then(|code| farewell.map(|_| code))
}

fn work(options: &Options, mut signals: Signals, connection: &Arc<Connection>) -> Result<u8, Trouble> {
    let (news, received) = channel();
    let cancel = Cancel::new().map_err(Trouble::once)?;
    let (told, asked, ending) = (news.clone(), connection.clone(), cancel.clone());
    std::thread::spawn(move || {
        signals.forever().try_for_each(|_| {
            // Whatever it means, and before that is known: Argo's process sends TERM to all others of the container, and
            // what ends because of it has not failed.
            ending.cancel();
            // Nor has what is killed with its container because it did not end.
            let _ = asked.call(Request::Will(None));
            told.send(News::Terminate(Marks::ask_soon(&asked).cancel))
        })
    });
    let (told, asked) = (news.clone(), connection.clone());
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            // A store that cannot be reached now may be when it is needed.
            if let Ok(marks) = Marks::ask(&asked)
                && told.send(News::Marks(marks)).is_err()
            {
                return;
            }
        }
    });
    let unit = Arc::new(Unit::new(options, connection.clone(), cancel)?);
    let code = loop {
        match Pod::new(unit.clone(), news.clone(), &received).work()? {
            End::Overtaken => {}
            End::Code(code) => break code,
        }
    };
    // What cannot be removed is the next gc's.
    let _ = remove_tree(unit.lease.path());
    Ok(code)
}

impl Unit {
    fn new(options: &Options, connection: Arc<Connection>, cancel: Cancel) -> Result<Self, Trouble> {
        let (text, directory) = match connection.call(Request::Submission)? {
            Answer::Submission { text, directory } => (text, directory),
            other => return Err(unexpected(&other)),
        };
        let submission: Submission = serde_json::from_str(&text)
            .map_err(|error| Trouble::once(format!("cannot read the submission: {error}")))?;
        if submission.contract != CONTRACT {
            let reason =
                format!("this mlctl-exec has contract {CONTRACT}, the run is of contract {}", submission.contract);
            return Err(Trouble::once(reason));
        }
        let (plan, facts) = submission.plan().map_err(Trouble::once)?;
        let missing = || Trouble::once(format!("the submission has no unit `{}`", options.unit));
        let part = submission.units.get(&options.unit).cloned().ok_or_else(missing)?;
        let share = part.share(&plan, options.worker).ok_or_else(missing)?;
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
            cancel,
            submission,
        })
    }

    /// Whether its steps are those that run after all others.
    fn is_finally(&self) -> bool {
        self.share.is_finally(&self.plan)
    }
}
