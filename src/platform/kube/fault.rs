//! What can go wrong with a cluster, told apart by what to do.

use std::error::Error;

use kube::client::AuthError;

use crate::error::CommandError;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// It cannot be reached, or is not well: later it may be.
    Unreachable,
    /// It does not know who asks, or not any more.
    Unauthorised,
    /// Who asks may not do that.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is one of that name.
    Exists,
    /// Argo Workflows is not there.
    NoArgo,
    /// There is no such namespace.
    NoNamespace,
    /// It takes the request for wrong.
    Refused,
}

/// Why a cluster did not do what it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// In its own words, or the network's.
    pub(crate) why: String,
}

impl Fault {
    /// As an error of what was being done.
    pub(crate) fn explain(&self, doing: &str, cluster: &str, namespace: &str) -> CommandError {
        let error = CommandError::missing(format!("cannot {doing} the cluster `{cluster}`")).cause(&self.why);
        match self.kind {
            FaultKind::Unreachable => error.hint("is it up, and is the network? `kubectl --context` with its name tells the same"),
            FaultKind::Unauthorised => error.hint("log in again: the token or certificate of the kubeconfig is not valid, or not any more"),
            FaultKind::Forbidden => error.hint(format!(
                "whoever runs the cluster can allow it in the namespace `{namespace}`: docs/argo-roles.yaml has what mlctl needs"
            )),
            FaultKind::NoArgo => error.hint(
                "Argo Workflows 4.0 must be installed there: its `install.yaml`, or `mlctl context create kind --with-argo` on a cluster of your own",
            ),
            FaultKind::NoNamespace => error.hint(format!(
                "`namespace` of the context names another one, or make it: `kubectl create namespace {namespace}`"
            )),
            FaultKind::Refused => error.hint("mlctl is made for Argo Workflows 4.0: does the cluster have another version?"),
            FaultKind::NotFound | FaultKind::Exists => error,
        }
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            let auth = chain(&error).any(|cause| cause.is::<AuthError>());
            let kind = if auth { FaultKind::Unauthorised } else { FaultKind::Unreachable };
            return Self { kind, why: innermost(&error) };
        };
        let of_namespace = status.details.as_ref().is_some_and(|details| details.kind == "namespaces");
        let kind = match status.code {
            401 => FaultKind::Unauthorised,
            403 => FaultKind::Forbidden,
            404 if of_namespace => FaultKind::NoNamespace,
            // Not a thing that is not there, but a kind of things.
            404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => FaultKind::NoArgo,
            404 => FaultKind::NotFound,
            409 => FaultKind::Exists,
            429 | 500.. => FaultKind::Unreachable,
            _ => FaultKind::Refused,
        };
        Self { kind, why: status.message.trim().to_owned() }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The innermost cause says most: `Connection refused`, `certificate has expired`.
fn innermost(error: &kube::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
