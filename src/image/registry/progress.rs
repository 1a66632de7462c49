//! How far a transfer is: the sum over its layers.

use std::collections::HashMap;

use bollard::models::ProgressDetail;

use super::reference::is_digest;
use crate::ui::size;

/// What the daemon tells.
pub(super) struct Message {
    /// The layer that it is about. A push does not say.
    pub(super) layer: Option<String>,
    /// What happens to it, or a line about the whole.
    pub(super) status: Option<String>,
    /// How many bytes, of how many.
    pub(super) detail: Option<ProgressDetail>,
}

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Bytes that are over, and all, of each. Where layers have no names their sizes tell them apart well enough.
    bytes: HashMap<String, (u64, u64)>,
    /// The digest that the registry knows the image by.
    pub(super) digest: Option<String>,
}

impl Layers {
    /// Takes a message in; what to show, if that changes it.
    pub(super) fn take(&mut self, message: Message) -> Option<String> {
        let status = message.status.unwrap_or_default();
        // `latest: digest: sha256:... size: 528`, and `Digest: sha256:...`
        let told = status.to_ascii_lowercase();
        let digest = told.split_once("digest: ").and_then(|(_, rest)| rest.split_whitespace().next());
        self.digest = digest.filter(|digest| is_digest(digest)).map(str::to_owned).or_else(|| self.digest.take());
        // Each layer is told of twice: what arrives counts, unpacking it does not.
        if status != "Downloading" && status != "Pushing" {
            return None;
        }
        let detail = message.detail?;
        let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let (current, total) = (number(detail.current)?, number(detail.total)?);
        let layer = message.layer.unwrap_or_else(|| total.to_string());
        self.bytes.insert(layer, (current.min(total), total));
        let (current, total) = self.bytes.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Some(format!("{} of {}", size(current), size(total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(layer: Option<&str>, status: &str, bytes: Option<(i64, i64)>) -> Message {
        let detail = bytes.map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) });
        Message { layer: layer.map(str::to_owned), status: Some(status.to_owned()), detail }
    }

    #[test]
    fn layers_add_up_and_the_digest_is_kept() {
        let mut layers = Layers::default();
        assert_eq!(layers.take(message(Some("a"), "Downloading", Some((500, 1000)))), Some("500 B of 1000 B".into()));
        assert_eq!(layers.take(message(Some("b"), "Downloading", Some((0, 1048)))), Some("500 B of 2.0 KiB".into()));
        assert_eq!(layers.take(message(Some("a"), "Extracting", Some((1, 1000)))), None);
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(layers.take(message(None, &format!("latest: digest: {digest} size: 528"), None)), None);
        assert_eq!(layers.take(message(None, "Status: Downloaded newer image", None)), None);
        assert_eq!(layers.digest, Some(digest));
    }
}
