//! References to outputs: the producer, its axes against the consumer's, picks, gathers, entries.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::{Resolver, step_ix, templates};
use crate::diag::{Diag, Span};
use crate::spec::draft::{FromDraft, InputDraft};
use crate::spec::reader::Text;
use crate::spec::reference::{self, PickText, RefText};
use crate::spec::words::{list, nearest, quote, suggest};
use crate::value::Value;
use crate::workflow::{InputFrom, OutputRef};

/// A part of a string of the spec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'t> {
    pub(super) literal: Text<'t>,
    /// Where it begins in the string.
    pub(super) offset: usize,
    pub(super) text: &'t str,
}

impl<'t> Part<'t> {
    /// The whole string.
    pub(super) const fn whole(literal: Text<'t>) -> Self {
        Self { literal, offset: 0, text: literal.text }
    }

    /// A part of the part.
    pub(super) fn slice(self, range: Range<usize>) -> Self {
        Self { literal: self.literal, offset: self.offset + range.start, text: &self.text[range] }
    }
}

/// What a reference is for: decides which forms it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Input,
    First,
    When,
    Axis,
}

impl<'t> Resolver<'_, 't> {
    /// Where a range of the part stands in the file.
    pub(super) fn place(&self, part: Part<'t>, range: Range<usize>) -> Span {
        if part.offset == 0 && range == (0..part.literal.text.len()) {
            return part.literal.span;
        }
        self.reader.place(part.literal, part.offset + range.start..part.offset + range.end)
    }

    /// Where the part stands in the file. Reads the literal from its start: for errors only.
    pub(super) fn span(&self, part: Part<'t>) -> Span {
        self.place(part, 0..part.text.len())
    }

    /// Resolves a reference of step `ix`.
    pub(super) fn reference(
        &mut self,
        ix: usize,
        part: Part<'t>,
        how: Use,
        params: &mut BTreeSet<String>,
    ) -> Option<OutputRef> {
        let written = match reference::parse(part.text) {
            Ok(written) => written,
            Err(error) => {
                self.no_reference(part, error, how);
                return None;
            }
        };
        let producer = self.producer(ix, part, &written, how)?;
        let output = self.producers_output(producer, part, &written)?;
        self.check_use(producer, part, &written, how, output)?;
        let picks = self.picks(producer, part, &written.picks)?;
        let span = self.place(part, 0..part.text.len());
        self.depend(ix, producer, span)?;
        self.match_axes(ix, producer, span, &written, how)?;
        let entry = match written.entry {
            Some((entry, start)) => {
                let entry = part.slice(start..start + entry.len());
                self.check_entry_path(entry)?;
                Some(self.template(ix, entry, templates::PATH, params)?)
            }
            None => None,
        };
        Some(OutputRef { step: step_ix(producer), output, picks, gather: written.gather.is_some(), entry, span })
    }

    fn no_reference(&mut self, part: Part<'t>, error: reference::RefError, how: Use) {
        let span = self.place(part, error.range);
        let looks_like_path = part.text.contains('/') || part.text.starts_with('.');
        let meant = self.meant_output(part.text).filter(|_| how != Use::When);
        let help = match how {
            _ if meant.is_some() => format!("did you mean {:?}?", meant.unwrap_or_default()),
            Use::Input | Use::First if looks_like_path => {
                format!("for a file of the project write {{ path = {:?} }}", part.text)
            }
            Use::When => "write a value of a step as `step.value`, a param as `params.x`".to_owned(),
            Use::Axis => "write \"params.NAME\" for a list param, or \"step.output\"".to_owned(),
            _ => "write \"step.output\", \"step[*].output\" or \"step[axis=value].output\"".to_owned(),
        };
        let message = format!("{} is not a reference: {}", quote(part.text), error.problem);
        self.reader.push(Diag::error("bad-reference", span, message).help(help));
    }

    fn producer(&mut self, ix: usize, part: Part<'t>, written: &RefText<'_>, how: Use) -> Option<usize> {
        let step = part.slice(0..written.step.len());
        if matches!(written.step, "params" | "matrix") && how == Use::Input {
            let message = format!("{} is not an output of a step", quote(part.text));
            let help = format!("use it directly: `{{{{ {}.{} }}}}` in the command", written.step, written.output);
            self.reader.push(Diag::error("bad-reference", self.span(step), message).help(help));
            return None;
        }
        if let Some(producer) = self.steps.get(written.step).copied() {
            if producer == ix {
                let message = format!("{} uses its own output", quote(written.step));
                self.reader.error("own-output", self.span(part), message);
                return None;
            }
            return Some(producer);
        }
        let span = self.span(step);
        // `data.csv`: a file that was meant to be one.
        if how == Use::Input
            && ["csv", "json", "txt", "parquet", "toml", "yaml", "yml", "py", "zip", "gz", "pkl"]
                .contains(&written.output)
        {
            let message = format!("there is no step {}", quote(written.step));
            let help = format!("for a file of the project write {{ path = {:?} }}", part.text);
            self.reader.push(Diag::error("unknown-step", span, message).help(help));
            return None;
        }
        if how == Use::When
            && let Some(group) = nearest(written.step, ["params", "matrix"])
        {
            let help = format!("did you mean {}?", quote(&format!("{group}.{}", written.output)));
            self.reader.push(
                Diag::error("unknown-step", span, format!("there is no step {}", quote(written.step))).help(help),
            );
            return None;
        }
        self.find_step(written.step, span)
    }

    fn producers_output(&mut self, producer: usize, part: Part<'t>, written: &RefText<'_>) -> Option<usize> {
        let found = self.outputs.get(&(producer, written.output)).copied();
        let draft = &self.drafts[producer];
        if found.is_none() && !draft.broken {
            let span = self.place(part, written.output_range.clone());
            let message = format!("{} has no output {}", quote(draft.name), quote(written.output));
            let names = draft.outputs.iter().map(|output| output.name);
            let near = suggest(written.output, names.clone());
            let help = near.unwrap_or_else(|| match draft.outputs.is_empty() {
                true => format!("declare it there: `outputs.{} = {{}}`", written.output),
                false => format!("its outputs are {}", list(names)),
            });
            self.reader.push(Diag::error("unknown-output", span, message).help(help).related(draft.span, "the step"));
        }
        found
    }

    /// Refuses forms of a reference that mean nothing where it stands.
    fn check_use(
        &mut self,
        producer: usize,
        part: Part<'t>,
        written: &RefText<'_>,
        how: Use,
        output: usize,
    ) -> Option<()> {
        let draft = &self.drafts[producer];
        let output = &draft.outputs[output];
        let gathers = written.gather.is_some();
        let is_value = output.ty.is_some();
        let problem = match how {
            Use::First if gathers => Some(("a candidate of `first` is one output, not all", "remove `[*]`")),
            Use::When if gathers => Some(("a condition is about one value, not all", "pick one with [axis=value]")),
            Use::Axis if gathers => Some(("an axis comes from one output, not all", "pick one with [axis=value]")),
            Use::Axis if written.entry.is_some() => Some(("an axis comes from a whole output", "remove the entry")),
            _ if is_value && written.entry.is_some() => {
                Some(("a value has no entries", "remove what follows the slash"))
            }
            Use::When if !is_value => Some((
                "a condition compares values, and this is a file",
                "give the output a type: { type = \"float\" }",
            )),
            _ => None,
        };
        if let Some((message, help)) = problem {
            if draft.broken && !gathers {
                return None;
            }
            let mut diag = Diag::error("reference-not-here", self.span(part), message).help(help);
            if !gathers {
                diag = diag.related(output.span, "the output");
            }
            self.reader.push(diag);
            return None;
        }
        Some(())
    }

    /// The values picked, with the types that the producer's axes have.
    fn picks(&mut self, producer: usize, part: Part<'t>, picks: &[PickText<'t>]) -> Option<Vec<(String, Value)>> {
        let mut values: Vec<(String, Value)> = Vec::with_capacity(picks.len());
        for pick in picks {
            let axes = self.axes(producer)?;
            let span = self.place(part, pick.range.clone());
            let Some(axis) = axes.iter().find(|axis| axis.name == pick.axis) else {
                let message = format!("{} has no axis {}", quote(self.drafts[producer].name), quote(pick.axis));
                self.reader.unknown("unknown-axis", span, message, pick.axis, axes.iter().map(|axis| axis.name));
                return None;
            };
            if values.iter().any(|(name, _)| name == pick.axis) {
                self.reader.error("duplicate", span, format!("axis {} is picked twice", quote(pick.axis)));
                return None;
            }
            let root = self.roots.of(producer)?;
            let value = match self.domain(root, axis.name).pick(pick.value) {
                Ok(value) => value,
                Err(known) => {
                    let message = format!("axis {} has no value {}", quote(pick.axis), quote(pick.value));
                    let help = format!("its values are {}", list(known.iter().map(String::as_str)));
                    self.reader
                        .push(Diag::error("unknown-value", span, message).help(help).related(axis.span, "the axis"));
                    return None;
                }
            };
            values.push((pick.axis.to_owned(), value));
        }
        Some(values)
    }

    /// An axis that only the producer has must be gathered or picked, and what is gathered must be such an axis.
    fn match_axes(&mut self, ix: usize, producer: usize, span: Span, written: &RefText<'_>, how: Use) -> Option<()> {
        let (Some(own), Some(theirs)) = (self.axes(ix), self.axes(producer)) else { return Some(()) };
        let own = if how == Use::Axis { &[] } else { own };
        let open: Vec<_> =
            theirs.iter().filter(|axis| !written.picks.iter().any(|pick| pick.axis == axis.name)).collect();
        let (shared, only_theirs): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|axis| own.iter().any(|own| own.name == axis.name));
        let name = self.drafts[producer].name;
        match (written.gather, only_theirs.first()) {
            (None, Some(axis)) => {
                let message = format!(
                    "{} has the axis {}, {}",
                    quote(name),
                    quote(axis.name),
                    match how {
                        Use::Axis => "and an axis comes from a single instance",
                        _ => "this step does not",
                    }
                );
                let pick = format!("pick one: \"{name}[{}=...].{}\"", axis.name, written.output);
                let help = match how {
                    Use::Input => format!("gather all: \"{name}[*].{}\", or {pick}", written.output),
                    _ => pick,
                };
                self.reader
                    .push(Diag::error("unmatched-axis", span, message).help(help).related(axis.span, "the axis"));
                return None;
            }
            (Some(_), None) => {
                let message = match theirs.is_empty() {
                    true => format!("{} has no matrix: there is nothing to gather", quote(name)),
                    false => format!("every axis of {} is matched or picked: there is nothing to gather", quote(name)),
                };
                let help = format!("write \"{name}.{}\"", written.output);
                self.reader.push(Diag::error("nothing-to-gather", span, message).help(help));
                return None;
            }
            _ => {}
        }
        for axis in shared {
            self.compare_axis(ix, producer, axis.name, span);
        }
        Some(())
    }

    /// The path of an entry or of a project's file with references in it: no part leads out.
    pub(super) fn check_entry_path(&mut self, part: Part<'t>) -> Option<()> {
        let problem = if part.text.starts_with('/') {
            "the path is absolute"
        } else if part.text.split('/').any(|part| part == "..") {
            "the path leads out"
        } else if part.text.contains('\0') {
            "a path cannot contain a NUL character"
        } else {
            return Some(());
        };
        let span = self.place(part, 0..part.text.len());
        self.reader.push(Diag::error("bad-path", span, problem).help("write it relative, without `..`"));
        None
    }

    /// The members of a gather become entries of one directory: no two of one name.
    pub(super) fn check_members(&mut self, refs: &[OutputRef]) {
        let mut seen: HashMap<_, Span> = HashMap::new();
        for member in refs {
            let output = &self.drafts[member.step.0 as usize].outputs[member.output];
            let extension =
                output.at.as_ref().and_then(|(at, _)| at.rsplit('/').next()?.rsplit_once('.')).map(|(_, ext)| ext);
            let picks: Vec<_> = member.picks.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
            if let Some(other) = seen.insert((member.step, extension, picks), member.span) {
                let message = "two members of the gather would have the same name";
                let help = "members are named by their instance: gather the outputs of one step as two inputs";
                self.reader
                    .push(Diag::error("same-member", member.span, message).related(other, "the other one").help(help));
            }
        }
    }

    /// The candidates of `first` are all files or all values.
    pub(super) fn check_candidates(&mut self, refs: &[OutputRef]) {
        let is_value = |one: &OutputRef| self.drafts[one.step.0 as usize].outputs[one.output].ty.is_some();
        if let Some((first, others)) = refs.split_first()
            && let Some(other) = others.iter().find(|other| is_value(other) != is_value(first))
        {
            let message = "one candidate of `first` is a value, another a file";
            self.reader
                .push(Diag::error("mixed-candidates", other.span, message).related(first.span, "the first candidate"));
        }
    }

    /// A value has no file that could be placed.
    pub(super) fn check_place_of_value(&mut self, input: &InputDraft<'t>, from: &InputFrom) {
        let (Some((_, at)), InputFrom::One(one)) = (&input.at, from) else { return };
        let output = &self.drafts[one.step.0 as usize].outputs[one.output];
        if output.ty.is_some() {
            let message = format!("input {} is a value: it cannot be placed", quote(input.name));
            let help = format!("remove `at` and use `{{{{ inputs.{} }}}}`", input.name);
            self.reader.push(Diag::error("place-of-value", *at, message).related(output.span, "has a type").help(help));
        }
        debug_assert!(!matches!(input.from, Some(FromDraft::Path(_))));
    }
}
