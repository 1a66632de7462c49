//! What a program says of the variables that it reads: mlctl never edits a script, but it can read along.

use std::collections::BTreeSet;

use super::Resolver;
use super::references::Part;
use crate::diag::Diag;
use crate::spec::reader::Text;
use crate::spec::words::quote;

impl<'t> Resolver<'_, 't> {
    /// Warns of references, which a script has not, and of variables that will not be set.
    pub(super) fn check_script(&mut self, ix: usize, script: Text<'t>, params: &BTreeSet<String>) {
        let part = Part::whole(script);
        for group in ["params.", "inputs.", "outputs.", "matrix."] {
            let opening = script.text.find(&format!("{{{{ {group}")).map(|at| (at, 3));
            let Some((at, braces)) = opening.or_else(|| script.text.find(&format!("{{{{{group}")).map(|at| (at, 2)))
            else {
                continue;
            };
            let name = word(&script.text[at + braces + group.len()..]);
            let variable =
                format!("MLCTL_{}_{}", group.trim_end_matches(['s', '.']).to_uppercase(), name.to_uppercase());
            let span = self.place(part, at..at + braces + group.len() + name.len());
            let message = "a script is never edited: this reference stays as it is";
            let help = match group {
                "params." if !params.contains(name) => {
                    format!("say `params = [\"{name}\"]` and read the variable: \"${variable}\"")
                }
                _ => format!("read the variable: \"${variable}\""),
            };
            self.reader.push(Diag::warning("reference-in-script", span, message).help(help));
        }
        /// More than these are not looked at: each is found from the script's start.
        const VARIABLES: usize = 100;
        let mut seen = BTreeSet::new();
        for (at, prefix) in script.text.match_indices("MLCTL_") {
            let variable = word(&script.text[at..]);
            if seen.len() < VARIABLES && seen.insert(variable) {
                self.check_variable(ix, part, at, &variable[prefix.len()..], params);
            }
        }
    }

    /// Warns of `$MLCTL_...` in a command: without a shell nobody replaces it.
    pub(super) fn check_command(&mut self, argv: &[Text<'t>]) {
        let program = argv.first().map_or("", |program| program.text.rsplit('/').next().unwrap_or_default());
        if program.ends_with("sh") {
            return;
        }
        for argument in argv {
            let Some(at) = argument.text.find("$MLCTL_").or_else(|| argument.text.find("${MLCTL_")) else { continue };
            let part = Part::whole(*argument);
            let end = at + argument.text[at..].find(['}', ' ', '/', '"']).unwrap_or(argument.text.len() - at);
            let message = "a command has no shell: this variable stays as it is";
            let help = "write a reference, as `{{ inputs.x }}` or `{{ outputs.x }}`, or use `script`";
            self.reader.push(Diag::warning("variable-in-command", self.place(part, at..end), message).help(help));
        }
    }

    fn check_variable(&mut self, ix: usize, part: Part<'t>, at: usize, variable: &str, params: &BTreeSet<String>) {
        let Some((group, name)) = variable.split_once('_') else { return };
        let name = name.to_lowercase();
        let declared = match group {
            "PARAM" => params.contains(&name),
            "INPUT" => self.inputs.contains_key(&(ix, name.as_str())),
            "OUTPUT" => self.outputs.contains_key(&(ix, name.as_str())),
            "MATRIX" => self.axes(ix).is_none_or(|axes| axes.iter().any(|axis| axis.name == name)),
            "CACHE" => self.drafts[ix].common.caches.iter().any(|cache| cache.text == name),
            _ => return,
        };
        if declared || name.is_empty() {
            return;
        }
        let span = self.place(part, at..at + "MLCTL_".len() + variable.len());
        let variable = quote(&format!("MLCTL_{variable}"));
        let diag = Diag::warning("unset-variable", span, format!("{variable} will not be set in this step"));
        let help = match group {
            "PARAM" if self.params.contains_key(&name) => {
                format!("a step receives only the params it names: add it to `params`: [\"{name}\"]")
            }
            "PARAM" => format!("there is no param {}", quote(&name)),
            "MATRIX" => format!("the step has no axis {}", quote(&name)),
            "CACHE" => format!("add it to `caches`: [\"{name}\"]"),
            _ => format!("the step has no {} {}", group.to_lowercase(), quote(&name)),
        };
        self.reader.push(diag.help(help));
    }
}

/// The letters, digits and underscores that a text begins with.
fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())]
}
