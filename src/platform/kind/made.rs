//! Clusters that mlctl makes, by the `kind` command.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::error::CommandError;

/// How long the nodes may take to be ready.
const PATIENCE: &str = "--wait=300s";

/// The cluster that is made for a context: `mlctl` for the one that is called `kind`.
pub(crate) fn cluster_for(context: &str) -> String {
    if context == "kind" { "mlctl".to_owned() } else { format!("mlctl-{}", context.replace('_', "-")) }
}

/// The names of the clusters that there are.
pub(crate) fn clusters() -> Result<Vec<String>, CommandError> {
    let said = kind(&["get", "clusters"], "", "cannot list the kind clusters")?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Makes a cluster, and an entry in the kubeconfig. What kind said of it.
pub(crate) fn create(cluster: &str, image: Option<&str>, config: &Value) -> Result<String, CommandError> {
    let mut arguments = vec!["create", "cluster", "--name", cluster, "--config", "-", PATIENCE];
    arguments.extend(image.into_iter().flat_map(|image| ["--image", image]));
    kind(&arguments, &config.to_string(), &format!("cannot make the kind cluster `{cluster}`"))
}

/// Removes a cluster, and its entry in the kubeconfig.
pub(crate) fn delete(cluster: &str) -> Result<(), CommandError> {
    let what = format!("cannot remove the kind cluster `{cluster}`");
    kind(&["delete", "cluster", "--name", cluster], "", &what).map(drop)
}

/// kind's configuration, of which `text` is the user's, with a directory of this machine at the same place in every node.
pub(crate) fn config(text: &str, directory: &Path) -> Result<Value, String> {
    let parsed: Option<Value> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut config = match parsed {
        None => Map::new(),
        Some(Value::Object(config)) => config,
        Some(_) => return Err("it is not a table".to_owned()),
    };
    config.entry("kind").or_insert_with(|| json!("Cluster"));
    config.entry("apiVersion").or_insert_with(|| json!("kind.x-k8s.io/v1alpha4"));
    let nodes = config.entry("nodes").or_insert(Value::Null);
    if nodes.is_null() {
        *nodes = json!([{ "role": "control-plane" }]);
    }
    for node in nodes.as_array_mut().ok_or("its `nodes` is no list")? {
        let node = node.as_object_mut().ok_or("a node of it is no table")?;
        let mounts = node.entry("extraMounts").or_insert(Value::Null);
        if mounts.is_null() {
            *mounts = json!([]);
        }
        let mounts = mounts.as_array_mut().ok_or("the `extraMounts` of a node is no list")?;
        mounts.push(json!({ "hostPath": directory, "containerPath": directory }));
    }
    Ok(config.into())
}

/// Runs `kind`, and gives what it said.
fn kind(arguments: &[&str], input: &str, what: &str) -> Result<String, CommandError> {
    let cannot = || CommandError::missing(what);
    let mut command = Command::new("kind");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => cannot()
            .cause("there is no `kind` command")
            .hint("install it (https://kind.sigs.k8s.io), and `docker`, which it runs"),
        _ => cannot().because(&error),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // That it does not read all of it is told by how it ends.
        let _ = stdin.write_all(input.as_bytes());
    }
    let ended = child.wait_with_output().map_err(|error| cannot().because(&error))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    if ended.status.success() {
        let out = String::from_utf8_lossy(&ended.stdout);
        return Ok(if out.trim().is_empty() { said.into_owned() } else { out.into_owned() });
    }
    let said: Vec<&str> = said.trim().lines().collect();
    // What happened before it failed, and the traces of its own code, help nobody.
    let fault = said.iter().find(|line| line.starts_with("ERROR")).or(said.last()).copied();
    Err(cannot().cause(format!("kind: {}", fault.unwrap_or("it did not say why").trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_mounted_in_every_node() {
        let mount = json!({ "hostPath": "/s", "containerPath": "/s" });
        let made = |text: &str| config(text, Path::new("/s"));
        let bare = made("").unwrap();
        assert_eq!(bare["nodes"], json!([{ "role": "control-plane", "extraMounts": [mount] }]));
        assert_eq!(bare["kind"], "Cluster");
        let own = made(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: { disableDefaultCNI: true }\nnodes:\n\
             - role: control-plane\n  extraMounts: [{ hostPath: /a, containerPath: /b }]\n- role: worker\n\
             kubeadmConfigPatches:\n- |\n  kind: KubeletConfiguration\n  failCgroupV1: false\n",
        );
        let own = own.unwrap();
        assert_eq!(own["nodes"][0]["extraMounts"][1], mount);
        assert_eq!(own["nodes"][1]["extraMounts"], json!([mount]));
        assert_eq!(own["kubeadmConfigPatches"][0], "kind: KubeletConfiguration\nfailCgroupV1: false\n");
        for text in ["[]", "nodes: 1", "nodes: [a]", "nodes: [{ extraMounts: a }]", "a: [", "a: 1\n---\nb: 2"] {
            assert!(made(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clusters_are_called_after_their_contexts() {
        assert_eq!((cluster_for("kind"), cluster_for("my_own")), ("mlctl".to_owned(), "mlctl-my-own".to_owned()));
    }
}
