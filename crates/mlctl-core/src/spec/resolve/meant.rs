//! What was probably meant by a name that is not written as it must be.

use super::Resolver;

impl Resolver<'_, '_> {
    /// `steps.prepare.outputs.data`, `prepare.outputs.data`, `prepare`: the output.
    pub(super) fn meant_output(&self, text: &str) -> Option<String> {
        let mut words = text.split('.').skip_while(|word| *word == "steps");
        let step = words.next()?;
        let ix = *self.steps.get(step)?;
        let outputs = &self.drafts[ix].outputs;
        let last = words.last();
        let output = outputs.iter().find(|output| Some(output.name) == last).or(outputs.first())?;
        Some(format!("{step}.{}", output.name))
    }

    /// `seed`, `prepare.data`: what a template of step `ix` calls it.
    pub(super) fn meant_reference(&self, ix: usize, text: &str) -> Option<String> {
        let draft = &self.drafts[ix];
        let name = text.rsplit('.').next()?;
        let group = if text.contains('.') && self.meant_output(text).is_some() {
            None
        } else if self.params.contains_key(name) {
            Some("params")
        } else if draft.inputs.iter().any(|input| input.name == name) {
            Some("inputs")
        } else if draft.outputs.iter().any(|output| output.name == name) {
            Some("outputs")
        } else if self.axes(ix)?.iter().any(|axis| axis.name == name) {
            Some("matrix")
        } else {
            None
        };
        match group {
            Some(group) => Some(format!("did you mean `{{{{ {group}.{name} }}}}`?")),
            None => {
                let output = self.meant_output(text)?;
                Some(format!(
                    "declare it as an input, `inputs.{name} = \"{output}\"`, and write `{{{{ inputs.{name} }}}}`"
                ))
            }
        }
    }

    /// `seed`, `select`: what a condition calls it.
    pub(super) fn meant_value(&self, name: &str) -> Option<String> {
        if self.params.contains_key(name) {
            return Some(format!("params.{name}"));
        }
        let draft = &self.drafts[*self.steps.get(name)?];
        let value = draft.outputs.iter().find(|output| output.ty.is_some())?;
        Some(format!("{name}.{}", value.name))
    }
}
