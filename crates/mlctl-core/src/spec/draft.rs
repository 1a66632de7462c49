//! A step as written: everything read and typed, names not yet resolved.

use std::collections::BTreeMap;
use std::time::Duration;

use super::convert;
use super::keys;
use super::names::{self, Hyphens};
use super::paths;
use super::quantity;
use super::reader::{Field, Reader, Text};
use super::words::quote;
use crate::diag::{Diag, Span};
use crate::value::{Type, Value};
use crate::workflow::{ArtifactRole, Resources, Shell};

/// What `[defaults]` and a step may both say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Common<'t> {
    pub(crate) env: BTreeMap<&'t str, (Span, Text<'t>)>,
    pub(crate) environment: Option<Text<'t>>,
    pub(crate) needs: Vec<Text<'t>>,
    pub(crate) shell: Option<Shell>,
    pub(crate) sources: Option<Vec<String>>,
    pub(crate) secrets: Vec<Text<'t>>,
    pub(crate) settings: Vec<Text<'t>>,
    pub(crate) caches: Vec<Text<'t>>,
    pub(crate) cache: Option<bool>,
    pub(crate) checkpoint: bool,
    pub(crate) allow_failure: bool,
    pub(crate) finally: bool,
    pub(crate) resources: Resources,
    pub(crate) resources_span: Option<Span>,
    pub(crate) retry_limit: Option<u32>,
    pub(crate) retry_backoff: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
}

/// A step as written.
#[derive(Debug)]
pub(crate) struct StepDraft<'t> {
    pub(crate) name: &'t str,
    pub(crate) span: Span,
    pub(crate) common: Common<'t>,
    pub(crate) command: Option<(Vec<Text<'t>>, Span)>,
    pub(crate) script: Option<Text<'t>>,
    pub(crate) params: Vec<Text<'t>>,
    pub(crate) inputs: Vec<InputDraft<'t>>,
    pub(crate) outputs: Vec<OutputDraft<'t>>,
    pub(crate) matrix: MatrixDraft<'t>,
    pub(crate) when: Option<Text<'t>>,
    /// Something in it could not be read: what is missing in it is not reported where it is used.
    pub(crate) broken: bool,
}

/// An input as written.
#[derive(Debug)]
pub(crate) struct InputDraft<'t> {
    pub(crate) name: &'t str,
    pub(crate) span: Span,
    /// `None`: it could not be read.
    pub(crate) from: Option<FromDraft<'t>>,
    pub(crate) at: Option<(String, Span)>,
    pub(crate) optional: bool,
}

/// Where an input comes from, as written.
#[derive(Debug)]
pub(crate) enum FromDraft<'t> {
    Path(Text<'t>),
    Url { url: String, sha256: Option<String> },
    One(Text<'t>),
    Gather(Vec<Text<'t>>),
    First(Vec<Text<'t>>),
}

/// An output as written.
#[derive(Debug)]
pub(crate) struct OutputDraft<'t> {
    pub(crate) name: &'t str,
    pub(crate) span: Span,
    pub(crate) role: ArtifactRole,
    pub(crate) ty: Option<Type>,
    pub(crate) from: Option<Text<'t>>,
    pub(crate) at: Option<(String, Span)>,
    pub(crate) export: Option<(String, Span)>,
}

/// A matrix as written.
#[derive(Debug)]
pub(crate) enum MatrixDraft<'t> {
    None,
    Tables(Vec<Vec<AxisDraft<'t>>>, Span),
    Same(Text<'t>),
}

/// An axis as written.
#[derive(Debug)]
pub(crate) struct AxisDraft<'t> {
    pub(crate) name: &'t str,
    pub(crate) span: Span,
    pub(crate) values: AxisValuesDraft<'t>,
}

/// The values of an axis as written.
#[derive(Debug)]
pub(crate) enum AxisValuesDraft<'t> {
    Literal(Vec<Value>),
    Reference(Text<'t>),
    Broken,
}

impl<'t> Common<'t> {
    /// Reads `[defaults]`.
    pub(crate) fn read(reader: &mut Reader<'t>, field: Field<'t>) -> Self {
        let mut common = Self::default();
        for field in reader.entries(field, &keys::DEFAULTS).unwrap_or_default() {
            common.set(reader, field);
        }
        common
    }

    /// Takes one key over: tables merge, arrays and all else replace.
    fn set(&mut self, reader: &mut Reader<'t>, field: Field<'t>) {
        match field.name {
            "env" => {
                for (field, text) in reader.text_map(field).unwrap_or_default() {
                    names::check_variable(reader, field.name, field.name_span);
                    self.env.insert(field.name, (field.name_span, text));
                }
            }
            "environment" => {
                let help = || Some("name one of the environments: `[environments.NAME]`".to_owned());
                self.environment = reader.text_or(field, help);
            }
            "needs" => self.needs = reader.distinct(field).unwrap_or_default(),
            "shell" => {
                let shell = reader.choice(field, keys::SHELLS);
                self.shell = shell.map(|index| if index == 0 { Shell::Sh } else { Shell::Bash });
            }
            "sources" => self.sources = sources(reader, field),
            "secrets" => self.secrets = variables(reader, field),
            "settings" => self.settings = variables(reader, field),
            "cache" => self.cache = reader.bool(field),
            "caches" => {
                self.caches = reader.distinct(field).unwrap_or_default();
                for cache in &self.caches {
                    names::check(reader, "a cache", cache.text, cache.span, Hyphens::Refused);
                }
            }
            "checkpoint" => self.checkpoint = reader.bool(field).unwrap_or_default(),
            "allow-failure" => self.allow_failure = reader.bool(field).unwrap_or_default(),
            "finally" => self.finally = reader.bool(field).unwrap_or_default(),
            "resources" => {
                read_resources(reader, field, &mut self.resources);
                self.resources_span = Some(field.name_span);
            }
            "retry" => self.set_retry(reader, field),
            "timeout" => self.timeout = duration(reader, field, 1),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }

    fn set_retry(&mut self, reader: &mut Reader<'t>, field: Field<'t>) {
        for field in reader.entries(field, &keys::RETRY).unwrap_or_default() {
            match field.name {
                "limit" => self.retry_limit = reader.whole_number(field, 0),
                "backoff" => self.retry_backoff = duration(reader, field, 0),
                other => unreachable!("the key `{other}` is listed but not read"),
            }
        }
    }
}

impl<'t> StepDraft<'t> {
    /// Reads `[steps.NAME]`.
    pub(crate) fn read(reader: &mut Reader<'t>, field: Field<'t>, defaults: &Common<'t>) -> Self {
        let before = reader.found();
        names::check(reader, "a step", field.name, field.name_span, Hyphens::Refused);
        let mut step = Self {
            name: field.name,
            span: field.name_span,
            common: defaults.clone(),
            command: None,
            script: None,
            params: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            matrix: MatrixDraft::None,
            when: None,
            broken: false,
        };
        step.common.needs.retain(|needed| needed.text != step.name);
        let fields = reader.entries(field, &keys::STEP).unwrap_or_default();
        for field in &fields {
            let field = *field;
            match field.name {
                "command" => step.command = reader.texts(field).map(|argv| (argv, field.span)),
                "script" => step.script = reader.filled(field),
                "inputs" => step.inputs = read_inputs(reader, field),
                "outputs" => step.outputs = read_outputs(reader, field),
                "params" => step.params = names_of_params(reader, field),
                "matrix" => step.matrix = super::matrix::read(reader, field),
                "when" => step.when = reader.filled(field),
                _ => step.common.set(reader, field),
            }
        }
        if reader.found() == before {
            let span = |name: &str| fields.iter().find(|field| field.name == name).map(|field| field.name_span);
            step.check_program(reader, span("shell"));
            step.check_finally(reader, span("cache"));
        }
        step.broken = reader.found() != before;
        step
    }

    /// What the defaults say of caching is not meant for a `finally` step.
    fn check_finally(&self, reader: &mut Reader<'t>, cache: Option<Span>) {
        if let (true, Some(true), Some(span)) = (self.common.finally, self.common.cache, cache) {
            let message = "a `finally` step is never cached";
            reader.push(Diag::error("finally-cached", span, message).help("remove `cache`"));
        }
    }

    fn check_program(&self, reader: &mut Reader<'t>, shell: Option<Span>) {
        match (&self.command, self.script) {
            (Some((_, command)), Some(script)) => reader.push(
                Diag::error(
                    "command-and-script",
                    script.span,
                    format!("{} has both a command and a script", quote(self.name)),
                )
                .related(*command, "the command")
                .help("keep one of them"),
            ),
            (None, None) => reader.push(
                Diag::error("no-command", self.span, format!("{} runs nothing", quote(self.name)))
                    .help("add `command = [\"program\", \"argument\"]` or `script = \"...\"`"),
            ),
            (Some((argv, span)), None) if argv.first().is_none_or(|program| program.text.is_empty()) => {
                reader.push(
                    Diag::error("empty", *span, "`command` names no program").help("the first element is the program"),
                );
            }
            _ => {}
        }
        if let (Some(span), None) = (shell, self.script) {
            let message = "`shell` is for a script: a command runs without one";
            reader.push(
                Diag::error("shell-without-script", span, message).help("remove it, or write the command as `script`"),
            );
        }
    }
}

/// `params = ["seed"]`: only names.
fn names_of_params<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Vec<Text<'t>> {
    if field.value.is_table() {
        let help = "a step only names the params that it reads, as [\"seed\"]; values belong to `[params]`";
        reader
            .push(Diag::error("wrong-type", field.span, "`params` must be an array of names, not a table").help(help));
        return Vec::new();
    }
    reader.distinct(field).unwrap_or_default()
}

fn sources<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<Vec<String>> {
    let globs = reader.elements(field)?;
    let mut sources = Vec::with_capacity(globs.len());
    for glob in globs {
        let Some(text) = reader.filled(glob) else { continue };
        if let Err(error) = globset::GlobBuilder::new(text.text).literal_separator(true).build() {
            let message = format!("{} is not a glob: {}", quote(text.text), error.kind());
            reader.error("bad-glob", text.span, message);
        } else if let Some(path) = paths::relative(reader, "sources", text) {
            sources.push(path);
        }
    }
    Some(sources)
}

fn variables<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Vec<Text<'t>> {
    if field.value.is_table() {
        let message = format!("{} must be an array of names, not a table", quote(field.name));
        let help = "a step only names them, as [\"TOKEN\"]; the values come from the context";
        reader.push(Diag::error("wrong-type", field.span, message).help(help));
        return Vec::new();
    }
    let names = reader.distinct(field).unwrap_or_default();
    for name in &names {
        names::check_variable(reader, name.text, name.span);
    }
    names
}

fn duration<'t>(reader: &mut Reader<'t>, field: Field<'t>, min_millis: u64) -> Option<Duration> {
    let text = reader.text_or(field, || match convert::scalar(field.value) {
        Ok(Value::Int(seconds)) => Some(format!("for seconds write \"{seconds}s\"")),
        _ => None,
    })?;
    let Some(duration) = quantity::duration(text.text) else {
        let message = format!("{} is not a duration", quote(text.text));
        reader.push(Diag::error("bad-duration", text.span, message).help("write it as \"10s\", \"30m\" or \"1h30m\""));
        return None;
    };
    if duration < Duration::from_millis(min_millis) {
        reader.error("out-of-range", text.span, format!("{} must be longer than nothing", quote(field.name)));
        return None;
    }
    Some(duration)
}

/// Reads `resources`, over what is there already.
pub(crate) fn read_resources<'t>(reader: &mut Reader<'t>, field: Field<'t>, resources: &mut Resources) {
    for field in reader.entries(field, &keys::RESOURCES).unwrap_or_default() {
        match field.name {
            "cpu" => resources.cpu_millis = cpu(reader, field),
            "memory" => resources.memory = bytes(reader, field),
            "gpu" => resources.gpu = reader.whole_number(field, 0),
            "disk" => resources.disk = bytes(reader, field),
            "shm" => resources.shm = bytes(reader, field),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
}

fn cpu<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<u32> {
    let cpus = match reader.scalar(field)? {
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        _ => {
            reader.push(Diag::error("wrong-type", field.span, "`cpu` must be a number").help("write it as 2 or 0.5"));
            return None;
        }
    };
    let millis = (cpus * 1000.0).round();
    if (1.0..=1e9).contains(&millis) {
        // In range: just checked.
        Some(millis as u32)
    } else {
        reader.error("out-of-range", field.span, "`cpu` must be from 0.001 to 1000000");
        None
    }
}

fn bytes<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<u64> {
    let text = reader.text_or(field, || Some("write it with a unit, as \"4Gi\" or \"500M\"".to_owned()))?;
    match quantity::bytes(text.text) {
        Some(0) => {
            reader.error("out-of-range", text.span, format!("{} must be more than nothing", quote(field.name)));
            None
        }
        Some(bytes) => Some(bytes),
        None => {
            let help =
                quantity::similar_bytes(text.text).unwrap_or_else(|| "write it as \"4Gi\" or \"500M\"".to_owned());
            let message = format!("{} is not a quantity of bytes", quote(text.text));
            reader.push(Diag::error("bad-quantity", text.span, message).help(help));
            None
        }
    }
}

fn read_inputs<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Vec<InputDraft<'t>> {
    let fields = reader.names(field, "`inputs`", "write inputs.NAME = \"step.output\"").unwrap_or_default();
    fields.into_iter().map(|field| super::input::read(reader, field)).collect()
}

fn read_outputs<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Vec<OutputDraft<'t>> {
    let fields = reader.names(field, "`outputs`", "write outputs.NAME = { at = \"path\" }").unwrap_or_default();
    fields.into_iter().map(|field| super::output::read(reader, field)).collect()
}
