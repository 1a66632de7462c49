//! What became of instances without a record, once their workflow is over: their pods were lost, or never were.

use std::collections::BTreeMap;

use super::explain;
use crate::platform::kube::{Node, Workflow};

/// What a workflow that is over says of its pods.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// Whether it was there.
    is_there: bool,
    /// What it says of itself.
    message: String,
    /// What it says of pods that did not do well, by template and worker.
    pods: BTreeMap<(String, Option<u32>), String>,
}

impl Judgement {
    /// Of a workflow; `None`: it is gone.
    pub(super) fn of(workflow: Option<Workflow>) -> Self {
        let Some(workflow) = workflow else { return Self::default() };
        let status = workflow.status;
        let mut pods = BTreeMap::new();
        let bad = |node: &&Node| matches!(node.phase.as_str(), "Failed" | "Error") && !node.message.is_empty();
        for node in status.nodes.values().filter(bad).filter(|node| matches!(node.kind.as_str(), "Pod" | "Retry")) {
            let place = (node.template_name.clone(), worker(node));
            // The pod's own words say more than that there is no further attempt at it.
            if node.kind == "Pod" || !pods.contains_key(&place) {
                pods.insert(place, node.message.clone());
            }
        }
        Self { is_there: true, message: status.message, pods }
    }

    /// Whether it was over because it took too long.
    pub(super) fn passed_deadline(&self) -> bool {
        // In Argo's words: `Step exceeded its deadline`, `Max duration limit exceeded`.
        let says = |message: &String| message.contains("exceeded its deadline") || message.contains("Max duration");
        says(&self.message) || self.pods.values().any(says)
    }

    /// Why an instance has no result, whose pod was made from `template`, with this number if there are several.
    pub(super) fn reason(&self, template: &str, worker: Option<u32>) -> String {
        let own = self.pods.get(&(template.to_owned(), worker));
        let own = own.or_else(|| self.pods.iter().find(|((name, _), _)| name == template).map(|(_, message)| message));
        match own {
            Some(message) => explain::message(message),
            None if !self.is_there => "its workflow was deleted before it had run".to_owned(),
            None if self.message.is_empty() => "Argo did not start its pod, and says no more".to_owned(),
            None => format!("Argo did not run it: {}", self.message),
        }
    }
}

fn worker(node: &Node) -> Option<u32> {
    node.inputs.parameters.iter().find(|parameter| parameter.name == "worker")?.value.as_ref()?.parse().ok()
}
