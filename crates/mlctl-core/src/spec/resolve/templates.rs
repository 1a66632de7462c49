//! Templates: each reference must be to something that exists.

use std::collections::BTreeSet;

use super::Resolver;
use super::references::Part;
use crate::diag::{Diag, Span};
use crate::spec::reader::Text;
use crate::spec::words::{list, quote, suggest};
use crate::template::{self, Piece, Template, TemplateErrorKind};
use crate::workflow::ArtifactRole;

/// What a template may name besides params and matrix values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    files_and_run: bool,
    place: &'static str,
}

/// In `command`.
pub(super) const COMMAND: Allowed = Allowed { files_and_run: true, place: "a command" };
/// In `env`.
pub(super) const ENV: Allowed = Allowed { files_and_run: true, place: "`env`" };
/// In the path of an input.
pub(super) const PATH: Allowed = Allowed { files_and_run: false, place: "a path" };

impl<'t> Resolver<'_, 't> {
    /// Reads a template of step `ix` and notes the params that it names.
    pub(super) fn template(
        &mut self,
        ix: usize,
        part: Part<'t>,
        allowed: Allowed,
        params: &mut BTreeSet<String>,
    ) -> Option<Template> {
        if !part.text.contains("{{") {
            let text = (!part.text.is_empty()).then(|| Piece::Text(part.text.to_owned()));
            return Some(Template(text.into_iter().collect()));
        }
        let located = match template::locate(part.text) {
            Ok(located) => located,
            Err(errors) => {
                for error in errors {
                    let span = self.place(part, error.range.clone());
                    self.template_error(ix, error.kind, &part.text[error.range], span);
                }
                return None;
            }
        };
        let before = self.reader.found();
        for (piece, range) in &located {
            if !matches!(piece, Piece::Text(_)) {
                self.check_piece(ix, piece, part.slice(range.clone()), allowed, params);
            }
        }
        (self.reader.found() == before).then(|| Template(located.into_iter().map(|(piece, _)| piece).collect()))
    }

    fn template_error(&mut self, ix: usize, kind: TemplateErrorKind, written: &str, span: Span) {
        let literal = "for two braces as they are, write `{{{{`";
        let diag = match kind {
            TemplateErrorKind::Unterminated => {
                Diag::error("bad-template", span, "this reference is not closed").help(format!("add `}}}}`; {literal}"))
            }
            TemplateErrorKind::Malformed => {
                let message = match written.trim() {
                    "" => "there is no name between the braces".to_owned(),
                    written => format!("{} is not a reference", quote(written)),
                };
                let meant = self.meant_reference(ix, written.trim());
                let help = meant.unwrap_or_else(|| format!("write `{{{{ params.x }}}}`; {literal}"));
                Diag::error("bad-template", span, message).help(help)
            }
            TemplateErrorKind::UnknownGroup => {
                let message = format!("{} is unknown", quote(written));
                let known = "there are `params.x`, `inputs.x`, `outputs.x`, `matrix.x` and `run.id`";
                let meant = self.meant_reference(ix, written).unwrap_or_else(|| known.to_owned());
                Diag::error("bad-template", span, message).help(meant)
            }
        };
        self.reader.push(diag);
    }

    fn check_piece(&mut self, ix: usize, piece: &Piece, at: Part<'t>, allowed: Allowed, params: &mut BTreeSet<String>) {
        let draft = &self.drafts[ix];
        if !allowed.files_and_run
            && matches!(piece, Piece::Input(_) | Piece::Output(_) | Piece::RunId | Piece::RunStatus)
        {
            let message = format!("this cannot be used in {}", allowed.place);
            let help = "params and matrix values can: they are known before anything runs";
            self.reader.push(Diag::error("reference-not-here", self.span(at), message).help(help));
            return;
        }
        match piece {
            Piece::Param(name) => self.check_param(name, at, params),
            Piece::Matrix(name) => self.check_axis(ix, name, at),
            Piece::Input(name) => {
                if !self.inputs.contains_key(&(ix, name.as_str())) && !draft.broken {
                    let names = draft.inputs.iter().map(|input| input.name);
                    self.unknown_of_step("unknown-input", "input", name, at, names);
                }
            }
            Piece::Output(name) => match self.outputs.get(&(ix, name.as_str())) {
                Some(output) => {
                    if draft.outputs[*output].from.is_some() {
                        let message = format!("output {} is read from another output: it has no path", quote(name));
                        self.reader.error("output-without-path", self.span(at), message);
                    }
                }
                None if draft.broken => {}
                None => {
                    let names = draft.outputs.iter().map(|output| output.name);
                    self.unknown_of_step("unknown-output", "output", name, at, names);
                }
            },
            Piece::RunStatus if !draft.common.finally => {
                let message = "`run.status` is known only to a `finally` step";
                self.reader
                    .push(Diag::error("run-status", self.span(at), message).help("add `finally = true`, or remove it"));
            }
            Piece::RunStatus | Piece::RunId | Piece::Text(_) => {}
        }
    }

    fn unknown_of_step<'n>(
        &mut self,
        code: &'static str,
        what: &str,
        name: &str,
        at: Part<'t>,
        names: impl Iterator<Item = &'n str> + Clone,
    ) {
        let span = self.span(at);
        let message = format!("this step has no {what} {}", quote(name));
        let near = suggest(name, names.clone());
        let help = near.unwrap_or_else(|| match names.clone().next() {
            None => format!("add `{what}s.{name}`"),
            Some(_) => format!("its {what}s are {}", list(names)),
        });
        self.reader.push(Diag::error(code, span, message).help(help));
    }

    /// Notes that a step uses a param, or says that there is none.
    pub(super) fn check_param(&mut self, name: &str, at: Part<'t>, params: &mut BTreeSet<String>) {
        if self.params.contains_key(name) {
            if params.insert(name.to_owned()) && !self.used_params.contains(name) {
                self.used_params.insert(name.to_owned());
            }
            return;
        }
        let names = self.params.keys().map(String::as_str);
        let message = format!("there is no param {}", quote(name));
        let near = if self.reader.is_full() { None } else { suggest(name, names) };
        let help = near.unwrap_or_else(|| format!("declare it in `[params]`: `{name} = ...`"));
        self.reader.push(Diag::error("unknown-param", self.span(at), message).help(help));
    }

    /// Says that a step has no such axis.
    pub(super) fn check_axis(&mut self, ix: usize, name: &str, at: Part<'t>) {
        let Some(axes) = self.axes(ix) else { return };
        if axes.iter().any(|axis| axis.name == name) {
            return;
        }
        let names = axes.iter().map(|axis| axis.name);
        let near = suggest(name, names.clone());
        let help = near.unwrap_or_else(|| match axes.is_empty() {
            true => format!("the step has no matrix: add `matrix.{name} = [...]`"),
            false => format!("its axes are {}", list(names)),
        });
        self.reader.push(
            Diag::error("unknown-axis", self.span(at), format!("this step has no axis {}", quote(name))).help(help),
        );
    }

    /// Resolves `from = "metrics.test.accuracy"`: the output and the keys in it.
    pub(super) fn value_source(&mut self, ix: usize, own: &str, from: Text<'t>) -> Option<(usize, Vec<String>)> {
        let draft = &self.drafts[ix];
        let mut parts = from.text.split('.');
        let name = parts.next().unwrap_or_default();
        let part = Part::whole(from);
        let Some(index) = self.outputs.get(&(ix, name)).copied() else {
            if draft.broken {
                return None;
            }
            let names = draft.outputs.iter().map(|output| output.name).filter(|name| *name != own);
            self.unknown_of_step("unknown-output", "output", name, part.slice(0..name.len()), names);
            return None;
        };
        let source = &draft.outputs[index];
        let json =
            source.at.as_ref().is_none_or(|(at, _)| match at.rsplit('/').next().unwrap_or(at).rsplit_once('.') {
                Some((_, extension)) => extension.eq_ignore_ascii_case("json"),
                None => true,
            });
        let problem = if source.ty.is_some() {
            Some("is a value itself")
        } else if !json || matches!(source.role, ArtifactRole::Model) {
            Some("is not a JSON file")
        } else {
            None
        };
        if let Some(problem) = problem {
            if draft.broken {
                return None;
            }
            let span = self.place(part, 0..name.len());
            let message = format!("output {} {problem}: nothing can be read from it", quote(name));
            self.reader.push(Diag::error("from-not-json", span, message).related(source.span, "the output"));
            return None;
        }
        let keys: Vec<String> = parts.map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            let message = format!("{} has an empty key", quote(from.text));
            self.reader.push(Diag::error("bad-from", from.span, message).help("write it as \"metrics.test.accuracy\""));
            return None;
        }
        Some((index, keys))
    }
}
