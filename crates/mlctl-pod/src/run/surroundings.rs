//! What a step finds in its container: the image's variables, without what a cluster adds, and the secrets it names.

use std::collections::BTreeMap;

use mlctl_core::action::Task;
use mlctl_core::digest::Digest;
use mlctl_core::plan::Plan;
use mlctl_core::units::Share;
use mlctl_exec::Realised;

/// The variable that holds the pod's UID.
const POD: &str = "MLCTL_POD";

/// The container's.
pub(super) struct Surroundings {
    /// The pod's UID.
    pub(super) pod: String,
    /// The image's variables.
    base: BTreeMap<String, String>,
    /// The values of the secrets that steps of the unit name.
    secrets: BTreeMap<String, String>,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn of(plan: &Plan, share: &Share) -> Self {
        let all: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let names = share.steps.iter().flat_map(|step| &plan.step(*step).secrets);
        let secrets: BTreeMap<String, String> =
            names.filter_map(|name| Some((name.clone(), all.get(name)?.clone()))).collect();
        // Where no cluster gives one, every process is a pod of its own.
        let own =
            || Digest::of(format!("{:?}", (std::process::id(), std::time::SystemTime::now())).as_bytes()).to_hex();
        let pod = all.get(POD).cloned().unwrap_or_else(own);
        let base = all.iter().filter(|(name, _)| !secrets.contains_key(*name) && !is_of_cluster(&all, name));
        Self { pod, base: base.map(|(name, value)| (name.clone(), value.clone())).collect(), secrets }
    }

    /// How the environment of a step is entered.
    pub(super) fn realised(&self) -> Realised {
        Realised { base: self.base.clone(), ..Realised::default() }
    }

    /// The secrets of a task.
    pub(super) fn secrets(&self, task: &Task) -> BTreeMap<String, String> {
        task.secrets.iter().filter_map(|name| Some((name.clone(), self.secrets.get(name)?.clone()))).collect()
    }
}

/// Whether Kubernetes or Argo set a variable, rather than the image.
fn is_of_cluster(all: &BTreeMap<String, String>, name: &str) -> bool {
    let of_service = |end: usize| all.contains_key(&format!("{}_SERVICE_HOST", &name[..end]));
    let is_of_service = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|part| {
        name.match_indices(part).any(|(at, _)| {
            let rest = &name[at + part.len()..];
            (rest.is_empty() || rest.starts_with('_')) && of_service(at)
        })
    });
    is_of_service
        || name.starts_with("KUBERNETES_")
        || name.starts_with("ARGO_")
        || ["HOSTNAME", "HOME", "PWD", POD].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_adds_is_told_from_what_an_image_has() {
        let names = [
            "KUBERNETES_SERVICE_HOST",
            "DB_SERVICE_HOST",
            "DB_SERVICE_PORT",
            "DB_SERVICE_PORT_HTTPS",
            "DB_PORT",
            "DB_PORT_5432_TCP_ADDR",
            "ARGO_TEMPLATE",
            "HOSTNAME",
            "MLCTL_POD",
        ];
        let own = ["MY_PORT", "PORT", "PATH", "DB_NAME", "DB_PORTAL", "NVIDIA_VISIBLE_DEVICES"];
        let all = names.iter().chain(&own).map(|name| ((*name).to_owned(), String::new())).collect();
        assert!(names.iter().all(|name| is_of_cluster(&all, name)));
        let lost: Vec<&&str> = own.iter().filter(|name| is_of_cluster(&all, name)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
