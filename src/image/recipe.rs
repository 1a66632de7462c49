//! What an image is made from: of a described environment a generated Dockerfile, else the user's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mlctl_core::diag::{Diag, Span};
use mlctl_core::workflow::ImageBuild;

use super::generated::{self, Contents, Manner};
use crate::environment::NamedImage;
use crate::error::{CommandError, Kind};
use crate::lock::LockedEnvironment;
use crate::session::Project;

/// How one environment's image is made.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The environment's name.
    pub(super) environment: String,
    /// Where the spec declares it.
    pub(super) span: Span,
    /// What is done.
    pub(super) kind: RecipeKind,
}

/// The two ways.
#[derive(Debug, Clone)]
pub(super) enum RecipeKind {
    /// A generated Dockerfile.
    Described {
        /// The image to begin with.
        base: NamedImage,
        /// What is locked; `None`: no Python.
        locked: Option<LockedEnvironment>,
        /// Debian packages, sorted.
        packages: Vec<String>,
    },
    /// The user's Dockerfile.
    File(UserFile),
}

/// A Dockerfile of the project.
#[derive(Debug, Clone)]
pub(super) struct UserFile {
    /// What the spec says.
    pub(super) build: ImageBuild,
    /// The build context, absolute.
    pub(super) dir: PathBuf,
    /// The Dockerfile, absolute.
    pub(super) path: PathBuf,
    /// Its text.
    pub(super) text: String,
}

impl Recipe {
    /// Reads the Dockerfile that an environment names.
    pub(super) fn of_file(
        project: &Project,
        (environment, span): (&str, Span),
        build: &ImageBuild,
    ) -> Result<Self, CommandError> {
        let refuse = |what: String, error: std::io::Error| {
            let diag = Diag::error("no-build-context", span, format!("environment `{environment}`: {what}"))
                .label(error.to_string())
                .help("`dockerfile` and `dir` are paths below the project's directory, where `mlctl.toml` is");
            CommandError::new(Kind::Missing, "").about(&project.source, vec![diag])
        };
        let (dir, path) = (project.root.join(&build.dir), project.root.join(&build.dockerfile));
        let text = std::fs::read_to_string(&path)
            .map_err(|error| refuse(format!("cannot read `{}`", build.dockerfile), error))?;
        std::fs::read_dir(&dir).map_err(|error| refuse(format!("cannot read the directory `{}`", build.dir), error))?;
        let file = UserFile { build: build.clone(), dir, path, text };
        Ok(Self { environment: environment.to_owned(), span, kind: RecipeKind::File(file) })
    }

    /// The text of the Dockerfile.
    pub(super) fn text(&self, manner: Manner) -> String {
        match &self.kind {
            RecipeKind::File(file) => file.text.clone(),
            RecipeKind::Described { base, locked, packages, .. } => generated::dockerfile(
                &Contents {
                    base: &from(base),
                    python: locked.as_ref().map(|locked| locked.python.as_str()),
                    distributions: locked.as_ref().is_some_and(|locked| !locked.distributions.is_empty()),
                    packages,
                },
                manner,
            ),
        }
    }

    /// The names of the secrets that it may read.
    pub(super) fn secrets(&self) -> &[String] {
        match &self.kind {
            RecipeKind::File(file) => &file.build.secrets,
            RecipeKind::Described { .. } => &[],
        }
    }

    /// Whether the build may use the user's ssh agent.
    pub(super) fn ssh(&self) -> bool {
        matches!(&self.kind, RecipeKind::File(file) if file.build.ssh)
    }

    /// The stage to build.
    pub(super) fn target(&self) -> Option<&str> {
        match &self.kind {
            RecipeKind::File(file) => file.build.target.as_deref(),
            RecipeKind::Described { .. } => None,
        }
    }

    /// The arguments of the build.
    pub(super) fn args(&self) -> BTreeMap<String, String> {
        match &self.kind {
            RecipeKind::File(file) => file.build.args.clone(),
            RecipeKind::Described { .. } => BTreeMap::new(),
        }
    }
}

/// As `FROM` names an image. An id is no name there.
fn from(base: &NamedImage) -> String {
    if base.locked.local { base.name.clone() } else { base.locked.reference(&base.name) }
}

/// The requirements file of what is locked. Local places stand as the context has them.
pub(super) fn requirements(locked: &LockedEnvironment) -> String {
    locked.requirements(|option| local_place(option).is_none().then(|| option.to_owned()))
}

/// The directory of this machine that an option names.
pub(super) fn local_place(option: &str) -> Option<&Path> {
    option.strip_prefix("--find-links ").filter(|place| !place.contains("://")).map(Path::new)
}
