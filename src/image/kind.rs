//! Images in the nodes of a kind cluster: what a node lacks of them is sent to its containerd, by way of the daemon.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use serde_json::Value;

use super::executor::Executor;
use super::export::{self, Wanted};
use super::registry::Reference;
use crate::error::CommandError;
use crate::platform::docker::{self, Daemon};
use crate::platform::kind::{Cluster, Ended};

/// Of each image that is asked for and there: its name, the digest of its manifest, and the manifest in one line.
const LOOK: &str = r#"for name; do
  digest=$(ctr -n k8s.io images ls "name==$name" | awk 'NR == 2 { print $3 }')
  [ -z "$digest" ] || printf '%s\t%s\t%s\n' "$name" "$digest" "$(ctr -n k8s.io content get "$digest" | tr -d '\r\n')"
done"#;

/// Takes an archive in; prints the name of its image if that is there then. Of the settings of containerd only one names
/// a snapshotter that is used.
const IMPORT: &str = r#"snapshotter=$(containerd config dump | sed -n "s/^ *snapshotter = ['\"]\([a-z-]\{1,\}\)['\"]$/\1/p" | head -n 1)
ctr -n k8s.io images import ${snapshotter:+--snapshotter "$snapshotter"} - >&2 || exit
ctr -n k8s.io images ls -q "name==$1""#;

/// The digests of all that containerd has.
const CONTENT: &str = "exec ctr -n k8s.io content ls -q";

/// Between asking for an export and its first byte: older daemons write all of it to their disk before.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// What was sent of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Loaded {
    /// Bytes that were sent.
    pub(crate) sent: u64,
    /// Bytes of layers that were not, since the nodes have them.
    pub(crate) left_out: u64,
}

/// An image that a node has.
struct Held {
    /// The digest of its manifest.
    digest: String,
    /// The digest of its config.
    config: Option<String>,
}

/// What nodes call an image: with the registry that its name leaves out.
pub(crate) fn full_name(image: &str) -> Result<String, CommandError> {
    let reference = Reference::parse(image)?;
    let (host, path) = reference.repository();
    let rest = match (reference.digest, reference.tag) {
        (Some(digest), _) => format!("@{digest}"),
        (None, tag) => format!(":{}", tag.unwrap_or("latest")),
    };
    Ok(format!("{host}/{path}{rest}"))
}

/// Makes sure that every node has the executor's image; the bytes that were sent. Its name says its content, so what is
/// there is the same.
pub(crate) async fn load_executor(
    cluster: &Cluster<'_>,
    executor: &Executor,
    progress: &dyn Fn(u64),
) -> Result<u64, CommandError> {
    let name = full_name(&executor.name())?;
    let mut sent = 0;
    for node in &cluster.nodes {
        if held(cluster, node, &name).await?.is_none() {
            sent += import(cluster, node, &name, executor.archive(&name), progress).await?;
        }
    }
    Ok(sent)
}

/// Makes sure that every node has an image of the daemon's, called `name`. Where it has that very image nothing travels;
/// else the layers that it lacks.
pub(crate) async fn load_image(
    (daemon, cluster): (&Daemon, &Cluster<'_>),
    id: &str,
    name: &str,
    progress: &dyn Fn(u64),
) -> Result<Loaded, CommandError> {
    let name = full_name(name)?;
    let mut loaded = Loaded::default();
    for node in &cluster.nodes {
        // By either digest, daemons know images.
        let held = held(cluster, node, &name).await?;
        if held.is_some_and(|held| held.digest == id || held.config.as_deref() == Some(id)) {
            continue;
        }
        let there = Arc::new(content(cluster, node).await?);
        let sent = send_lacking((daemon, cluster), node, (id, &name), &there, progress).await?;
        loaded.sent += sent.sent;
        loaded.left_out += sent.left_out;
    }
    Ok(loaded)
}

/// The id of the image that is called `name`, where every node has it.
pub(crate) async fn id(cluster: &Cluster<'_>, name: &str) -> Result<Option<String>, CommandError> {
    let name = full_name(name)?;
    let mut ids = HashSet::new();
    for node in &cluster.nodes {
        match held(cluster, node, &name).await?.and_then(|held| held.config) {
            Some(id) => ids.insert(id),
            None => return Ok(None),
        };
    }
    Ok(ids.into_iter().next())
}

/// Sends an image to a node, but for what is there; all of it, where some of that is not there after all: what nothing used
/// any more may have been removed since it was asked for.
async fn send_lacking(
    (daemon, cluster): (&Daemon, &Cluster<'_>),
    node: &str,
    image: (&str, &str),
    there: &Arc<HashSet<String>>,
    progress: &dyn Fn(u64),
) -> Result<Loaded, CommandError> {
    match send(daemon, (cluster, node), image, there, progress).await {
        Err(error) if !there.is_empty() && error.to_string().contains("not found") => {
            send(daemon, (cluster, node), image, &Arc::default(), progress).await
        }
        sent => sent,
    }
}

/// Sends an image to a node, but for what is there.
async fn send(
    daemon: &Daemon,
    (cluster, node): (&Cluster<'_>, &str),
    (id, name): (&str, &str),
    there: &Arc<HashSet<String>>,
    progress: &dyn Fn(u64),
) -> Result<Loaded, CommandError> {
    let found = daemon.client().inspect_image(id).await;
    let found = found.map_err(|error| docker::failure(&format!("cannot look at the image `{name}`"), error))?;
    let layers = found.root_fs.and_then(|root| root.layers).unwrap_or_default();
    let wanted = Wanted { name: name.to_owned(), layers, there: Arc::clone(there) };
    let client = daemon.client().clone().with_timeout(SILENCE);
    let export = client.export_image(id).map_err(|error| io::Error::other(docker::reason(&error)));
    let left_out = Arc::new(AtomicU64::new(0));
    let archive = export::rewritten(export, wanted, Arc::clone(&left_out));
    let sent = import(cluster, node, name, archive, progress).await?;
    Ok(Loaded { sent, left_out: left_out.load(Ordering::Relaxed) })
}

/// What containerd has, in the node.
async fn content(cluster: &Cluster<'_>, node: &str) -> Result<HashSet<String>, CommandError> {
    let ended = cluster.exec(node, &["sh", "-c", CONTENT], stream::empty()).await?;
    Ok(succeeded(node, "list what there is", ended)?.lines().map(str::to_owned).collect())
}

/// The image of that name, if the node has it.
async fn held(cluster: &Cluster<'_>, node: &str, name: &str) -> Result<Option<Held>, CommandError> {
    let ended = cluster.exec(node, &["sh", "-c", LOOK, "sh", name], stream::empty()).await?;
    let out = succeeded(node, "look for an image", ended)?;
    let mut fields = out.trim_end().splitn(3, '\t').skip(1);
    let Some(digest) = fields.next() else { return Ok(None) };
    let manifest: Option<Value> = fields.next().and_then(|manifest| serde_json::from_str(manifest).ok());
    let config = manifest.and_then(|manifest| Some(manifest.get("config")?.get("digest")?.as_str()?.to_owned()));
    Ok(Some(Held { digest: digest.to_owned(), config }))
}

/// Sends an archive with the image of that name to a node; how many bytes it has.
async fn import(
    cluster: &Cluster<'_>,
    node: &str,
    name: &str,
    archive: impl Stream<Item = io::Result<Bytes>>,
    progress: &dyn Fn(u64),
) -> Result<u64, CommandError> {
    let sent = Cell::new(0);
    let archive = archive.inspect_ok(|chunk| {
        sent.set(sent.get() + chunk.len() as u64);
        progress(sent.get());
    });
    let ended = cluster.exec(node, &["sh", "-c", IMPORT, "sh", name], archive).await?;
    let said = succeeded(node, "load an image", ended)?;
    if said.trim() != name {
        return Err(CommandError::missing(format!("the node `{node}` did not take the image `{name}`"))
            .hint("is it for the node's platform?"));
    }
    Ok(sent.get())
}

/// What a program in a node printed, if it went well.
fn succeeded(node: &str, what: &str, ended: Ended) -> Result<String, CommandError> {
    if ended.code == 0 {
        return Ok(String::from_utf8_lossy(&ended.out).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.err);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it did not say why");
    let error = CommandError::missing(format!("cannot {what} in the node `{node}`")).cause(format!(
        "ctr ended with {}: {}",
        ended.code,
        last.trim()
    ));
    Err(if said.contains("no space left on device") {
        error.hint("`docker system df` shows what takes the space of the node")
    } else {
        error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_since_it_was_asked_for_is_sent_after_all() {
        let Ok(cluster) = std::env::var("MLCTL_TESTBED_CLUSTER") else {
            return eprintln!("SKIPPED: no cluster of the test bed");
        };
        let daemon = Daemon::connect().unwrap();
        // An image with a layer that no node has.
        let own = format!("mlctl-test/kind-{}:1", std::process::id());
        let script = format!(
            "c=$(docker create busybox:1.35 true) && \
             echo {own} >/tmp/{0} && docker cp -q /tmp/{0} $c:/own && docker commit $c {own} && docker rm $c && rm /tmp/{0}",
            own.replace(['/', ':'], "-")
        );
        let made = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let image = daemon.block_on(daemon.client().inspect_image(&own)).unwrap();
        let (id, layers) = (image.id.unwrap(), image.root_fs.unwrap().layers.unwrap());
        let name = full_name(&own).unwrap();
        let done = daemon.block_on(async {
            let nodes = Cluster::find(&daemon, &cluster).await.unwrap();
            let node = nodes.nodes[0].as_str();
            // As if the node had them all.
            let there = Arc::new(layers.into_iter().collect());
            let cut = send(&daemon, (&nodes, node), (&id, &name), &there, &|_| {}).await;
            let whole = send_lacking((&daemon, &nodes), node, (&id, &name), &there, &|_| {}).await;
            let held = held(&nodes, node, &name).await.unwrap();
            nodes.exec(node, &["ctr", "-n", "k8s.io", "images", "rm", &name], stream::empty()).await.unwrap();
            (cut, whole, held)
        });
        let _ = std::process::Command::new("docker").args(["rmi", "-f", &own]).output();
        let (cut, whole, held) = done;
        assert!(cut.is_err_and(|error| error.to_string().contains("not found")));
        assert_eq!(whole.unwrap().left_out, 0);
        assert_eq!(held.and_then(|held| held.config), Some(id));
    }
}
