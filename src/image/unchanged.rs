//! Environments whose images are all there: a look-up each, and nothing more is asked of the daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::{Image, Need, Origin, inspect, known, need, platform};
use crate::config::Context;
use crate::lock::Lock;
use crate::platform::docker::Remembered;
use crate::session::Project;

/// The images of these environments, if the daemon has each of them, for the platform that it is remembered to have.
/// `None` says nothing: another daemon may have come, or something be wrong.
pub(crate) fn unchanged(
    daemon: &Remembered,
    names: &[&str],
    of: (&Project, &Context, &Lock),
    store: &Path,
) -> Option<BTreeMap<String, Image>> {
    let platform = platform::docker(daemon.platform());
    let mut images = BTreeMap::new();
    for name in names {
        let began = Instant::now();
        let (reference, tag) = match need(name, of, store, daemon.platform()).ok()? {
            Need::Named(image) => (image.locked.reference(&image.name), None),
            Need::Built(wanted) => (wanted.reference, Some(wanted.tag)),
        };
        let image = daemon.block_on(inspect(daemon.client(), &reference, Origin::Found)).ok()??;
        if image.platform.as_ref() != Some(&platform) {
            return None;
        }
        if let Some(tag) = tag {
            known::remember(store, &tag, &image.id);
        }
        images.insert((*name).to_owned(), image.since(began));
    }
    Some(images)
}
