//! Making one image: the context is laid out, sent, and built by BuildKit, or by the classic builder where the daemon has
//! no other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};

use super::context::BuildContext;
use super::generated::{self, Manner};
use super::progress::Event;
use super::recipe::{self, Recipe, RecipeKind};
use super::request::{self, Order};
use super::session::{Offer, Session};
use super::{
    Builder, ENVIRONMENT_LABEL, Origin, PROJECT_LABEL, Wanted, classic, dockerfile, failure, pip, proxies, wire,
};
use crate::config::secret;
use crate::environment::NamedImage;
use crate::error::CommandError;
use crate::lock::LockedEnvironment;
use crate::prepare;

/// The context in the temporary directory of a generated Dockerfile.
const STAGED: &str = "context";

/// What is sent, and what goes with it.
struct Prepared {
    /// The Dockerfile.
    text: String,
    /// Where it is in the archive.
    dockerfile: String,
    files: Arc<BuildContext>,
    extra: Vec<(String, Vec<u8>)>,
    /// For those who ask in the session, by id.
    secrets: BTreeMap<String, Vec<u8>>,
    /// Kept until the build is over.
    _staged: Option<tempfile::TempDir>,
}

impl Builder<'_> {
    /// Builds the image, and gives its id. The tag is set when it is whole.
    pub(super) async fn make(&self, wanted: &Wanted) -> Result<String, CommandError> {
        let recipe = &wanted.recipe;
        let buildkit = self.daemon.has_buildkit();
        self.check_base(recipe).await?;
        if !buildkit {
            classic::check(self, recipe)?;
        }
        let at = (recipe.environment.as_str(), recipe.span);
        let own = secret::of_build(self.context, &self.project.source, at, recipe.secrets())?;
        for name in secret::visible(&own) {
            (self.watch)(&recipe.environment, Event::Warning(&secret::is_visible(name)));
        }
        let Prepared { text, dockerfile, files, extra, mut secrets, _staged } = self.prepared(wanted, buildkit)?;
        secrets.extend(own.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())));
        let session = if buildkit {
            let ssh = if recipe.ssh() { Some(failure::agent(self.project, recipe)?) } else { None };
            let opened = Session::open(self.daemon, unique(), Offer { secrets, ssh }).await;
            Some(opened.map_err(|error| failure::wire(self, recipe, error))?)
        } else {
            None
        };
        self.warn_of_idle_args(recipe, &text);
        let (build, platform) = (unique(), self.docker_platform());
        let mut args = proxies::args(self.daemon);
        args.extend(recipe.args());
        let order = Order {
            session: session.as_ref().map(|session| session.id.as_str()),
            build: &build,
            tag: &wanted.reference,
            dockerfile: &dockerfile,
            target: recipe.target(),
            args,
            labels: BTreeMap::from([
                (PROJECT_LABEL, self.project.workflow.name.as_str()),
                (ENVIRONMENT_LABEL, recipe.environment.as_str()),
            ]),
            platform: platform.as_deref(),
            no_cache: self.how.no_cache,
            registry_config: if buildkit { None } else { classic::registries(&text).await? },
        };
        let described = matches!(recipe.kind, RecipeKind::Described { .. });
        let mut tell =
            |event: Event<'_>| (self.watch)(&recipe.environment, if described { titled(event) } else { event });
        let (body, sent) = counted(Arc::clone(&files).tar(extra));
        let built = request::build(self.daemon, &order, (body, &sent), own, &mut tell).await;
        // Which file it was that could not be sent is known here only.
        built.map_err(|error| match files.fault() {
            Some(fault) => failure::of(&recipe.environment, fault),
            None => failure::unbuilt(self, recipe, &text, error),
        })
    }

    /// Lays out what is to be sent.
    fn prepared(&self, wanted: &Wanted, buildkit: bool) -> Result<Prepared, CommandError> {
        let recipe = &wanted.recipe;
        let ca = self.ca()?;
        let locked = match (&recipe.kind, &wanted.files) {
            (RecipeKind::File(file), Some(files)) => {
                let text = file.text.clone();
                let (dockerfile, extra) = files.dockerfile(&text, !buildkit);
                let secrets = ca.map(|ca| (generated::CA.to_owned(), ca)).into_iter().collect();
                return Ok(Prepared { text, dockerfile, files: Arc::clone(files), extra, secrets, _staged: None });
            }
            (RecipeKind::Described { locked, .. }, _) => locked.as_ref(),
            (RecipeKind::File(_), None) => None,
        };
        let pip = pip::settings().filter(|_| buildkit && locked.is_some());
        let (staged, wheels) = self.stage(locked, ca.as_deref().filter(|_| !buildkit))?;
        let text = recipe.text(Manner { mounts: buildkit, ca: ca.is_some(), pip: pip.is_some(), wheels });
        let directory = staged.path().join(STAGED);
        let files = BuildContext::scan(&directory, &directory.join("Dockerfile"), &staged.path().join("stamps"))?;
        let (dockerfile, extra) = files.dockerfile(&text, !buildkit);
        let secrets = [(generated::CA, ca), (generated::PIP, pip)];
        Ok(Prepared {
            dockerfile,
            files: Arc::new(files),
            extra,
            text,
            secrets: secrets.into_iter().filter_map(|(id, value)| Some((id.to_owned(), value?))).collect(),
            _staged: Some(staged),
        })
    }

    /// As docker does: an argument that nothing takes is mostly a name written wrongly.
    fn warn_of_idle_args(&self, recipe: &Recipe, text: &str) {
        let (args, taken) = (recipe.args(), dockerfile::args(text));
        let idle: Vec<String> = args.keys().filter(|name| !taken.takes(name)).map(|name| format!("`{name}`")).collect();
        if !idle.is_empty() {
            let text = format!(
                "environment `{}`: no `ARG` of its Dockerfile takes the build argument {}",
                recipe.environment,
                idle.join(", ")
            );
            (self.watch)(&recipe.environment, Event::Warning(&text));
        }
    }

    /// A base image of this machine alone is the one that was locked.
    async fn check_base(&self, recipe: &Recipe) -> Result<(), CommandError> {
        let RecipeKind::Described { base: NamedImage { name, locked }, .. } = &recipe.kind else { return Ok(()) };
        if !locked.local {
            return Ok(());
        }
        let id = self.inspect(name, Origin::Found).await?.map(|image| image.id);
        if id.as_ref() == Some(&locked.digest) {
            return Ok(());
        }
        let there = if id.is_some() { "another image has that name now" } else { "there is none of that name" };
        Err(CommandError::missing(format!("the base image `{name}` is not here as it was locked"))
            .cause(format!("it was of one machine alone, in no registry, and {there}"))
            .hint("build or load it again, or take what there is: `mlctl lock --update`"))
    }

    /// The context of a generated Dockerfile, in the store; whether there are distributions of this machine in it.
    fn stage(
        &self,
        locked: Option<&LockedEnvironment>,
        ca: Option<&[u8]>,
    ) -> Result<(tempfile::TempDir, bool), CommandError> {
        let cannot = |error: io::Error| CommandError::missing("cannot write to the store").because(&error);
        let directory = tempfile::tempdir_in(self.store.join("tmp")).map_err(cannot)?;
        let context = directory.path().join(STAGED);
        fs::create_dir(&context).map_err(cannot)?;
        let mut wheels = false;
        if let Some(locked) = locked {
            fs::write(context.join(generated::REQUIREMENTS), recipe::requirements(locked)).map_err(cannot)?;
            wheels = pip::wheels(&self.project.root, locked, &context.join(generated::WHEELS)).map_err(cannot)?;
        }
        if let Some(ca) = ca {
            fs::write(context.join(generated::CA), ca).map_err(cannot)?;
        }
        Ok((directory, wheels))
    }

    /// The certificates that the context names.
    fn ca(&self) -> Result<Option<Vec<u8>>, CommandError> {
        let Some(path) = prepare::authorities(self.context)? else { return Ok(None) };
        fs::read(path)
            .map(Some)
            .map_err(|error| CommandError::missing("cannot read the context's `ca`").because(&error))
    }
}

/// Steps of a generated Dockerfile have names for people.
fn titled(event: Event<'_>) -> Event<'_> {
    let title = |name| generated::title(name).unwrap_or(name);
    match event {
        Event::Step { id, name } => Event::Step { id, name: title(name) },
        Event::Ended { id, name, end } => Event::Ended { id, name: title(name), end },
        event => event,
    }
}

/// A body, and how many bytes of it have been sent.
fn counted(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> (wire::Body, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let counted = chunks.inspect_ok(move |chunk| {
        count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    (wire::streamed(counted), sent)
}

/// A name that no other build has.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("mlctl{:x}{:x}{:x}", now.as_nanos(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
