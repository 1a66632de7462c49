//! A validated workflow: what the spec says, with every name resolved and every rule checked.
//!
//! Steps are known by their index ([`StepIx`]); texts keep the [`Span`] where errors about them point.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::diag::Span;
use crate::template::Template;
use crate::value::{Type, Value};

/// Index of a step in [`Workflow::steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepIx(pub u32);

/// A whole, valid `mlctl.toml`.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// `[project] name`.
    pub name: String,
    /// What a bare `mlctl run` makes; empty: every step.
    pub default: Vec<StepIx>,
    /// `[params]`, as written.
    pub params: IndexMap<String, ParamDecl>,
    /// `[project.base-images]`
    pub base_images: BaseImages,
    /// `[environments.NAME]`, as written.
    pub environments: IndexMap<String, Environment>,
    /// `[steps.NAME]`, as written.
    pub steps: Vec<Step>,
    /// The steps with each after all that it depends on; of those free to move, the first written comes first.
    /// `finally` steps are last.
    pub order: Vec<StepIx>,
    /// `[contexts.NAME]` of this file.
    pub contexts: IndexMap<String, crate::context::ContextLayer>,
}

/// A declared param.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamDecl {
    /// Where the name stands.
    pub span: Span,
    /// Its type.
    pub ty: Type,
    /// The value when none is given; `None`: it must be given.
    pub default: Option<Value>,
    /// Smallest number allowed.
    pub min: Option<Value>,
    /// Largest number allowed.
    pub max: Option<Value>,
    /// The values allowed; empty: any.
    pub choices: Vec<Value>,
    /// What `mlctl params` says of it.
    pub help: Option<String>,
}

/// Where steps run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Where the name stands.
    pub span: Span,
    /// What it is made from.
    pub kind: EnvironmentKind,
    /// Whether its results hold on every platform.
    pub portable: bool,
}

/// What an environment is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvironmentKind {
    /// Described: a Python, distributions, system packages.
    Described {
        /// `python = "3.12"`.
        python: Option<String>,
        /// `requirements = FILE`, relative to the project, and where it stands.
        requirements: Option<(String, Span)>,
        /// `packages = [...]`, in the syntax of a requirements file.
        packages: Vec<String>,
        /// `system-packages = [...]`, names of Debian packages.
        system_packages: Vec<String>,
    },
    /// `image = "..."`.
    Image(String),
    /// `build = { dockerfile, dir, target, args, secrets }`.
    Build(ImageBuild),
}

/// `build = {...}` of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageBuild {
    /// The Dockerfile, relative to the project.
    pub dockerfile: String,
    /// The build context, relative to the project.
    pub dir: String,
    /// The stage to build.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Names of build secrets.
    pub secrets: Vec<String>,
    /// Whether the build may use the user's SSH agent.
    pub ssh: bool,
}

/// `base-images`: what the containers of steps begin with where no image is named. What is absent is left to the
/// layers below.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BaseImages {
    /// For environments with a Python: a name in which `{{ python }}` stands for its version.
    pub python: Option<String>,
    /// For environments without one, and for steps without an environment.
    pub plain: Option<String>,
}

impl BaseImages {
    /// What every layer leaves open.
    pub const PYTHON: &str = "python:{{ python }}-slim";
    /// Likewise.
    pub const PLAIN: &str = "debian:bookworm-slim";

    /// These, and where one is absent, that of `below`.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let either = |own: &Option<String>, below: &Option<String>| own.as_ref().or(below.as_ref()).cloned();
        Self { python: either(&self.python, &below.python), plain: either(&self.plain, &below.plain) }
    }

    /// The image for a Python of this version; without one, the plain one.
    pub fn image(&self, python: Option<&str>) -> String {
        let Some(version) = python else { return self.plain.as_deref().unwrap_or(Self::PLAIN).to_owned() };
        let mut name = String::new();
        let mut rest = self.python.as_deref().unwrap_or(Self::PYTHON);
        // Only whole references to `python` pass the parser.
        while let Some((before, after)) = rest.split_once("{{") {
            name = name + before + version;
            rest = after.split_once("}}").map_or("", |(_, after)| after);
        }
        name + rest
    }
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// What it runs.
    pub program: Program,
    /// `env`, by name.
    pub env: BTreeMap<String, Template>,
    /// The params it receives: named in `command`, `env`, input paths, or `params = [...]`.
    pub params: BTreeSet<String>,
    /// Its inputs, as written.
    pub inputs: Vec<Input>,
    /// Its outputs, as written.
    pub outputs: Vec<Output>,
    /// How many instances it has.
    pub matrix: Matrix,
    /// Runs only when true. Constants are not folded here: params are not known yet.
    pub when: Option<Condition>,
    /// Order only.
    pub needs: Vec<StepIx>,
    /// The environment's name; `None`: the machine's own programs.
    pub environment: Option<String>,
    /// Globs that narrow the sources; `None`: all of the project's.
    pub sources: Option<Vec<String>>,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// Names of settings.
    pub settings: Vec<String>,
    /// Names of unkeyed directories that survive runs.
    pub caches: Vec<String>,
    /// Whether a result may be reused.
    pub cache: bool,
    /// Whether it has a directory that survives attempts.
    pub checkpoint: bool,
    /// Its failure does not fail the run.
    pub allow_failure: bool,
    /// Runs after all others.
    pub finally: bool,
    /// What it asks for.
    pub resources: Resources,
    /// Where `resources` stands, if it is said.
    pub resources_span: Option<Span>,
    /// Extra attempts.
    pub retry: Retry,
    /// Of the command alone, per attempt.
    pub timeout: Option<Duration>,
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// `command`: argv, no shell.
    Command(Vec<Template>),
    /// `script`: run by `sh -eu -c`, or `bash -euo pipefail -c`; never edited.
    Script {
        /// The text.
        text: String,
        /// Which shell.
        shell: Shell,
    },
}

/// The shell of a `script`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// `sh -eu`
    Sh,
    /// `bash -euo pipefail`
    Bash,
}

/// A declared input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// Where it comes from.
    pub from: InputFrom,
    /// Where it is placed besides, relative to the working directory.
    pub at: Option<String>,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum InputFrom {
    /// A file or directory of the project.
    Project {
        /// Relative to the project; may name params and matrix values.
        path: Template,
    },
    /// A download.
    Url {
        /// Where from.
        url: String,
        /// The SHA-256 it must have, in hexadecimal; `None`: the lock has it.
        sha256: Option<String>,
    },
    /// One output, matched on the axes that both steps have.
    One(OutputRef),
    /// Several outputs, gathered in a directory.
    Gather(Vec<OutputRef>),
    /// The first that was produced.
    First(Vec<OutputRef>),
}

/// `step.output`, `step[*].output`, `step[axis=value].output`, `step.output/entry`.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputRef {
    /// The producer.
    pub step: StepIx,
    /// Index in the producer's `outputs`.
    pub output: usize,
    /// Axes fixed by `[axis=value]`; a text where only a run knows the axis's values. Values match by their text.
    pub picks: Vec<(String, Value)>,
    /// `[*]`: all values of the axes that only the producer has.
    pub gather: bool,
    /// An entry of a directory output.
    pub entry: Option<Template>,
    /// Where the reference stands.
    pub span: Span,
}

/// A declared output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// What it is.
    pub what: OutputKind,
    /// Where the program leaves it, relative to its working directory; `None`: where `outputs.NAME` points.
    pub at: Option<String>,
    /// Also copied here, relative to the project, when the run succeeds.
    pub export: Option<String>,
}

/// What an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// A file or directory.
    Artifact(ArtifactRole),
    /// A small typed value, read from the output's own file, or from a JSON artifact of the step.
    Value {
        /// Its type.
        ty: Type,
        /// `from = "metrics.test.accuracy"`: index of the output, then the keys in it.
        from: Option<(usize, Vec<String>)>,
    },
}

/// What an artifact is used for besides being a file. Not part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactRole {
    /// Nothing more.
    Plain,
    /// JSON or JSONL: recorded with the run.
    Metrics,
    /// Images or JSON to look at.
    Plots,
    /// A model.
    Model,
}

/// How many instances a step has, and which.
#[derive(Debug, Clone, PartialEq)]
pub enum Matrix {
    /// One instance, no axes.
    None,
    /// A union of products: each table has the same axes.
    Tables(Vec<Vec<Axis>>),
    /// The instances of another step.
    Same(StepIx),
}

/// One axis of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// Its values.
    pub values: AxisValues,
}

/// The values of an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum AxisValues {
    /// Written in the spec.
    Literal(Vec<Value>),
    /// `"params.NAME"`: a list param.
    Param(String),
    /// `"step.output"`: a JSON-list value, or the entries of a directory, known when that step is done.
    Dynamic(OutputRef),
}

/// A `when`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Where it stands.
    pub span: Span,
    /// The expression; its [`Expr::Output`] index `refs`.
    pub expr: Expr,
    /// The values it mentions.
    pub refs: Vec<OutputRef>,
}

/// A typed boolean expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expr {
    /// A literal.
    Literal(Value),
    /// `params.NAME`
    Param(String),
    /// `matrix.NAME`
    Matrix(String),
    /// A value output: index in [`Condition::refs`].
    Output(usize),
    /// `run.status`, in a `finally` step: `succeeded`, `failed` or `cancelled`.
    RunStatus,
    /// `not x`
    Not(Box<Expr>),
    /// `x and y`
    And(Box<Expr>, Box<Expr>),
    /// `x or y`
    Or(Box<Expr>, Box<Expr>),
    /// `x OP y`
    Compare(Comparison, Box<Expr>, Box<Expr>),
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// What a step asks for; recorded, never keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Whole GPUs.
    pub gpu: Option<u32>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Bytes of `/dev/shm`.
    pub shm: Option<u64>,
}

/// Extra attempts after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retry {
    /// How many.
    pub limit: u32,
    /// The wait before the first; it doubles with each.
    pub backoff: Duration,
}
