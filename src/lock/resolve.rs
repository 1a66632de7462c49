//! Resolving one environment: on this machine with whichever tool is there, or where its steps run.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use mlctl_core::diag::Source;

use super::requirements::{self, Described, Inputs};
use super::{Distribution, LockedEnvironment, LockedImage, container, failure, pip, uv};
use crate::environment::{Maker, Phase, Target};
use crate::error::CommandError;
use crate::platform::docker::Daemon;
use crate::platform::python::{self, Python};

const REQUIREMENTS: &str = "requirements.txt";

/// What a resolver is asked.
pub(super) struct Question<'a> {
    /// The project: requirements files are named relative to it, and resolvers run in it.
    pub(super) project: &'a Path,
    /// Whose environment it is.
    pub(super) environment: &'a Described<'a>,
    /// What is asked for.
    pub(super) inputs: &'a Inputs,
    /// The Python to resolve for.
    pub(super) python: &'a Python,
    /// A directory of its own, removed afterwards.
    pub(super) scratch: &'a Path,
}

/// Where it is resolved for.
pub(super) struct Site<'a> {
    /// The platform of the steps.
    pub(super) target: &'a Target,
    /// In containers: who runs them.
    pub(super) daemon: Option<&'a Daemon>,
    /// Certificate authorities to trust besides the usual ones.
    pub(super) authorities: Option<&'a Path>,
}

/// Resolves what `environment` asks for.
pub(super) fn resolve(
    maker: &Maker<'_>,
    spec: &Source,
    (environment, inputs): (&Described<'_>, &Inputs),
    site: &Site<'_>,
    image_of: &dyn Fn(&str) -> Result<LockedImage, CommandError>,
) -> Result<LockedEnvironment, CommandError> {
    let python = match environment.python {
        Some(declared) => declared.to_owned(),
        None => python::usual().ok_or_else(|| no_python(spec, environment))?,
    };
    let elsewhere = || site.target.platform != super::platform() || python::find(&python).is_err();
    let mut distributions = match (site.daemon, &site.target.base_images) {
        _ if !environment.asks_for_distributions() => Vec::new(),
        (Some(daemon), Some(base_images)) if elsewhere() => {
            let name = base_images.image(Some(&python));
            let image = image_of(&name)?;
            let (image, authorities) = ((name.as_str(), &image), site.authorities);
            let question = container::Question { environment, inputs, image, authorities };
            container::resolve(daemon, &question, maker)?
        }
        _ => here(maker, environment, inputs, &python)?,
    };
    distributions.sort();
    distributions.iter_mut().for_each(|distribution: &mut Distribution| distribution.sha256.sort());
    Ok(LockedEnvironment { inputs: inputs.digest, python, options: inputs.options.clone(), distributions })
}

/// On this machine, with whichever tool is there.
fn here(
    maker: &Maker<'_>,
    environment: &Described<'_>,
    inputs: &Inputs,
    python: &str,
) -> Result<Vec<Distribution>, CommandError> {
    maker.tell(Phase::Resolving, "");
    let found = maker.python(python)?;
    let scratch = maker.scratch()?;
    let question = Question { project: maker.project, environment, inputs, python: &found, scratch: scratch.path() };
    match maker.uv_program() {
        Some(program) => uv::resolve(maker, program, &question),
        None => pip::resolve(maker, &question),
    }
}

fn no_python(spec: &Source, environment: &Described<'_>) -> CommandError {
    let diag = mlctl_core::diag::Diag::error(
        "python-missing",
        environment.span,
        format!("`{}` needs a Python, and none was found", environment.name),
    );
    CommandError::missing("")
        .about(spec, vec![diag.help("install Python 3, or declare `python = \"3.12\"` and install uv")])
}

impl Question<'_> {
    /// The arguments that name what is asked for: requirements, then, if there are any, constraints.
    pub(super) fn arguments(&self) -> Result<(OsString, Vec<OsString>), CommandError> {
        let requirements = self.scratch.join(REQUIREMENTS);
        write(&requirements, &self.lines())?;
        let mut more = Vec::new();
        if !self.inputs.constraints.is_empty() {
            let constraints = self.scratch.join("constraints.txt");
            write(&constraints, &self.inputs.constraints)?;
            more.extend(["-c".into(), constraints.into()]);
        }
        Ok((requirements.into(), more))
    }

    fn lines(&self) -> Vec<String> {
        let options = self.inputs.options.iter().map(|option| requirements::absolute(option, self.project));
        options.chain(self.inputs.requirements.iter().cloned()).collect()
    }
}

fn write(file: &Path, lines: &[String]) -> Result<(), CommandError> {
    fs::write(file, lines.join("\n") + "\n")
        .map_err(|error| CommandError::missing("cannot write a temporary file").because(&error))
}

/// A resolver's failure on this machine.
pub(super) fn failed(tool: &str, question: &Question<'_>, output: &str) -> CommandError {
    let file = question.scratch.join(REQUIREMENTS).display().to_string();
    unresolved(tool, question.environment, output, (&file, &question.lines()))
}

/// A resolver's failure: the reason in a few words, then everything it said of the lines in its file.
pub(super) fn unresolved(
    tool: &str,
    environment: &Described<'_>,
    output: &str,
    (file, lines): (&str, &[String]),
) -> CommandError {
    let name = environment.name;
    let message = format!("environment `{name}` cannot be resolved: {}", failure::reason(output));
    let said = failure::readable(output, file, lines);
    let error = CommandError::missing(message).cause(format!("{tool} said:\n{}", said.trim_end()));
    match environment.requirements {
        Some((file, _)) => error.hint(format!("what it asks for stands in {file} and under [environments.{name}]")),
        None => error.hint(format!("what it asks for stands under [environments.{name}]")),
    }
}
