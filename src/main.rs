//! `mlctl`: portable ML workflows from the command line.

mod cli;
mod config;
mod engine;
mod environment;
mod error;
mod export;
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

fn main() -> std::process::ExitCode {
    cli::main()
}
