//! `[project]`, `[params]` and `[environments]`.

use std::collections::{BTreeMap, HashSet};

use indexmap::IndexMap;

use super::names::{self, Hyphens};
use super::reader::{Field, Reader, Text};
use super::words::quote;
use super::{keys, param, paths};
use crate::diag::Diag;
use crate::workflow::{BaseImages, Environment, EnvironmentKind, ImageBuild, ParamDecl};

/// `[project]` as written.
#[derive(Debug, Default)]
pub(crate) struct Project<'t> {
    pub(crate) name: Option<String>,
    pub(crate) default: Vec<Text<'t>>,
    pub(crate) base_images: BaseImages,
}

/// Reads `[project]`. `requires-mlctl` was judged before.
pub(crate) fn project<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Project<'t> {
    let mut project = Project::default();
    let before = reader.found();
    for field in reader.entries(field, &keys::PROJECT).unwrap_or_default() {
        match field.name {
            "name" => {
                if let Some(name) = reader.text(field) {
                    names::check(reader, "a project", name.text, name.span, Hyphens::Allowed);
                    project.name = Some(name.text.to_owned());
                }
            }
            "requires-mlctl" => {}
            "default" => project.default = reader.distinct(field).unwrap_or_default(),
            "base-images" => project.base_images = base_images(reader, field),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    if project.name.is_none() && reader.found() == before {
        reader.push(Diag::error("no-project-name", field.span, "the project has no name").help("add `name = \"...\"`"));
    }
    project
}

/// Reads `[params]`.
///
/// Second, the names of those that could not be read whole.
pub(crate) fn params<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> (IndexMap<String, ParamDecl>, HashSet<String>) {
    let fields = reader.names(field, "`params`", "write `[params]` and below it `name = default`").unwrap_or_default();
    let mut params = IndexMap::with_capacity(fields.len());
    let mut broken = HashSet::new();
    for field in fields {
        let before = reader.found();
        names::check(reader, "a param", field.name, field.name_span, Hyphens::Refused);
        params.insert(field.name.to_owned(), param::read(reader, field));
        if reader.found() != before {
            broken.insert(field.name.to_owned());
        }
    }
    (params, broken)
}

/// Reads `[environments]`.
pub(crate) fn environments<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> IndexMap<String, Environment> {
    let fields = reader.names(field, "`environments`", keys::ENVIRONMENT.example).unwrap_or_default();
    let mut environments = IndexMap::with_capacity(fields.len());
    for field in fields {
        names::check(reader, "an environment", field.name, field.name_span, Hyphens::Allowed);
        environments.insert(field.name.to_owned(), environment(reader, field));
    }
    environments
}

fn environment<'t>(reader: &mut Reader<'t>, table: Field<'t>) -> Environment {
    let before = reader.found();
    let (mut python, mut requirements, mut packages, mut system_packages) = (None, None, Vec::new(), Vec::new());
    let (mut image, mut build, mut portable) = (None, None, false);
    // Which of the three ways of making one are used, and where.
    let (mut described_at, mut image_at, mut build_at) = (None, None, None);
    for field in reader.entries(table, &keys::ENVIRONMENT).unwrap_or_default() {
        match field.name {
            "portable" => portable = reader.bool(field).unwrap_or_default(),
            "image" => {
                image = image_name(reader, field);
                image_at = Some(field.name_span);
            }
            "build" => {
                build = Some(image_build(reader, field));
                build_at = Some(field.name_span);
            }
            key => {
                described_at.get_or_insert(field.name_span);
                match key {
                    "python" => python = python_version(reader, field),
                    "requirements" => {
                        let text = reader.text(field);
                        requirements =
                            text.and_then(|text| Some((paths::relative(reader, "requirements", text)?, text.span)));
                    }
                    "packages" => packages = owned(reader.distinct(field)),
                    "system-packages" => system_packages = debian_packages(reader, field),
                    other => unreachable!("the key `{other}` is listed but not read"),
                }
            }
        }
    }
    let mut ways = [described_at, image_at, build_at].into_iter().flatten();
    if let (Some(first), Some(second)) = (ways.next(), ways.next()) {
        let message = format!("environment {} is made in two ways", quote(table.name));
        let help =
            "describe it (`python`, `requirements`, `packages`, `system-packages`), or name an `image`, or a `build`";
        reader.push(
            Diag::error("mixed-environment", first.max(second), message)
                .related(first.min(second), "the other way")
                .help(help),
        );
    } else if described_at.or(image_at).or(build_at).is_none() && reader.found() == before {
        let message = format!("environment {} says nothing", quote(table.name));
        let help = "add `python = \"3.12\"`, an `image`, or a `build`";
        reader.push(Diag::error("empty-environment", table.name_span, message).help(help));
    }
    let kind = match (image, build) {
        (Some(image), _) => EnvironmentKind::Image(image),
        (None, Some(build)) => EnvironmentKind::Build(build),
        (None, None) => EnvironmentKind::Described { python, requirements, packages, system_packages },
    };
    Environment { span: table.name_span, kind, portable }
}

fn python_version<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<String> {
    let text = match field.value {
        // 3.10 without quotes is the number 3.1: only quotes keep the zero.
        toml::de::DeValue::Float(number) => {
            let message = "`python` must be a string, not a float";
            let help = format!("put it in quotes: \"{}\"", number.as_str());
            reader.push(Diag::error("wrong-type", field.span, message).help(help));
            return None;
        }
        _ => reader.filled(field)?,
    };
    let parts: Vec<_> = text.text.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(is_number) {
        let message = format!("{} is not a version of Python", quote(text.text));
        reader.push(Diag::error("bad-python", text.span, message).help("write it as \"3.12\" or \"3.12.4\""));
        return None;
    }
    Some(text.text.to_owned())
}

fn image_name<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<String> {
    let text = reader.filled(field)?;
    if !is_image_name(text.text) {
        let message = format!("{} is not the name of an image", quote(text.text));
        let help = match text.text.contains("{{") {
            true => "references are not replaced here: write a plain name",
            false => "write it as \"ghcr.io/acme/train:1.4\"",
        };
        reader.push(Diag::error("bad-image", text.span, message).help(help));
        return None;
    }
    Some(text.text.to_owned())
}

/// Whether this can name an image: what exactly a registry accepts, it says itself.
fn is_image_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') && text.chars().all(allowed)
}

/// Reads `base-images`.
pub(crate) fn base_images<'t>(reader: &mut Reader<'t>, table: Field<'t>) -> BaseImages {
    let mut images = BaseImages::default();
    for field in reader.entries(table, &keys::BASE_IMAGES).unwrap_or_default() {
        match field.name {
            "python" => images.python = python_image(reader, field),
            "plain" => images.plain = image_name(reader, field),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    images
}

/// The name of an image in which `{{ python }}` stands for a version.
fn python_image<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Option<String> {
    let text = reader.filled(field)?;
    let before = reader.found();
    let (mut plain, mut at) = (String::new(), 0);
    while let Some(start) = text.text[at..].find("{{").map(|start| start + at) {
        let Some(end) = text.text[start..].find("}}").map(|end| end + start) else {
            let place = reader.place(text, start..text.text.len());
            reader.push(Diag::error("bad-template", place, "this reference is not closed").help("add `}}`"));
            return None;
        };
        let name = text.text[start + 2..end].trim();
        if name != "python" {
            let place = reader.place(text, start..end + 2);
            let message = format!("there is no {} to refer to here", quote(name));
            reader.push(Diag::error("bad-template", place, message).help("there is only `{{ python }}`, the version"));
        }
        plain = plain + &text.text[at..start] + "3.0";
        at = end + 2;
    }
    plain += &text.text[at..];
    if reader.found() == before && !is_image_name(&plain) {
        let message = format!("{} is not the name of an image", quote(text.text));
        reader.push(
            Diag::error("bad-image", text.span, message).help("write it as \"acme.example/python:{{ python }}-slim\""),
        );
    }
    (reader.found() == before).then(|| text.text.to_owned())
}

fn debian_packages<'t>(reader: &mut Reader<'t>, field: Field<'t>) -> Vec<String> {
    let packages = reader.distinct(field).unwrap_or_default();
    for package in &packages {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+-.:=~_".contains(c);
        if !package.text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !package.text.chars().all(allowed) {
            let message = format!("{} is not the name of a Debian package", quote(package.text));
            reader.push(Diag::error("bad-package", package.span, message).help("write it as \"libgomp1\""));
        }
    }
    owned(Some(packages))
}

fn image_build<'t>(reader: &mut Reader<'t>, table: Field<'t>) -> ImageBuild {
    let (mut dockerfile, mut dir, mut target) = (None, None, None);
    let (mut args, mut secrets, mut ssh) = (BTreeMap::new(), Vec::new(), false);
    for field in reader.entries(table, &keys::BUILD).unwrap_or_default() {
        match field.name {
            "dockerfile" => {
                dockerfile = reader.text(field).and_then(|text| paths::relative(reader, "dockerfile", text))
            }
            "dir" => dir = reader.text(field).and_then(|text| directory(reader, text)),
            "target" => target = reader.filled(field).map(|text| text.text.to_owned()),
            "args" => {
                let pairs = reader.text_map(field).unwrap_or_default();
                args = pairs.into_iter().map(|(field, text)| (field.name.to_owned(), text.text.to_owned())).collect();
            }
            "secrets" => {
                let names = reader.distinct(field).unwrap_or_default();
                names.iter().for_each(|name| names::check_variable(reader, name.text, name.span));
                secrets = owned(Some(names));
            }
            "ssh" => ssh = reader.bool(field).unwrap_or_default(),
            other => unreachable!("the key `{other}` is listed but not read"),
        }
    }
    // What is not said follows from what is: the build context is the Dockerfile's directory.
    let dir = dir.unwrap_or_else(|| match dockerfile.as_deref().and_then(|path: &str| path.rsplit_once('/')) {
        Some((dir, _)) => dir.to_owned(),
        None => ".".to_owned(),
    });
    let dockerfile = dockerfile.unwrap_or_else(|| match dir.as_str() {
        "." => "Dockerfile".to_owned(),
        dir => format!("{dir}/Dockerfile"),
    });
    ImageBuild { dockerfile, dir, target, args, secrets, ssh }
}

/// A directory of the project: `.` is the project itself.
fn directory(reader: &mut Reader<'_>, text: Text<'_>) -> Option<String> {
    if text.text.trim_end_matches('/') == "." { Some(".".to_owned()) } else { paths::relative(reader, "dir", text) }
}

pub(crate) fn owned(texts: Option<Vec<Text<'_>>>) -> Vec<String> {
    texts.unwrap_or_default().into_iter().map(|text| text.text.to_owned()).collect()
}
