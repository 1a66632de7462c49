//! `mlctl`: portable ML workflows from the command line.

mod cli;
mod config;
mod doctor;
mod engine;
mod environment;
mod error;
mod export;
mod forecast;
mod git;
mod image;
mod lock;
mod platform;
mod prepare;
mod record;
mod remote;
mod reuse;
mod run;
mod scaffold;
mod session;
mod spare;
mod trust;
mod ui;

use mlctl_exec::{init, store, warden};

fn main() -> std::process::ExitCode {
    end_with_any_thread();
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| mlctl_pod::is_meant(&name)) {
        return mlctl_pod::main(arguments);
    }
    match arguments.next() {
        Some(first) if first == warden::ARGUMENT => warden::main(&arguments.collect::<Vec<_>>()),
        Some(first) if first == init::ARGUMENT => init::main(),
        Some(first) if first == store::SYNC => store::sync_main(&arguments.collect::<Vec<_>>()),
        _ => cli::main(),
    }
}

/// A thread that panics ends the program, in release builds by their profile: others would wait for it for ever.
fn end_with_any_thread() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::abort();
    }));
}
