//! `mlctl completion` and `mlctl man`: what a package installs beside the binary.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, ValueEnum};

use crate::error::CommandError;
use crate::session::Session;

/// The arguments of `mlctl completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Which shell.
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints a shell's completion script. It asks mlctl itself for the values.
pub(super) fn completion(session: &Session, args: &CompletionArgs) -> Result<ExitCode, CommandError> {
    let script = match args.shell {
        Shell::Bash => include_str!("../../completions/mlctl.bash"),
        Shell::Zsh => include_str!("../../completions/_mlctl"),
        Shell::Fish => include_str!("../../completions/mlctl.fish"),
    };
    session.ui.result_bytes(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The arguments of `mlctl man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write the pages.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,
}

/// Writes the man pages, one a command.
pub(super) fn man(session: &Session, args: &ManArgs) -> Result<ExitCode, CommandError> {
    let mut command = super::Cli::command();
    command.build();
    write_pages(&args.dir, &command, "mlctl").map_err(|error| {
        CommandError::missing(format!("cannot write the man pages to `{}`", args.dir.display())).because(&error)
    })?;
    session.ui.note(&format!("man pages are in {}", args.dir.display()));
    Ok(ExitCode::SUCCESS)
}

fn write_pages(dir: &Path, command: &clap::Command, name: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let page = clap_mangen::Man::new(command.clone().name(name.to_owned()).display_name(name.to_owned()));
    let mut text = Vec::new();
    page.render(&mut text)?;
    std::fs::write(dir.join(format!("{name}.1")), text)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(dir, below, &format!("{name}-{}", below.get_name()))?;
    }
    Ok(())
}
