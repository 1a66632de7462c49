//! `mlctl-exec`: what runs in a pod of a cluster.
//!
//! ```text
//! mlctl-exec deliver PATH          puts this program where the step's container finds it
//! mlctl-exec store ...             beside the step's container: alone has the store's credentials
//! mlctl-exec run ...               in the step's container: works through one unit of a run
//! ```
//!
//! A unit is worked through by the same scheduler and executor as a run on a laptop. What other pods did is taken from
//! the records of the store ([`mlctl_core::records`]); what is done here is recorded there. The two containers share a
//! directory and nothing else, and talk through a socket in it (see `protocol`).
//!
//! ```text
//! <at>/bin/mlctl-exec     this program
//! <at>/store.sock         the socket, until somebody has connected
//! <at>/store/             the store of this pod, where the run's is elsewhere
//! <at>/logs/              what attempts printed, until it is stored
//! <at>/out/               what the cluster's engine is told
//! ```

mod arguments;
mod connection;
mod deliver;
mod protocol;
mod run;
mod store;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use arguments::Command;

/// The file name by which a program of mlctl's is known to be this one.
pub const NAME: &str = "mlctl-exec";

/// The store cannot be used: another pod may have more luck.
const NO_STORE: u8 = 3;
/// Wrong usage: by whoever wrote the manifest.
const USAGE: u8 = 2;
/// Where Kubernetes takes a container's last words from.
const LAST_WORDS: &str = "/dev/termination-log";

/// Whether a program that was started by this name is to be `mlctl-exec`.
pub fn is_meant(program: &OsString) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == NAME)
}

/// Does what the arguments after the program's name say.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // Argo's own process in a container leaves none.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let done = match arguments::parse(arguments) {
        Err(usage) => Err((USAGE, usage)),
        Ok(Command::Deliver(path)) => deliver::deliver(&path)
            .map(|()| 0)
            .map_err(|error| (1, format!("cannot write {}: {error}", path.display()))),
        Ok(Command::Store(options)) => store::store(options).map_err(|error| (NO_STORE, error.to_string())),
        Ok(Command::Run(options)) => run::run(&options).map_err(|trouble| (NO_STORE, trouble.reason)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err((code, why)) => {
            // Whoever started it sees the status; that nobody reads the message changes nothing.
            let _ = writeln!(io::stderr(), "{NAME}: {why}");
            // There is none where no cluster is.
            let _ = std::fs::OpenOptions::new().write(true).open(LAST_WORDS).and_then(|mut file| write!(file, "{why}"));
            ExitCode::from(code)
        }
    }
}
