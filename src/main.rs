//! `mlctl`: portable ML workflows from the command line.

mod cli;
mod config;
mod engine;
mod environment;
mod error;
mod export;
mod forecast;
mod git;
mod lock;
mod platform;
mod prepare;
mod record;
mod reuse;
mod run;
mod scaffold;
mod session;
mod ui;

use mlctl_exec::warden;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == warden::ARGUMENT) {
        return warden::main(&arguments.collect::<Vec<_>>());
    }
    cli::main()
}
