//! `mlctl-task DIRECTORY` runs the task in `DIRECTORY/task.json` and writes `DIRECTORY/report.json`.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use mlctl_exec::{init, job, warden};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let error = match arguments.as_slice() {
        [first, rest @ ..] if first == warden::ARGUMENT => return warden::main(rest),
        [first] if first == init::ARGUMENT => return init::main(),
        [directory] => match job::run(Path::new(directory)) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => format!("{}: {error}", Path::new(directory).display()),
        },
        _ => "usage: mlctl-task DIRECTORY".to_owned(),
    };
    // Whoever started it sees the status; that nobody reads the message changes nothing.
    let _ = writeln!(io::stderr(), "mlctl-task: {error}");
    ExitCode::FAILURE
}
