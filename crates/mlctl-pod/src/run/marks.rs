//! What others want of the run: that it ends, or that nothing new starts.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use mlctl_core::event::Reason;
use mlctl_core::records::{CANCEL, Cancel, FAILED};

use crate::connection::Connection;
use crate::protocol::Trouble;

/// Whoever asks this process to end does not wait for a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is recorded of it.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Why the run is to end.
    pub(super) cancel: Option<Reason>,
    /// Whether, with `--fail-fast`, something failed.
    pub(super) failed: bool,
}

impl Marks {
    /// Asks the store.
    pub(super) fn ask(connection: &Connection) -> Result<Self, Trouble> {
        let found = connection.records([CANCEL, FAILED].map(str::to_owned).to_vec())?;
        let [cancel, failed]: [Option<String>; 2] = found.try_into().unwrap_or_default();
        let reason =
            |text: String| serde_json::from_str::<Cancel>(&text).map_or(Reason::Cancelled, |cancel| cancel.reason);
        Ok(Self { cancel: cancel.map(reason), failed: failed.is_some() })
    }

    /// The same; what is not known soon is not there.
    pub(super) fn ask_soon(connection: &std::sync::Arc<Connection>) -> Self {
        let (answer, answered) = channel();
        let connection = connection.clone();
        thread::spawn(move || answer.send(Self::ask(&connection)));
        answered.recv_timeout(PATIENCE).ok().and_then(Result::ok).unwrap_or_default()
    }
}
