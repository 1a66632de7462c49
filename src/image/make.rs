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
use super::{Builder, ENVIRONMENT_LABEL, Origin, PROJECT_LABEL, Wanted, classic, failure, platform, wire};
use crate::config::secret;
use crate::environment::NamedImage;
use crate::error::CommandError;

/// The context in the temporary directory of a generated Dockerfile.
const STAGED: &str = "context";

impl Builder<'_> {
    /// Builds the image, and gives its id. The tag is set when it is whole.
    pub(super) async fn make(&self, wanted: &Wanted) -> Result<String, CommandError> {
        let recipe = &wanted.recipe;
        let buildkit = self.daemon.has_buildkit();
        self.check_base(recipe).await?;
        if !buildkit {
            classic::check(self, recipe)?;
        }
        let ca = self.ca()?;
        let manner = Manner { mounts: buildkit, ca: ca.is_some(), ..Manner::default() };
        let text = recipe.text(manner);
        let staged;
        let (files, extra, dockerfile) = match (&recipe.kind, &wanted.files) {
            (RecipeKind::File(_), Some(files)) => {
                let (name, extra) = files.dockerfile(&text, !buildkit);
                (Arc::clone(files), extra, name)
            }
            _ => {
                staged = self.stage(recipe, ca.as_deref().filter(|_| !buildkit))?;
                let directory = staged.path().join(STAGED);
                let files =
                    BuildContext::scan(&directory, &directory.join("Dockerfile"), &staged.path().join("stamps"))?;
                let (name, extra) = files.dockerfile(&text, !buildkit);
                (Arc::new(files), extra, name)
            }
        };
        let at = (recipe.environment.as_str(), recipe.span);
        let secrets = secret::of_build(self.context, &self.project.source, at, recipe.secrets())?;
        let build = unique();
        let session = if buildkit {
            let offer = self.offer(recipe, &secrets, ca)?;
            let opened = Session::open(self.daemon, unique(), offer).await;
            Some(opened.map_err(|error| failure::wire(self, recipe, error))?)
        } else {
            None
        };
        let platform = self.how.platform.as_deref().map(platform::docker);
        let order = Order {
            session: session.as_ref().map(|session| session.id.as_str()),
            build: &build,
            tag: &wanted.reference,
            dockerfile: &dockerfile,
            target: recipe.target(),
            args: recipe.args(),
            labels: BTreeMap::from([
                (PROJECT_LABEL, self.project.workflow.name.as_str()),
                (ENVIRONMENT_LABEL, recipe.environment.as_str()),
            ]),
            platform: platform.as_deref(),
            no_cache: self.how.no_cache,
            registry_config: if buildkit { None } else { classic::registries(&text).await? },
        };
        let mut tell = |event: Event<'_>| (self.watch)(&recipe.environment, event);
        let (body, sent) = counted(Arc::clone(&files).tar(extra));
        let built = request::build(self.daemon, &order, (body, &sent), secrets, &mut tell).await;
        // Which file it was that could not be sent is known here only.
        built.map_err(|error| files.fault().unwrap_or_else(|| failure::unbuilt(self, recipe, &text, error)))
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

    /// What the build may ask for.
    fn offer(
        &self,
        recipe: &Recipe,
        own: &BTreeMap<String, String>,
        ca: Option<Vec<u8>>,
    ) -> Result<Offer, CommandError> {
        let mut secrets: BTreeMap<String, Vec<u8>> = ca.map(|ca| (generated::CA.to_owned(), ca)).into_iter().collect();
        secrets.extend(own.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())));
        let ssh = if recipe.ssh() { Some(failure::agent(self, recipe)?) } else { None };
        Ok(Offer { secrets, ssh })
    }

    /// The context of a generated Dockerfile.
    fn stage(&self, recipe: &Recipe, ca: Option<&[u8]>) -> Result<tempfile::TempDir, CommandError> {
        let cannot = |error: std::io::Error| CommandError::missing("cannot write to the store").because(&error);
        let directory = tempfile::tempdir_in(self.store.join("tmp")).map_err(cannot)?;
        let context = directory.path().join(STAGED);
        fs::create_dir(&context).map_err(cannot)?;
        if let RecipeKind::Described { locked: Some(locked), .. } = &recipe.kind {
            fs::write(context.join(generated::REQUIREMENTS), recipe::requirements(locked)).map_err(cannot)?;
        }
        if let Some(ca) = ca {
            fs::write(context.join(generated::CA), ca).map_err(cannot)?;
        }
        Ok(directory)
    }

    /// The certificates that the context names.
    fn ca(&self) -> Result<Option<Vec<u8>>, CommandError> {
        let Some(path) = &self.context.merged.ca else { return Ok(None) };
        let read = fs::read(self.project.root.join(crate::session::expand_home(path)));
        read.map(Some).map_err(|error| {
            CommandError::missing(format!("cannot read `{path}`, the `ca` of the context `{}`", self.context.name))
                .because(&error)
        })
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
