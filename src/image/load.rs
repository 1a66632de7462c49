//! The images of environments, and the executor's, in the nodes of a kind cluster.

use std::collections::BTreeMap;
use std::time::Instant;

use super::executor::{self, Executor};
use super::progress::{Event, Watch};
use super::{Builder, Delivered, Image, Origin, interrupt, kind, tag};
use crate::error::CommandError;
use crate::platform::docker::Daemon;
use crate::platform::kind::Cluster;

/// The executor's image in the nodes of the kind cluster of that name; how many bytes were sent.
pub(crate) fn load_executor(
    daemon: &Daemon,
    cluster: &str,
    image: &Executor,
    watch: &Watch<'_>,
) -> Result<u64, CommandError> {
    let progress = |sent| watch(executor::PROGRAM, Event::Loading(sent));
    let loading = async {
        let cluster = Cluster::find(daemon, cluster).await?;
        kind::load_executor(&cluster, image, &progress).await
    };
    let sent = interrupt::unless(daemon.runtime(), loading)??;
    watch(executor::PROGRAM, Event::Loaded { sent, left_out: 0 });
    Ok(sent)
}

impl Builder<'_> {
    /// The nodes of the kind cluster of that name.
    pub(crate) fn cluster(&self, name: &str) -> Result<Cluster<'_>, CommandError> {
        self.daemon.block_on(Cluster::find(self.daemon, name))
    }

    /// The images of these environments (the empty name: of steps without one) in the nodes of a cluster: what they have
    /// already is not built, of the rest the layers that they lack are sent.
    pub(crate) fn load(
        &self,
        cluster: &Cluster<'_>,
        names: &[&str],
    ) -> Result<BTreeMap<String, Delivered>, CommandError> {
        self.each(names, async |name| self.loaded(cluster, name).await)
    }

    async fn loaded(&self, cluster: &Cluster<'_>, name: &str) -> Result<Delivered, CommandError> {
        let began = Instant::now();
        if let Some(image) = self.other(name)? {
            let reference = tag::of_image(&image.name, &image.locked);
            let image = self.fetched(&image.name, &image).await?;
            return self.load_image(cluster, name, image, &reference, began).await;
        }
        let wanted = self.want(name)?;
        // What the daemon has lost need not be built again.
        if !self.how.no_cache
            && self.find(&wanted).await?.is_none()
            && let Some(id) = kind::id(cluster, &wanted.reference).await?
        {
            let (reference, took) = (wanted.reference, began.elapsed());
            let id = Some(id);
            return Ok(Delivered { reference, id, digest: None, origin: Origin::Found, took, sent: Some(0) });
        }
        let image = self.built(name, &wanted).await?;
        self.load_image(cluster, name, image, &wanted.reference, began).await
    }

    async fn load_image(
        &self,
        cluster: &Cluster<'_>,
        subject: &str,
        image: Image,
        name: &str,
        began: Instant,
    ) -> Result<Delivered, CommandError> {
        let tell = |event: Event<'_>| (self.watch)(subject, event);
        let progress = |sent| tell(Event::Loading(sent));
        let loaded = kind::load_image((self.daemon, cluster), &image.id, name, &progress).await?;
        let kind::Loaded { sent, left_out } = loaded;
        tell(Event::Loaded { sent, left_out });
        let Image { id, digest, origin, .. } = image;
        let reference = name.to_owned();
        Ok(Delivered { reference, id: Some(id), digest, origin, took: began.elapsed(), sent: Some(sent) })
    }
}
