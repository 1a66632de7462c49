//! `mlctl context create kind`, and `mlctl context delete`, which undoes it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use toml_edit::{InlineTable, Table, value};

use super::complete;
use crate::config::file::UserFile;
use crate::error::CommandError;
use crate::image;
use crate::platform::docker::Daemon;
use crate::platform::kind::install::{SERVICE_ACCOUNT, images};
use crate::platform::kind::{self, Cluster, made};
use crate::platform::{http, machine};
use crate::session::{Session, open_store, user_config_name};
use crate::ui::{Format, prompt};

/// The manifests of the version that mlctl is made for.
const ARGO: &str = "https://github.com/argoproj/argo-workflows/releases/download/v4.0.7/install.yaml";
/// Where runs are.
const NAMESPACE: &str = "mlctl";
/// Pods of one fan-out at a time, for each CPU: more only wait for one another.
const PODS_A_CPU: usize = 4;

/// What to make.
#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// Make a kind cluster on this machine, with the store mounted in it, and the context to run there.
    Kind(KindArgs),
}

/// The arguments of `mlctl context create kind`.
#[derive(Debug, Args)]
pub(crate) struct KindArgs {
    /// What the context is to be called.
    #[arg(value_name = "NAME", default_value = "kind")]
    name: String,
    /// Install Argo Workflows in the cluster.
    #[arg(long)]
    with_argo: bool,
    /// Its manifests [default: those of v4.0.7 of the project's own release].
    #[arg(long, value_name = "FILE|URL", requires = "with_argo")]
    argo_manifests: Option<String>,
    /// The image of the nodes.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A configuration for kind: the store's mount is added to it.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
}

/// The arguments of `mlctl context delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The context, and with it its cluster.
    #[arg(value_name = "NAME", add = complete::contexts())]
    name: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Makes a cluster, and the context.
pub(super) fn create(session: &Session, command: CreateCommand) -> Result<(), CommandError> {
    let CreateCommand::Kind(args) = command;
    let KindArgs { name, with_argo, argo_manifests, image, config } = args;
    let cluster = made::cluster_for(&name);
    let kube_context = format!("kind-{cluster}");
    // Whatever can be wrong is found before anything is made.
    let mut file = UserFile::read()?;
    check_name(&file, &name, &kube_context)?;
    let store = open_store()?;
    let directory = store.root().canonicalize();
    let directory = directory.map_err(|error| CommandError::missing("cannot use the store").because(&error))?;
    let config = kind_config(config.as_deref(), &directory)?;
    let manifests = with_argo.then(|| manifests(argo_manifests.as_deref().unwrap_or(ARGO), &directory)).transpose()?;
    let exists = made::clusters()?.contains(&cluster);
    let daemon = Daemon::connect()?;

    if exists {
        daemon.block_on(check_cluster(&daemon, (&name, &cluster), &directory))?;
        session.ui.note(&format!("the kind cluster `{cluster}` is there"));
    } else {
        session.ui.note(&format!("making the kind cluster `{cluster}`: that takes a minute or two"));
        session.ui.detail(&made::create(&cluster, image.as_deref(), &config)?);
    }
    daemon.block_on(async {
        let nodes = Cluster::find(&daemon, &cluster).await?;
        nodes.prepare(NAMESPACE).await?;
        let Some(manifests) = &manifests else { return Ok(()) };
        session.ui.note("installing Argo Workflows");
        load_images(&daemon, &nodes, manifests).await?;
        nodes.install_argo(manifests).await
    })?;
    let known = file.has(&name);
    if !known {
        let comment =
            format!("Made by `mlctl context create kind`; `mlctl context delete {name}` removes it and its cluster.");
        file.add(&name, &comment, context(&kube_context, &directory))?;
    }
    match session.ui.format {
        Format::Json => session.ui.json(&json!({ "name": name, "cluster": cluster, "kube-context": kube_context })),
        Format::Name => session.ui.result(&format!("{name}\n")),
        Format::Text => {
            let written = if known { "is in" } else { "was added to" };
            session.ui.note(&format!("the context `{name}` {written} `{}`", user_config_name()));
            if !with_argo && !exists {
                session.ui.note("runs need Argo Workflows there: `--with-argo` installs it");
            }
            session.ui.note(&format!("`mlctl run --context {name}` runs there"));
            Ok(())
        }
    }
}

/// A name that nobody uses for something else.
fn check_name(file: &UserFile, name: &str, kube_context: &str) -> Result<(), CommandError> {
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if !valid || ["local", "docker"].contains(&name) {
        return Err(CommandError::usage(format!("a context for a cluster cannot be called `{name}`")).hint(
            "it begins with a letter; then come small letters, digits, `_` and `-`; `local` and `docker` are taken",
        ));
    }
    match file.kube_context(name) {
        _ if !file.has(name) => Ok(()),
        Some(found) if found == kube_context => Ok(()),
        _ => Err(CommandError::usage(format!("`{}` has a context `{name}` already", user_config_name()))
            .cause(format!("its kube-context is not `{kube_context}`"))
            .hint("choose another name: `mlctl context create kind NAME`")),
    }
}

/// What kind is told.
fn kind_config(file: Option<&Path>, directory: &Path) -> Result<Value, CommandError> {
    let Some(file) = file else {
        return made::config("", directory).map_err(CommandError::failed);
    };
    let what = format!("cannot use kind's configuration {}", file.display());
    let text = fs::read_to_string(file).map_err(|error| CommandError::missing(what.clone()).because(&error))?;
    made::config(&text, directory).map_err(|why| CommandError::usage(what).cause(why))
}

/// Argo's manifests, from a file or the network.
fn manifests(place: &str, store: &Path) -> Result<String, CommandError> {
    let what = format!("cannot read Argo's manifests from {place}");
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|error| CommandError::missing(what.clone()).because(&error));
    if !place.contains("://") {
        return read(Path::new(place));
    }
    let file = tempfile::NamedTempFile::new_in(store.join("tmp"));
    let file = file.map_err(|error| CommandError::missing("cannot write to the store").because(&error))?;
    http::download(place, file.path(), &|_, _| {}).map_err(|why| {
        CommandError::missing(what.clone()).cause(why).hint("`--argo-manifests FILE` takes them from a file")
    })?;
    read(file.path())
}

/// A cluster that is there already must be one of ours: it has the store.
async fn check_cluster(daemon: &Daemon, (name, cluster): (&str, &str), directory: &Path) -> Result<(), CommandError> {
    let nodes = Cluster::find(daemon, cluster).await?;
    let remedy =
        format!("`mlctl context delete {name}` removes it; `mlctl context create kind NAME` makes another one");
    if let Some(node) = nodes.without(directory).await? {
        return Err(CommandError::usage(format!("there is a kind cluster `{cluster}` already"))
            .cause(format!("its node `{node}` does not have the store mounted, {}", directory.display()))
            .hint(remedy));
    }
    if nodes.is_ready().await? {
        return Ok(());
    }
    Err(CommandError::missing(format!("the kind cluster `{cluster}` is there and does not answer")).hint(remedy))
}

/// Nodes need not pull what the daemon has.
async fn load_images(daemon: &Daemon, nodes: &Cluster<'_>, manifests: &str) -> Result<(), CommandError> {
    for name in images(manifests) {
        if let Ok(found) = daemon.client().inspect_image(&name).await {
            image::kind::load_image((daemon, nodes), &found.id.unwrap_or_default(), &name, &|_| {}).await?;
        }
    }
    Ok(())
}

/// What stands in the user's file.
fn context(kube_context: &str, directory: &Path) -> Table {
    let mut store = InlineTable::new();
    store.insert("url", format!("file://{}", directory.display()).into());
    let mut context = Table::new();
    for (key, item) in [
        ("engine", value("argo")),
        ("kube-context", value(kube_context)),
        ("namespace", value(NAMESPACE)),
        ("service-account", value(SERVICE_ACCOUNT)),
        ("images", value("kind")),
        ("store", value(store)),
        ("pods", value(i64::try_from(PODS_A_CPU * machine::cpus()).unwrap_or(i64::MAX))),
    ] {
        context.insert(key, item);
    }
    context
}

/// Removes what [`create`] made.
pub(super) fn delete(session: &Session, args: &DeleteArgs) -> Result<(), CommandError> {
    let DeleteArgs { name, yes } = args;
    let cluster = made::cluster_for(name);
    let mut file = UserFile::read()?;
    let named = file.kube_context(name).and_then(kind::cluster_of);
    if file.has(name) && named != Some(&cluster) {
        return Err(CommandError::usage(format!("`mlctl context create` did not make the context `{name}`"))
            .cause(format!("its cluster is not `{cluster}` of kind"))
            .hint(format!(
                "what you wrote yourself you remove yourself: [contexts.{name}] in `{}`",
                user_config_name()
            )));
    }
    let exists = made::clusters()?.contains(&cluster);
    if !exists && !file.has(name) {
        return Err(CommandError::usage(format!(
            "there is no context `{name}` of yours, and no kind cluster `{cluster}`"
        ))
        .hint("`mlctl context list` lists contexts, `kind get clusters` clusters"));
    }
    let removes = *yes || is_wanted(name, &cluster)?;
    if removes && exists {
        made::delete(&cluster)?;
    }
    if removes && file.has(name) {
        file.remove(name)?;
    }
    if session.ui.is_json() {
        return session.ui.json(&json!({ "name": name, "cluster": cluster, "removed": removes }));
    }
    if removes {
        session.ui.note(&format!("removed `{name}`"));
    }
    Ok(())
}

/// Asks whether the cluster and its context are to go.
fn is_wanted(name: &str, cluster: &str) -> Result<bool, CommandError> {
    if !prompt::can_ask() {
        return Err(CommandError::usage(format!("the cluster `{cluster}` is not removed without being asked for"))
            .hint("`--yes` asks for it"));
    }
    let choices = ["no".to_owned(), "yes".to_owned()];
    let question = format!("remove the kind cluster `{cluster}` and the context `{name}`? Results stay in the store");
    Ok(prompt::choose(&question, &choices)? == 1)
}
