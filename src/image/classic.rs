//! What is different where the daemon has no BuildKit: the classic builder knows no mounts, so no secrets and no ssh.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use mlctl_core::diag::Diag;

use super::progress::Event;
use super::recipe::Recipe;
use super::{Builder, dockerfile, registry};
use crate::error::CommandError;

/// Says once that the classic builder is used, and refuses what it cannot do.
pub(super) fn check(builder: &Builder<'_>, recipe: &Recipe) -> Result<(), CommandError> {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        let text = format!(
            "the daemon at {} builds without BuildKit: slower, and without caches for packages",
            builder.daemon
        );
        (builder.watch)(&recipe.environment, Event::Warning(&text));
    });
    let what = match (recipe.secrets().is_empty(), recipe.ssh()) {
        (false, _) => "secrets",
        (_, true) => "your ssh agent",
        _ => return Ok(()),
    };
    let message = format!("the build of environment `{}` uses {what}, for which it takes BuildKit", recipe.environment);
    let diag = Diag::error("needs-buildkit", recipe.span, message)
        .label(format!("the daemon at {} builds without it", builder.daemon))
        .help("Docker 18.09 and later have it; `DOCKER_BUILDKIT=0` turns it off");
    Err(CommandError::diags(builder.project.source.clone(), vec![diag]))
}

/// The user's credentials for the registries that a Dockerfile names, as the header that the classic builder reads.
pub(super) async fn registries(text: &str) -> Result<Option<String>, CommandError> {
    let names = dockerfile::images(&dockerfile::instructions(text));
    let found = tokio::task::spawn_blocking(move || {
        let mut all = BTreeMap::new();
        for name in names {
            let Some(host) = registry::host(&name) else { continue };
            if let Some(credentials) = registry::credentials(&host)? {
                all.insert(credentials.serveraddress.clone().unwrap_or(host), credentials);
            }
        }
        Ok(all)
    });
    let found: BTreeMap<_, _> = found.await.unwrap_or_else(|_| Ok(BTreeMap::new()))?;
    // Texts always have a JSON form.
    let header = || URL_SAFE.encode(serde_json::to_vec(&found).unwrap_or_default());
    Ok((!found.is_empty()).then(header))
}
