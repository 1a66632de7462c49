//! Secrets and settings: names in the spec, values from the context.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};

use mlctl_core::context::SecretFrom;
use mlctl_core::diag::{Diag, Source, Span};
use mlctl_core::workflow::Step;
use mlctl_exec::redact;

use super::Context;
use crate::error::{CommandError, Kind};

/// The values of secrets, fetched once each. Never printed, not even by `Debug`.
#[derive(Clone, Default)]
pub(crate) struct Secrets(BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Fetches what `steps` name, before any of them starts.
    pub(crate) fn fetch<'a>(
        context: &Context,
        source: &Source,
        steps: impl IntoIterator<Item = &'a Step>,
    ) -> Result<Self, CommandError> {
        let mut secrets = Self::default();
        for step in steps {
            for name in &step.secrets {
                if !secrets.0.contains_key(name) {
                    let value = value(context, name)
                        .map_err(|why| missing(source, (&format!("`{}`", step.name), step.span), name, why))?;
                    secrets.0.insert(name.clone(), value);
                }
            }
        }
        Ok(secrets)
    }

    /// Those that are too short to be taken out of texts.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &str> {
        visible(&self.0)
    }

    /// The values that one step receives.
    pub(crate) fn of(&self, step: &Step) -> BTreeMap<String, String> {
        step.secrets.iter().filter_map(|name| Some((name.clone(), self.0.get(name)?.clone()))).collect()
    }
}

/// The names of values that are too short to be taken out of texts.
pub(crate) fn visible(values: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    values.iter().filter(|(_, value)| !redact::hides(value)).map(|(name, _)| name.as_str())
}

/// What people are told of such a one.
pub(crate) fn is_visible(name: &str) -> String {
    format!("the secret `{name}` is too short to be taken out of logs")
}

/// The secrets that the build of an image may read.
pub(crate) fn of_build(
    context: &Context,
    source: &Source,
    (environment, span): (&str, Span),
    names: &[String],
) -> Result<BTreeMap<String, String>, CommandError> {
    let one = |name: &String| match value(context, name) {
        Ok(value) => Ok((name.clone(), value)),
        Err(why) => Err(missing(source, (&format!("the environment `{environment}`"), span), name, why)),
    };
    names.iter().map(one).collect()
}

/// Whether the context gives those secrets, all that it lacks at once. What a command gives is not asked for.
pub(crate) fn check_of_build(
    context: &Context,
    source: &Source,
    (environment, span): (&str, Span),
    names: &[String],
) -> Result<(), CommandError> {
    let is_command = |name: &String| matches!(context.merged.secrets.get(name), Some(SecretFrom::Command(_)));
    let missing = names.iter().filter(|name| !is_command(name)).filter_map(|name| {
        let why = value(context, name).err()?;
        Some(missing(source, (&format!("the environment `{environment}`"), span), name, why))
    });
    CommandError::all(missing)
}

/// Whether each secret that `steps` name has a value on this machine, as far as can be told without running a command.
pub(crate) fn check<'a>(
    context: &Context,
    source: &Source,
    steps: impl IntoIterator<Item = &'a Step>,
) -> Result<(), CommandError> {
    let is_command = |name: &str| matches!(context.merged.secrets.get(name), Some(SecretFrom::Command(_)));
    let named = steps.into_iter().flat_map(|step| step.secrets.iter().map(move |name| (step, name)));
    let missing = named.filter(|(_, name)| !is_command(name)).filter_map(|(step, name)| {
        let why = value(context, name).err()?;
        Some(missing(source, (&format!("`{}`", step.name), step.span), name, why))
    });
    CommandError::all(missing)
}

/// The settings that `steps` name: every one must have a value.
pub(crate) fn settings<'a>(
    context: &Context,
    source: &Source,
    steps: impl IntoIterator<Item = &'a Step>,
) -> Result<BTreeMap<String, String>, CommandError> {
    let mut settings = BTreeMap::new();
    let mut missing = Vec::new();
    for step in steps {
        for name in &step.settings {
            match context.merged.settings.get(name) {
                Some(value) => {
                    settings.insert(name.clone(), value.clone());
                }
                None => missing.push(
                    Diag::error(
                        "missing-setting",
                        step.span,
                        format!(
                            "`{}` needs the setting `{name}`, which the context `{}` does not give",
                            step.name, context.name
                        ),
                    )
                    .help(format!("add `settings.{name} = \"...\"` to [contexts.{}]", context.name)),
                ),
            }
        }
    }
    if missing.is_empty() { Ok(settings) } else { Err(CommandError::new(Kind::Missing, "").about(source, missing)) }
}

/// Why a secret has no value, and what to do.
struct Missing {
    why: String,
    help: String,
}

fn value(context: &Context, name: &str) -> Result<String, Missing> {
    let from_here = || {
        let (file, context) = (crate::session::user_config_name(), &context.name);
        format!(
            "say where it is, in `{file}`, which is yours alone:\n[contexts.{context}]\n\
             secrets.{name} = {{ env = \"{name}\" }}  # or file = \"...\", or command = [...]"
        )
    };
    let no = |why: String, help: String| Err(Missing { why, help });
    let text = match context.merged.secrets.get(name) {
        None => return no(format!("the context `{}` does not give it", context.name), from_here()),
        Some(SecretFrom::Kubernetes { secret, .. }) => {
            return no(
                format!("it is in the Kubernetes Secret `{secret}`, and steps run on this machine here"),
                from_here(),
            );
        }
        Some(SecretFrom::Env(variable)) => match std::env::var(variable) {
            Ok(value) => value,
            Err(_) => return no(format!("${variable} is not set"), format!("set ${variable} and run again")),
        },
        Some(SecretFrom::File(path)) => match std::fs::read_to_string(crate::session::expand_home(path)) {
            Ok(text) => without_newline(text),
            Err(error) => {
                return no(format!("{path}: {error}"), "write the secret to that file, readable by you".into());
            }
        },
        Some(SecretFrom::Command(argv)) => match output(argv) {
            Ok(text) => without_newline(text),
            Err(error) => {
                return no(
                    format!("`{}`: {error}", argv.join(" ")),
                    "run that command by hand to see what is wrong".into(),
                );
            }
        },
    };
    if text.is_empty() { no("its value is empty".into(), from_here()) } else { Ok(text) }
}

/// What a command prints. Its stderr is the user's: a password manager may ask something there.
fn output(argv: &[String]) -> io::Result<String> {
    let [program, arguments @ ..] = argv else { return Err(io::Error::other("the command is empty")) };
    let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| io::Error::other("what it prints is not UTF-8"))
}

fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

fn missing(source: &Source, (who, span): (&str, Span), name: &str, missing: Missing) -> CommandError {
    let message = format!("{who} needs the secret `{name}`: {}", missing.why);
    let diag = Diag::error("missing-secret", span, message).help(missing.help);
    CommandError::new(Kind::Missing, "").about(source, vec![diag])
}
