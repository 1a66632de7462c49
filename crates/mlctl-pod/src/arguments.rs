//! The command line. Only manifests that mlctl writes have one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mlctl_core::digest::Digest;

/// What the containers of a pod share, where nothing else is said.
const AT: &str = "/mlctl";
/// How long a store that cannot be reached is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    /// Put this program there.
    Deliver(PathBuf),
    /// Store.
    Store(Options),
    /// Run a unit.
    Run(Options),
}

/// With what.
#[derive(Debug)]
pub(crate) struct Options {
    /// The directory that the pod's containers share.
    pub(crate) at: PathBuf,
    /// The run's id.
    pub(crate) run: String,
    /// What the run's submission must be.
    pub(crate) submission: Digest,
    /// Where the store is: of who stores.
    pub(crate) store: String,
    /// The unit: of who runs.
    pub(crate) unit: String,
    /// Which of the unit's pods this is.
    pub(crate) worker: u32,
    /// How long a store that cannot be reached is waited for.
    pub(crate) patience: Duration,
    /// Whether the unit runs though the run is cancelled: of who stores.
    pub(crate) finally: bool,
}

/// Reads the arguments. The error says how it would be right.
pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let usage = || {
        "usage: mlctl-exec deliver PATH\n       \
         mlctl-exec store --run RUN --submission DIGEST --store URL [--finally yes] [--at DIR] [--patience SECONDS]\n       \
         mlctl-exec run --run RUN --submission DIGEST --unit NAME [--worker N] [--at DIR] [--patience SECONDS]"
            .to_owned()
    };
    let command = arguments.next().and_then(|command| command.into_string().ok());
    match command.as_deref() {
        Some("deliver") => arguments.next().map(|path| Command::Deliver(path.into())).ok_or_else(usage),
        Some("store") => {
            options(arguments).filter(|options| !options.store.is_empty()).map(Command::Store).ok_or_else(usage)
        }
        Some("run") => {
            options(arguments).filter(|options| !options.unit.is_empty()).map(Command::Run).ok_or_else(usage)
        }
        _ => Err(usage()),
    }
}

fn options(mut arguments: impl Iterator<Item = OsString>) -> Option<Options> {
    let mut options = Options {
        at: AT.into(),
        run: String::new(),
        submission: Digest::of(b""),
        store: String::new(),
        unit: String::new(),
        worker: 0,
        patience: PATIENCE,
        finally: false,
    };
    let mut submission = None;
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.into_string().ok()?;
        match name.to_str()? {
            "--at" => options.at = value.into(),
            "--run" => options.run = value,
            "--submission" => submission = Some(Digest::from_str(&value).ok()?),
            "--store" => options.store = value,
            "--unit" => options.unit = value,
            "--worker" => options.worker = value.parse().ok()?,
            "--finally" => options.finally = value == "yes",
            "--patience" => options.patience = Duration::from_secs(value.parse().ok()?),
            _ => return None,
        }
    }
    options.submission = submission?;
    (!options.run.is_empty()).then_some(options)
}
