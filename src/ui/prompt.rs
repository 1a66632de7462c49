//! Questions, where there is someone to answer.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dialoguer::console::Term;
use dialoguer::theme::ColorfulTheme;
use dialoguer::{Input, Select};
use signal_hook::consts::SIGINT;

use crate::error::{CommandError, Kind};

/// Whether questions reach someone.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Lets the user choose one; the first is the default.
pub(crate) fn choose(question: &str, choices: &[String]) -> Result<usize, CommandError> {
    ask(|theme| Select::with_theme(theme).with_prompt(question).items(choices).default(0).interact())
}

/// Asks for a text until it is valid: `check` says what is wrong with it.
pub(crate) fn text(
    question: &str,
    default: String,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<String, CommandError> {
    ask(|theme| {
        Input::with_theme(theme)
            .with_prompt(question)
            .default(default.clone())
            .validate_with(|given: &String| check(given))
            .interact_text()
    })
}

/// Ctrl-C in a prompt is a SIGINT that would end us with the cursor hidden: here it ends the question only.
fn ask<T>(prompt: impl FnOnce(&ColorfulTheme) -> dialoguer::Result<T>) -> Result<T, CommandError> {
    let noted = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    let answer = prompt(&ColorfulTheme::default()).map_err(io::Error::from);
    if let Ok(id) = noted {
        signal_hook::low_level::unregister(id);
    }
    answer.map_err(|error| {
        let _ = Term::stderr().show_cursor();
        match error.kind() {
            io::ErrorKind::Interrupted => CommandError::new(Kind::Interrupted, "interrupted: nothing was written"),
            _ => CommandError::missing("cannot ask on this terminal").because(&error),
        }
    })
}
