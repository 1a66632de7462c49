//! What whoever looks for trouble asks a cluster.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Cluster, Fault, absent};

/// Argo's controller, by the label that its own manifests give it.
const CONTROLLER: &str = "/apis/apps/v1/deployments?labelSelector=app%3Dworkflow-controller";

impl Cluster {
    /// The version of Kubernetes, as it writes it: `v1.36.3`.
    pub(crate) fn version(&self) -> Result<String, Fault> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            git_version: String,
        }
        self.get::<Version>("/version").map(|version| version.git_version)
    }

    /// The version of Argo's controller, by the tag of its image; `None`: none is seen, or it has no tag.
    pub(crate) fn argo_version(&self) -> Result<Option<String>, Fault> {
        let found: serde_json::Value = self.get(CONTROLLER)?;
        let image = found.pointer("/items/0/spec/template/spec/containers/0/image").and_then(|image| image.as_str());
        let tag = image.and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag);
        Ok(tag.filter(|tag| !tag.contains('/')).map(str::to_owned))
    }

    /// Whether whoever asks may do that in the namespace: `create`, of the API group `argoproj.io`, `workflows`.
    pub(crate) fn may(&self, verb: &str, group: &str, resource: &str) -> Result<bool, Fault> {
        #[derive(Deserialize)]
        struct Review {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            allowed: bool,
        }
        let asked = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": { "namespace": self.namespace, "verb": verb, "group": group, "resource": resource } },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let review: Review = self.send(Method::POST, path, "application/json", asked.to_string().into_bytes())?;
        Ok(review.status.allowed)
    }

    /// Whether there is something of that name among the core things of the namespace: `secrets`, `serviceaccounts`.
    pub(crate) fn exists(&self, kind: &str, name: &str) -> Result<bool, Fault> {
        let path = format!("/api/v1/namespaces/{}/{kind}/{name}", self.namespace);
        absent(self.get::<serde::de::IgnoredAny>(&path)).map(|found| found.is_some())
    }
}
