//! `[contexts.NAME]`, in the project's file or the user's.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::draft::read_resources;
use super::names::{self, Hyphens};
use super::reader::{Field, Reader, Text};
use super::sections::{self, owned};
use super::words::{list, quote};
use super::{Level, convert, keys};
use crate::context::{ContextLayer, EngineKind, PodSecurity, SecretFrom, StepPlacement, StoreLocation};
use crate::diag::{Diag, Span};

/// A step that a context speaks of, and where: whether it exists is known later.
pub(crate) type Mentioned<'t> = Vec<Text<'t>>;

/// Reads `[contexts]`.
pub(crate) fn read<'t>(
    reader: &mut Reader<'t>,
    field: Field<'t>,
    level: Level,
) -> (IndexMap<String, ContextLayer>, Mentioned<'t>) {
    let fields = reader.names(field, "`contexts`", keys::CONTEXT.example).unwrap_or_default();
    let mut contexts = IndexMap::with_capacity(fields.len());
    let mut mentioned = Vec::new();
    for field in fields {
        names::check(reader, "a context", field.name, field.name_span, Hyphens::Allowed);
        contexts.insert(field.name.to_owned(), context(reader, field, level, &mut mentioned));
    }
    (contexts, mentioned)
}

fn context<'t>(reader: &mut Reader<'t>, table: Field<'t>, level: Level, mentioned: &mut Mentioned<'t>) -> ContextLayer {
    let mut context = ContextLayer::default();
    for field in reader.entries(table, &keys::CONTEXT).unwrap_or_default() {
        match field.name {
            "engine" => context.engine = reader.choice(field, keys::ENGINES).map(engine),
            "kube-context" => context.kube_context = filled(reader, field),
            "namespace" => context.namespace = filled(reader, field),
            "registry" => context.registry = filled(reader, field),
            "images" => context.images = reader.choice(field, keys::IMAGES).map(|index| keys::IMAGES[index].to_owned()),
            "store" => context.store = store(reader, field),
            "service-account" => context.service_account = filled(reader, field),
            "image-pull-secrets" => context.image_pull_secrets = reader.distinct(field).map(|texts| owned(Some(texts))),
            "pods" => context.pods = reader.whole_number(field, 1),
            "workers" => context.workers = reader.bool(field),
            "chains" => context.chains = reader.bool(field),
            "parallelism" => context.parallelism = reader.whole_number(field, 1),
            "pod-security" => context.pod_security = reader.choice(field, keys::POD_SECURITY).map(pod_security),
            "ca" => context.ca = filled(reader, field),
            "settings" => context.settings = variables(reader, field),
            "secrets" => context.secrets = secrets(reader, field, level),
            "labels" => context.labels = texts(reader, field),
            "annotations" => context.annotations = texts(reader, field),
            "node-selector" => context.node_selector = texts(reader, field),
            "tolerations" => context.tolerations = tolerations(reader, field),
            "base-images" => context.base_images = sections::base_images(reader, field),
            "steps" => {
                for field in reader.names(field, "`steps`", "write `[contexts.NAME.steps.STEP]`").unwrap_or_default() {
                    mentioned.push(Text { text: field.name, span: field.name_span });
                    context.steps.insert(field.name.to_owned(), placement(reader, field));
                }
            }
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    context
}

const fn engine(index: usize) -> EngineKind {
    match index {
        0 => EngineKind::Process,
        1 => EngineKind::Docker,
        _ => EngineKind::Argo,
    }
}

const fn pod_security(index: usize) -> PodSecurity {
    match index {
        0 => PodSecurity::Baseline,
        _ => PodSecurity::Restricted,
    }
}

fn filled<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<String> {
    reader.filled(field).map(|text| text.text.to_owned())
}

fn texts<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> BTreeMap<String, String> {
    let pairs = reader.text_map(field).unwrap_or_default();
    pairs.into_iter().map(|(field, text)| (field.name.to_owned(), text.text.to_owned())).collect()
}

fn variables<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> BTreeMap<String, String> {
    let pairs = reader.text_map(field).unwrap_or_default();
    for (field, _) in &pairs {
        names::check_variable(reader, field.name, field.name_span);
    }
    pairs.into_iter().map(|(field, text)| (field.name.to_owned(), text.text.to_owned())).collect()
}

fn store<'t>(reader: &mut Reader<'t>, table: Field<'t>) -> Option<StoreLocation> {
    const SCHEMES: [&str; 5] = ["s3://", "gs://", "az://", "abfs://", "file://"];
    let (mut url, mut secret) = (None, None);
    let before = reader.found();
    for field in reader.entries(table, &keys::STORE).unwrap_or_default() {
        match field.name {
            "url" => url = reader.filled(field),
            "secret" => secret = filled(reader, field),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    let Some(url) = url else {
        if reader.found() == before {
            reader
                .push(Diag::error("no-store-url", table.span, "the store has no URL").help("add `url = \"s3://...\"`"));
        }
        return None;
    };
    if !SCHEMES.iter().any(|scheme| url.text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
        let message = format!("{} is not the URL of a store", quote(url.text));
        let help = format!("it begins with one of {}", list(SCHEMES));
        reader.push(Diag::error("bad-url", url.span, message).help(help));
        return None;
    }
    Some(StoreLocation { url: url.text.to_owned(), secret })
}

fn secrets<'t>(reader: &mut Reader<'t>, field: Field<'t>, level: Level) -> BTreeMap<String, SecretFrom> {
    let fields = reader
        .names(field, "`secrets`", "write secrets.NAME = { secret = \"NAME\", key = \"KEY\" }")
        .unwrap_or_default();
    let mut secrets = BTreeMap::new();
    for field in fields {
        names::check_variable(reader, field.name, field.name_span);
        if let Some(from) = secret(reader, field, level) {
            secrets.insert(field.name.to_owned(), from);
        }
    }
    secrets
}

fn secret<'t>(reader: &mut Reader<'t>, table: Field<'t>, level: Level) -> Option<SecretFrom> {
    let before = reader.found();
    let (mut from, mut places): (_, Vec<Span>) = (None, Vec::new());
    let (mut name, mut key) = (None, None);
    for field in reader.entries(table, &keys::SECRET)? {
        match field.name {
            "secret" => {
                places.push(field.name_span);
                name = filled(reader, field);
            }
            "key" => key = filled(reader, field).map(|key| (key, field.name_span)),
            of_machine => {
                places.push(field.name_span);
                check_level(reader, field, level);
                from = match of_machine {
                    "env" => filled(reader, field).map(SecretFrom::Env),
                    "file" => filled(reader, field).map(SecretFrom::File),
                    "command" => reader.texts(field).map(|argv| SecretFrom::Command(owned(Some(argv)))),
                    other => unreachable!("the key `{other}` is listed but not read"),
                };
            }
        }
    }
    if reader.found() != before {
        return None;
    }
    if let (None, Some((_, span))) = (&name, &key) {
        reader.error("key-without-secret", *span, "`key` is for a Kubernetes Secret: `secret` is missing");
        return None;
    }
    match (places.as_slice(), from, name, key) {
        ([_], Some(from), None, _) => Some(from),
        ([_], None, Some(secret), Some((key, _))) => Some(SecretFrom::Kubernetes { secret, key }),
        ([_], None, Some(_), None) => {
            let message = format!("secret {} names no key of the Kubernetes Secret", quote(table.name));
            reader.push(Diag::error("secret-without-key", table.span, message).help("add `key = \"...\"`"));
            None
        }
        ([first, second, ..], ..) => {
            let message = format!("secret {} has two sources", quote(table.name));
            reader.push(
                Diag::error("two-sources", *second, message).related(*first, "the other one").help("keep one of them"),
            );
            None
        }
        _ => {
            let message = format!("secret {} has no source", quote(table.name));
            let help = match level {
                Level::User => "add `env`, `file`, `command`, or `secret` and `key`",
                Level::Project | Level::Local => "add `secret` and `key` of a Kubernetes Secret",
            };
            reader.push(Diag::error("no-source", table.name_span, message).help(help));
            None
        }
    }
}

/// A project must not be able to read its user's machine: only the user's own file says what a secret is there.
fn check_level<'t>(reader: &mut Reader<'t>, field: Field<'t>, level: Level) {
    if level != Level::User {
        let message = format!("{} of a secret is allowed in your own configuration only", quote(field.name));
        let help = "move it to the same context in `config.toml` of your configuration directory (`mlctl context show` says where)";
        reader.push(Diag::error("user-level-only", field.name_span, message).help(help));
    }
}

fn placement<'t>(reader: &mut Reader<'t>, table: Field<'t>) -> StepPlacement {
    let mut placement = StepPlacement::default();
    for field in reader.entries(table, &keys::PLACEMENT).unwrap_or_default() {
        match field.name {
            "resources" => read_resources(reader, field, &mut placement.resources),
            "node-selector" => placement.node_selector = texts(reader, field),
            "tolerations" => placement.tolerations = tolerations(reader, field),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    placement
}

fn tolerations<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Vec<serde_json::Value> {
    let elements = reader.elements(field).unwrap_or_default();
    let mut tolerations = Vec::with_capacity(elements.len());
    for element in elements {
        if reader.names(element, "a toleration", "write { key = \"gpu\", operator = \"Exists\" }").is_none() {
            continue;
        }
        match convert::json(element.value) {
            Ok(toleration) => tolerations.push(toleration),
            Err(problem) => reader.error("bad-value", element.span, problem),
        }
    }
    tolerations
}
