//! `mlctl`: portable ML workflows from the command line.

mod cli;
mod config;
mod environment;
mod error;
mod lock;
mod platform;
mod record;
mod scaffold;
mod session;
mod ui;

fn main() -> std::process::ExitCode {
    cli::main()
}
