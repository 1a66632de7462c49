//! What of a lock is needed.

use std::collections::{BTreeMap, BTreeSet};

use mlctl_core::diag::Span;
use mlctl_core::workflow::{InputFrom, Step, Workflow};

use super::LockedUrl;

/// What must have a current entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted<'a> {
    /// Names of environments.
    pub(crate) environments: BTreeSet<&'a str>,
    /// The environments, and `None` for steps without one, whose containers begin with a base image.
    pub(crate) bases: BTreeSet<Option<&'a str>>,
    /// Inputs by URL.
    pub(crate) urls: BTreeMap<&'a str, UrlInput<'a>>,
    /// Whether that is all there is: other entries are forgotten.
    pub(crate) whole: bool,
}

/// An input that is a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlInput<'a> {
    /// The SHA-256 that the spec states.
    pub(crate) sha256: Option<&'a str>,
    /// Where it stands in the spec.
    pub(crate) span: Span,
}

impl<'a> Wanted<'a> {
    /// What these steps use, as far as keys depend on it: base images are needed only where something runs.
    pub(crate) fn by(steps: impl IntoIterator<Item = &'a Step>) -> Self {
        let mut wanted = Self::default();
        for step in steps {
            wanted.environments.extend(step.environment.as_deref());
            for input in &step.inputs {
                let InputFrom::Url { url, sha256 } = &input.from else { continue };
                let known = wanted.urls.entry(url).or_insert(UrlInput { sha256: None, span: input.span });
                if known.sha256.is_none() {
                    *known = UrlInput { sha256: sha256.as_deref(), span: input.span };
                }
            }
        }
        wanted
    }

    /// Everything in a spec, whether a step uses it or not.
    pub(crate) fn all(workflow: &'a Workflow) -> Self {
        let environments = workflow.environments.keys().map(String::as_str);
        let bare = workflow.steps.iter().any(|step| step.environment.is_none()).then_some(None);
        let bases = environments.clone().map(Some).chain(bare).collect();
        Self { environments: environments.collect(), bases, whole: true, ..Self::by(&workflow.steps) }
    }
}

impl UrlInput<'_> {
    /// Whether what is locked is what the spec states.
    pub(crate) fn is_met_by(&self, locked: &LockedUrl) -> bool {
        self.sha256.is_none_or(|stated| stated.eq_ignore_ascii_case(&locked.sha256))
    }

    /// What was found, if it is what the spec states.
    pub(crate) fn verify(&self, found: LockedUrl) -> Result<LockedUrl, String> {
        if self.is_met_by(&found) {
            return Ok(found);
        }
        Err(format!("its SHA-256 is {}, not the one that the spec states", found.sha256))
    }
}
