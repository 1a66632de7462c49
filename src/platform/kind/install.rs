//! What a cluster of kind's needs for runs, put there by the `kubectl` that its nodes have.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::Cluster;
use crate::error::CommandError;

/// The service account of pods, and who may do what.
const ROLES: &str = include_str!("../../../docs/argo-roles.yaml");
/// The service account among them.
pub(crate) const SERVICE_ACCOUNT: &str = "mlctl-pods";
/// Where Argo's controller is, as its manifests want it.
const ARGO: &str = "argo";
/// The image of Argo's controller, and that of its executor, which the manifests do not name.
const CONTROLLER: (&str, &str) = ("/workflow-controller:", "/argoexec:");

impl Cluster<'_> {
    /// Whether the cluster answers.
    pub(crate) async fn is_ready(&self) -> Result<bool, CommandError> {
        let ended = self.kubectl(&["get", "--raw", "/readyz"], "").await;
        Ok(ended.is_ok())
    }

    /// Makes a namespace in which the pods of runs may tell Argo how they ended.
    pub(crate) async fn prepare(&self, namespace: &str) -> Result<(), CommandError> {
        self.namespace(namespace).await?;
        self.apply(&["--namespace", namespace], ROLES).await
    }

    /// Installs Argo Workflows from its manifests, and waits until it works.
    pub(crate) async fn install_argo(&self, manifests: &str) -> Result<(), CommandError> {
        self.namespace(ARGO).await?;
        self.apply(&["--namespace", ARGO], manifests).await?;
        let wait = ["rollout", "status", "deployment/workflow-controller", "--namespace", ARGO, "--timeout=300s"];
        self.kubectl(&wait, "").await.map(drop).map_err(|error| {
            error.hint(
                "`kubectl --namespace argo get pods` shows what its controller waits for: can the node pull its image?",
            )
        })
    }

    async fn namespace(&self, name: &str) -> Result<(), CommandError> {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.apply(&[], &namespace.to_string()).await
    }

    async fn apply(&self, arguments: &[&str], manifests: &str) -> Result<(), CommandError> {
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        self.kubectl(&[arguments, &apply].concat(), manifests).await.map(drop)
    }

    async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, CommandError> {
        let [node, ..] = self.nodes.as_slice() else { return Err(CommandError::missing("the cluster has no node")) };
        // Nodes are called after their role; workers have no configuration of administrators.
        let node = self.nodes.iter().find(|node| node.ends_with("-control-plane")).unwrap_or(node);
        let command = [&["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"], arguments].concat();
        let input: io::Result<Bytes> = Ok(Bytes::copy_from_slice(input.as_bytes()));
        let ended = self.exec(node, &command, stream::iter([input])).await?;
        if ended.code == 0 {
            return Ok(String::from_utf8_lossy(&ended.out).into_owned());
        }
        let said = String::from_utf8_lossy(&ended.err);
        let words: Vec<&str> = arguments.iter().filter(|word| !word.starts_with('-')).copied().collect();
        Err(CommandError::missing(format!("`kubectl {}` failed in the cluster", words.join(" ")))
            .cause(said.trim().lines().last().unwrap_or("it did not say why")))
    }
}

/// The images that manifests of Argo name, and that of its executor.
pub(crate) fn images(manifests: &str) -> BTreeSet<String> {
    let named = manifests.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"));
    let named = named.map(|image| image.trim().trim_matches(['"', '\'']).to_owned());
    named.flat_map(|image| [image.replace(CONTROLLER.0, CONTROLLER.1), image]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_of_argo_are_known() {
        let manifests = "spec:\n  containers:\n  - image: quay.io/argoproj/workflow-controller:v4.0.7\n    imagePullPolicy: x\n  - name: a\n    image: \"b:1\"\n";
        let expected = ["b:1", "quay.io/argoproj/argoexec:v4.0.7", "quay.io/argoproj/workflow-controller:v4.0.7"];
        assert_eq!(images(manifests).iter().collect::<Vec<_>>(), expected);
    }
}
