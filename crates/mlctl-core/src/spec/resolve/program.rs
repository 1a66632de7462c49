//! What a step runs, and with which variables.

use std::collections::{BTreeMap, BTreeSet};

use super::references::Part;
use super::{Resolver, templates};
use crate::diag::{Diag, Span};
use crate::spec::draft::StepDraft;
use crate::spec::reader::Text;
use crate::spec::words::quote;
use crate::template::Template;
use crate::workflow::{Program, Shell};

/// Linux takes no argument and no variable longer than this (`MAX_ARG_STRLEN`), the closing NUL included.
const MAX_ARGUMENT: usize = 128 * 1024;

impl<'t> Resolver<'_, 't> {
    pub(super) fn program(
        &mut self,
        ix: usize,
        draft: &StepDraft<'t>,
        params: &mut BTreeSet<String>,
    ) -> Option<Program> {
        if let Some(script) = draft.script {
            self.check_argument(
                "the script",
                script.text,
                script.span,
                "put it into a file of the project and run that",
            )?;
            let shell = draft.common.shell.unwrap_or(Shell::Sh);
            return Some(Program::Script { text: script.text.to_owned(), shell });
        }
        let (argv, _) = draft.command.as_ref()?;
        let argv: Vec<_> = argv.iter().map(|text| self.argument(ix, *text, params)).collect();
        Some(Program::Command(argv.into_iter().collect::<Option<_>>()?))
    }

    fn argument(&mut self, ix: usize, text: Text<'t>, params: &mut BTreeSet<String>) -> Option<Template> {
        self.check_argument("the argument", text.text, text.span, "put it into a file")?;
        self.template(ix, Part::whole(text), templates::COMMAND, params)
    }

    pub(super) fn env(
        &mut self,
        ix: usize,
        draft: &StepDraft<'t>,
        params: &mut BTreeSet<String>,
    ) -> Option<BTreeMap<String, Template>> {
        let mut env = BTreeMap::new();
        let mut whole = true;
        for (name, (_, text)) in &draft.common.env {
            let value = self
                .check_argument("the variable", text.text, text.span, "put it into a file")
                .and_then(|()| self.template(ix, Part::whole(*text), templates::ENV, params));
            match value {
                Some(value) => {
                    env.insert((*name).to_owned(), value);
                }
                None => whole = false,
            }
        }
        whole.then_some(env)
    }

    fn check_argument(&mut self, what: &str, text: &str, span: Span, help: &str) -> Option<()> {
        if text.contains('\0') {
            let message = format!("{what} contains a NUL character: {}", quote(text));
            self.reader.push(Diag::error("nul", span, message).help("no program can receive one: remove it"));
            return None;
        }
        if text.len() >= MAX_ARGUMENT {
            let message = format!("{what} has {} bytes: Linux takes less than {MAX_ARGUMENT}", text.len());
            self.reader.push(Diag::error("too-long", span, message).help(help));
            return None;
        }
        Some(())
    }
}
