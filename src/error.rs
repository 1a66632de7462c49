//! What ends a command: a kind that maps to the exit code, what failed, why, and what to do next.

use std::fmt;
use std::process::ExitCode;

use mlctl_core::diag::{Diag, Source};
use mlctl_core::event::Outcome;

/// How a command ended otherwise than well; each kind is one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The run failed, or what was asked for is not so: 1.
    Failed,
    /// Wrong usage, an invalid spec, or something the context cannot do: 2.
    Usage,
    /// Something that is needed is missing or unreachable: 3.
    Missing,
    /// The run's deadline passed: 4.
    TimedOut,
    /// The run was cancelled: 5.
    Cancelled,
    /// The run was interrupted: 130.
    Interrupted,
    /// Whoever read our output has enough: 0, and nothing is said.
    ClosedPipe,
}

impl Kind {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Missing => 3,
            Self::TimedOut => 4,
            Self::Cancelled => 5,
            Self::Interrupted => 130,
        }
    }
}

/// The exit code of a run's outcome.
pub(crate) const fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed => Kind::Failed.code(),
        Outcome::TimedOut => Kind::TimedOut.code(),
        Outcome::Cancelled => Kind::Cancelled.code(),
        Outcome::Interrupted => Kind::Interrupted.code(),
    }
}

/// The error of a command. `Ui::error` prints it.
#[derive(Debug, Clone)]
pub(crate) struct CommandError {
    /// Decides the exit code.
    pub(crate) kind: Kind,
    /// What failed, in one sentence without a full stop; empty where `diags` say it all.
    pub(crate) message: String,
    /// Why: each is the cause of the one before.
    pub(crate) causes: Vec<String>,
    /// What to do next.
    pub(crate) hints: Vec<String>,
    /// Findings about texts, printed first.
    pub(crate) diags: Vec<(Source, Vec<Diag>)>,
}

impl CommandError {
    /// An error of `kind`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new(), diags: Vec::new() }
    }

    /// The run failed, or what was asked for is not so.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Wrong usage, an invalid spec, or something the context cannot do.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something that is needed is missing or unreachable.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    /// An invalid spec: the findings say it all.
    pub(crate) fn diags(source: Source, diags: Vec<Diag>) -> Self {
        let mut error = Self::usage("");
        error.diags.push((source, diags));
        error
    }

    /// All of these as one; none is no error.
    pub(crate) fn all(errors: impl IntoIterator<Item = Self>) -> Result<(), Self> {
        errors.into_iter().reduce(Self::and).map_or(Ok(()), Err)
    }

    /// With another, of which as much is told.
    fn and(mut self, other: Self) -> Self {
        self.diags.extend(other.diags);
        self.causes.extend(Some(other.message).filter(|message| !message.is_empty()));
        self.causes.extend(other.causes);
        self.hints.extend(other.hints);
        self
    }

    /// With why, as one more cause.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// With why: an error and the whole chain below it.
    #[must_use]
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Some errors say their source themselves.
            if !self.causes.last().is_some_and(|last| last.ends_with(&text)) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// With what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With findings about a text.
    #[must_use]
    pub(crate) fn about(mut self, source: &Source, diags: Vec<Diag>) -> Self {
        self.diags.push((source.clone(), diags));
        self
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.diags.iter().flat_map(|(_, diags)| diags).next();
        match first {
            Some(diag) if self.message.is_empty() => f.write_str(&diag.message)?,
            _ => f.write_str(&self.message)?,
        }
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for CommandError {}

/// `text` and the causes from `cause` down, in one line. What was said already is not said again.
pub(crate) fn with_causes(mut text: String, mut cause: Option<&dyn std::error::Error>) -> String {
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text += &format!(": {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_chain_is_kept() {
        let io = std::io::Error::other("disk on fire");
        let error = CommandError::missing("cannot read `x`").because(&io).hint("put it out");
        assert_eq!(error.to_string(), "cannot read `x`: disk on fire");
        assert_eq!(error.kind.code(), 3);
    }

    #[test]
    fn diagnostics_stand_for_an_empty_message() {
        let source = Source { name: "mlctl.toml".into(), text: String::new() };
        let diag = Diag::error("x", mlctl_core::diag::Span::default(), "it is wrong");
        assert_eq!(CommandError::diags(source, vec![diag]).to_string(), "it is wrong");
    }
}
