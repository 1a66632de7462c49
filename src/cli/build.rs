//! `mlctl build`

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use mlctl_core::context::EngineKind;
use mlctl_exec::store::Store;
use serde_json::{Value, json};

use super::complete;
use crate::config::Context;
use crate::engine::argo;
use crate::environment::Target;
use crate::error::CommandError;
use crate::image::place::Place;
use crate::image::{self, Builder, Delivered, How, Origin, check, platform};
use crate::lock::{self, Mode, Wanted};
use crate::platform::docker::{Daemon, Remembered};
use crate::session::{Project, Session, open_store};
use crate::trust;
use crate::ui::Format;
use crate::ui::build_view::BuildView;
use crate::ui::preparing::Preparing;
use crate::ui::table::Table;

/// The arguments of `mlctl build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build only these environments [default: those that steps use].
    #[arg(value_name = "ENV", add = complete::environments())]
    environments: Vec<String>,
    /// Bring the images to where the context's nodes find them: its registry, or a kind cluster. What is there is not built.
    #[arg(long)]
    push: bool,
    /// Build for another platform than the daemon's own: linux/arm64.
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Add the project's files and mlctl, for export: `docker run IMAGE STEP` runs a step.
    #[arg(long)]
    bake: bool,
    /// Do every step anew, whatever is cached.
    #[arg(long)]
    no_cache: bool,
    /// Fail if mlctl.lock would have to change.
    #[arg(long)]
    locked: bool,
}

/// Builds images of environments.
pub(super) fn build(session: &Session, args: BuildArgs) -> Result<ExitCode, CommandError> {
    let project = session.project()?;
    session.ui.warnings(&project.source, &project.warnings);
    let context = session.context(&project)?;
    let store = open_store()?;
    let names = names(&project, &args.environments)?;
    if names.is_empty() {
        session.ui.note("no step names an environment: there is nothing to build");
        if session.ui.is_json() {
            session.ui.json(&Vec::<Value>::new())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let making = Making { session, project: &project, context: &context, store: &store, names: &names };
    let images = match making.unchanged(&args) {
        Some(images) => images,
        None => making.made(&args)?,
    };
    let images: Vec<(&str, &Delivered)> = names.iter().filter_map(|name| Some((*name, images.get(*name)?))).collect();
    match session.ui.format {
        Format::Json => session.ui.json(&images.iter().map(|(name, image)| report(name, image)).collect::<Vec<_>>())?,
        Format::Name => {
            session.ui.result(&images.iter().map(|(_, image)| format!("{}\n", image.reference)).collect::<String>())?
        }
        Format::Text => session.ui.result(&text(&images))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is needed to make images.
struct Making<'a> {
    session: &'a Session,
    project: &'a Project,
    context: &'a Context,
    store: &'a Store,
    names: &'a [&'a str],
}

impl Making<'_> {
    /// The images, if there is nothing to do for them, as far as is known without asking the daemon what it is.
    fn unchanged(&self, args: &BuildArgs) -> Option<BTreeMap<String, Delivered>> {
        if args.push || args.bake || args.no_cache || args.platform.is_some() {
            return None;
        }
        let daemon = Remembered::find(self.store.root())?;
        let target = self.target(daemon.platform());
        let of = lock::Project::of(self.project, self.store, &target);
        let lock = lock::ensure(of, &self.wanted(), Mode::Frozen, &|_| {}).ok()?;
        let of = (self.project, self.context, &lock);
        let images = image::unchanged(&daemon, self.names, of, self.store.root())?;
        Some(images.into_iter().map(|(name, image)| (name, image.into())).collect())
    }

    /// The images, made if need be.
    fn made(&self, args: &BuildArgs) -> Result<BTreeMap<String, Delivered>, CommandError> {
        let Self { session, project, context, store, names } = *self;
        let authorities = crate::prepare::authorities(context)?;
        let platform = args.platform.as_deref().map(platform::parse).transpose()?;
        check::files(project, names.iter().copied())?;
        let daemon = Daemon::connect()?;
        daemon.remember(store.root());
        let platform = platform.filter(|platform| platform != daemon.platform());
        let target = self.target(platform.as_deref().unwrap_or_else(|| daemon.platform()));
        check::offers(&daemon, (project, context), store.root(), &target.platform, names.iter().copied())?;
        let lock = {
            let progress = Preparing::new(&session.ui);
            let of = lock::Project {
                daemon: Some(&daemon),
                authorities: authorities.as_deref(),
                ..lock::Project::of(project, store, &target)
            };
            let mode = if args.locked { Mode::Frozen } else { Mode::Complete };
            lock::ensure(of, &self.wanted(), mode, &|update| progress.update(update))?
        };
        let view = BuildView::new(&session.ui);
        let builder = Builder {
            daemon: &daemon,
            project,
            context,
            lock: &lock,
            store: store.root(),
            how: How { no_cache: args.no_cache, bake: args.bake, platform },
            watch: &|environment, event| view.update(environment, event),
        };
        if args.push {
            return self.pushed(&builder, &target);
        }
        Ok(builder.ensure(names)?.into_iter().map(|(name, image)| (name, image.into())).collect())
    }

    /// The images, where the context's nodes find them.
    fn pushed(&self, builder: &Builder<'_>, target: &Target) -> Result<BTreeMap<String, Delivered>, CommandError> {
        let context = self.context;
        let place = Place::of(context)?;
        if let Place::Registry(registry) = place {
            trust::confirm("registry", registry, context.origins.get("registry"))?;
        }
        if context.engine() == EngineKind::Argo {
            let (project, lock, store) = (self.project, builder.lock, self.store.root());
            let of = argo::images::Of { project, context, lock, target, store };
            of.bring_executor(builder.daemon, builder.watch)?;
        }
        match place {
            Place::Kind(cluster) => builder.load(&builder.cluster(cluster)?, self.names),
            Place::Registry(_) => builder.publish(self.names),
        }
    }

    fn target(&self, platform: &str) -> Target {
        let base_images = Some(self.context.merged.base_images.over(&self.project.workflow.base_images));
        Target { platform: platform.to_owned(), base_images }
    }

    fn wanted(&self) -> Wanted<'_> {
        let mut wanted = Wanted::default();
        wanted.environments.extend(self.names.iter().copied());
        wanted.bases.extend(self.names.iter().copied().map(Some));
        wanted
    }
}

/// The environments that are meant, in the order of the spec.
fn names<'a>(project: &'a Project, asked: &[String]) -> Result<Vec<&'a str>, CommandError> {
    let environments = &project.workflow.environments;
    if let Some(unknown) = asked.iter().find(|name| !environments.contains_key(*name)) {
        let known: Vec<&str> = environments.keys().map(String::as_str).collect();
        return Err(CommandError::usage(format!("there is no environment `{unknown}`"))
            .hint(format!("there are: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })));
    }
    let used = |name: &str| project.workflow.steps.iter().any(|step| step.environment.as_deref() == Some(name));
    let meant = |name: &&str| if asked.is_empty() { used(name) } else { asked.iter().any(|asked| asked == name) };
    Ok(environments.keys().map(String::as_str).filter(meant).collect())
}

const fn how(origin: Origin) -> &'static str {
    match origin {
        Origin::Found => "unchanged",
        Origin::Fetched => "pulled",
        Origin::Built => "built",
    }
}

fn text(images: &[(&str, &Delivered)]) -> String {
    let mut table = Table::new(&["ENVIRONMENT", "STATUS", "IMAGE"]);
    for (name, image) in images {
        table.row([(*name).to_owned(), how(image.origin).to_owned(), image.reference.clone()]);
    }
    table.render()
}

fn report(name: &str, image: &Delivered) -> Value {
    json!({
        "name": name,
        "reference": image.reference,
        "id": image.id,
        "digest": image.digest,
        "status": how(image.origin),
        "sent": image.sent,
        "seconds": image.took.as_millis() as f64 / 1000.0,
    })
}
