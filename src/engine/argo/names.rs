//! Names that Argo and Kubernetes accept, and the clashes that Argo does not notice.
//!
//! A step's name is `[a-z][a-z0-9_]*`. Argo's have no `_`: it becomes `-`, which no step's name has, so that different
//! steps stay different. What is not a pod's is called with a capital, as no step is.

use std::collections::HashMap;

use mlctl_core::plan::Plan;
use mlctl_core::units::{Rows, Unit};

/// The template that is the run.
pub(super) const ENTRY: &str = "Workflow";
/// The template of what comes after everything else.
pub(super) const FINALLY: &str = "Finally";
/// The task in a fan-out's template that is started for each pod.
pub(super) const WORKER: &str = "w";

/// The longest name of a workflow: Argo puts it into a label.
const LONGEST: usize = 63;

/// What the language of `depends` takes for something else; what a step may not be called is left out.
const WORDS: [&str; 6] = ["contains", "else", "if", "let", "matches", "nil"];

/// A unit's task in the graph.
pub(super) fn task(plan: &Plan, unit: &Unit) -> String {
    let name = template(plan, unit);
    if WORDS.contains(&name.as_str()) { capital(&name) } else { name }
}

/// The template of a unit's pods; their names begin with it, so it has no capital.
pub(super) fn template(plan: &Plan, unit: &Unit) -> String {
    plan.step(unit.first()).name.replace('_', "-")
}

/// The template of a fan-out as a whole.
pub(super) fn workers(plan: &Plan, unit: &Unit) -> String {
    format!("Workers-{}", template(plan, unit))
}

fn capital(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// A run's workflow: the project's name, as much of it as fits, and the run's id.
pub(super) fn workflow(project: &str, run: &str) -> String {
    let mut name = project.replace('_', "-");
    name.truncate(LONGEST.saturating_sub(run.len() + 1));
    format!("{}-{run}", name.trim_end_matches('-'))
}

/// A text as the value of a label.
pub(super) fn label(text: &str) -> String {
    let mut text = text.to_owned();
    text.truncate(LONGEST);
    text.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Two nodes of the workflow that Argo would take for one: it knows them by 32 bits of a hash, and of two that have the
/// same it runs one and takes the other for done.
pub(super) fn clash(plan: &Plan, units: &[Unit], pods: u32, workflow: &str) -> Option<(String, String)> {
    let mut known: HashMap<u32, String> = HashMap::new();
    let mut add = |name: String| {
        let before = known.insert(fnv1a(name.as_bytes()), name.clone());
        before.filter(|before| *before != name).map(|before| (before, name))
    };
    // The attempts that there are mostly: the first, and one after a pod was lost.
    let pod = |name: String| [name.clone(), format!("{name}(0)"), format!("{name}(1)")];
    if let Some(clash) = add(format!("{workflow}.onExit")) {
        return Some(clash);
    }
    let handler = units.iter().any(|unit| !unit.finally);
    for unit in units {
        let place = if unit.finally && handler { ".onExit" } else { "" };
        let task = format!("{workflow}{place}.{}", task(plan, unit));
        let mut names: Vec<String> = Vec::new();
        match &unit.rows {
            _ if unit.is_single() => names.extend(pod(task)),
            Rows::Known { pods, .. } => names.extend(fan_out(task, *pods)),
            Rows::Dynamic { .. } => names.extend(fan_out(task, pods)),
        }
        if let Some(clash) = names.into_iter().find_map(&mut add) {
            return Some(clash);
        }
    }
    None
}

/// The nodes of a fan-out.
fn fan_out(task: String, pods: u32) -> impl Iterator<Item = String> {
    let group = format!("{task}.{WORKER}");
    let worker = {
        let group = group.clone();
        move |place: u32| {
            let name = format!("{group}({place}:{place})");
            [format!("{name}(0)"), format!("{name}(1)"), name]
        }
    };
    [task, group].into_iter().chain((0..pods).flat_map(worker))
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflows_are_called_as_kubernetes_wants_it() {
        assert_eq!(workflow("churn", "k7dq2x9m"), "churn-k7dq2x9m");
        assert_eq!(workflow("my_project__", "k7dq2x9m"), "my-project-k7dq2x9m");
        let long = workflow(&"a".repeat(63), "k7dq2x9m");
        assert_eq!((long.len(), long.ends_with("a-k7dq2x9m")), (63, true));
        assert_eq!(label("my_project__"), "my_project");
    }

    #[test]
    fn nodes_that_argo_would_take_for_one_are_found() {
        let text = "project.name = \"demo\"\nsteps.a = { command = [\"c\"] }\n\
                    steps.wide = { command = [\"c\"], matrix = { x = \"params.l\", y = \"params.l\" } }\n\
                    params.l = { type = \"list\", default = [] }";
        let source = mlctl_core::diag::Source { name: String::new(), text: text.to_owned() };
        let workflow = std::sync::Arc::new(mlctl_core::spec::parse(&source).unwrap().workflow);
        let list = mlctl_core::value::Value::Json((0..50).collect());
        let params = std::collections::BTreeMap::from([("l".to_owned(), list)]);
        let plan = mlctl_core::plan::plan(workflow, params, &mlctl_core::plan::Request::default()).unwrap();
        let context = mlctl_core::context::ContextLayer { workers: Some(false), ..Default::default() };
        let units = mlctl_core::units::units(&plan, &mlctl_core::units::Cutting::of(&context), &|_| false);
        // Of 7,504 names two are alike in one run of 150.
        let found = (0..1000).find_map(|run| clash(&plan, &units, 1, &format!("demo-{run}")));
        let (one, two) = found.expect("a clash");
        assert!(one != two && fnv1a(one.as_bytes()) == fnv1a(two.as_bytes()), "{one} {two}");
        assert_eq!(clash(&plan, &units, 1, "demo-0"), None);
    }

    #[test]
    fn the_hash_is_argos() {
        // From the reference vectors of FNV.
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
