//! Images that hold their sources too, for export: the environment's image, the project, and mlctl itself, which runs a
//! step there as a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use mlctl_core::digest::Digest;
use mlctl_core::workflow::ImageBuild;

use super::context::BuildContext;
use super::recipe::{Recipe, RecipeKind, UserFile};
use super::{Builder, Image, Wanted, tag};
use crate::environment::{BAKED_FILE, Baked};
use crate::error::CommandError;
use crate::lock;
use crate::platform::docker;
use crate::prepare::Files;
use crate::session::SPEC;

impl Builder<'_> {
    /// What the image of an environment with the project in it is known by. The directory is its context.
    pub(super) async fn baked(&self, name: &str, image: &Image) -> Result<(Wanted, tempfile::TempDir), CommandError> {
        let cannot = |error: io::Error| CommandError::missing("cannot write to the store").because(&error);
        let span = self.project.workflow.environments.get(name).map(|environment| environment.span).unwrap_or_default();
        let staged = tempfile::tempdir_in(self.store.join("tmp")).map_err(cannot)?;
        let dir = staged.path().join("context");
        self.put_project(&dir.join("project"))?;
        fs::create_dir(dir.join("store")).map_err(cannot)?;
        self.put_program(&dir.join("bin"))?;
        let variables = self.variables(image).await?;
        let baked = Baked { environment: name.to_owned(), id: image.id.clone(), variables };
        // Texts always have a JSON form.
        fs::write(dir.join(BAKED_FILE), serde_json::to_vec(&baked).unwrap_or_default()).map_err(cannot)?;
        let text = format!(
            "FROM {}\nUSER 0\nCOPY . /opt/mlctl/\nENV MLCTL_STORE=/opt/mlctl/store\nWORKDIR /opt/mlctl/project\n\
             ENTRYPOINT [\"/opt/mlctl/bin/mlctl\", \"-C\", \"/opt/mlctl/project\", \"run\"]\nCMD []\n",
            self.base_of(image).await?
        );
        let path = staged.path().join("Dockerfile");
        // Whoever runs it (`docker run --user`) makes files in the store and the project.
        let files = BuildContext::scan(&dir, &path, &staged.path().join("stamps"))?.opened();
        let build = ImageBuild {
            dockerfile: String::new(),
            dir: String::new(),
            target: None,
            args: BTreeMap::new(),
            secrets: Vec::new(),
            ssh: false,
        };
        let kind = RecipeKind::File(UserFile { build, dir, path, text });
        let recipe = Recipe { environment: name.to_owned(), span, kind };
        let tag = tag::content_tag(&recipe, Some(files.digest()), self.platform());
        let reference = format!("{}-baked:{tag}", tag::repository(&self.project.workflow.name, name));
        Ok((Wanted { recipe, files: Some(Arc::new(files)), tag, reference }, staged))
    }

    /// The project's files, but for those that it ignores, its spec and its lock.
    fn put_project(&self, to: &Path) -> Result<(), CommandError> {
        let files = Files::look(&self.project.root)?.snapshot.matching(&BTreeSet::from(["**".to_owned()]));
        let names = files.iter().map(String::as_str).chain([SPEC, lock::FILE_NAME]);
        for name in names {
            let from = self.project.root.join(name);
            let copied = copy(&from, &to.join(name));
            copied.map_err(|error| CommandError::missing(format!("cannot copy {}", from.display())).because(&error))?;
        }
        Ok(())
    }

    /// mlctl itself.
    fn put_program(&self, to: &Path) -> Result<(), CommandError> {
        let own = lock::platform();
        if self.platform() != own {
            return Err(CommandError::usage(format!("cannot bake for {}", self.platform()))
                .cause(format!("this mlctl, which becomes a part of the image, is for {own}"))
                .hint("bake on a machine of that platform"));
        }
        let copied = std::env::current_exe().and_then(|program| copy(&program, &to.join("mlctl")));
        copied.map_err(|error| CommandError::missing("cannot copy mlctl's own program").because(&error))
    }

    /// What every program in the image finds in its environment.
    async fn variables(&self, image: &Image) -> Result<BTreeMap<String, String>, CommandError> {
        let found = self.daemon.client().inspect_image(&image.id).await;
        let found = found.map_err(|error| docker::failure(&format!("cannot look at `{}`", image.reference), error))?;
        let all = found.config.and_then(|config| config.env).unwrap_or_default();
        Ok(all.iter().filter_map(|one| one.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// As `FROM` names the image: an id is no name there.
    async fn base_of(&self, image: &Image) -> Result<String, CommandError> {
        if !image.reference.starts_with("sha256:") {
            return Ok(image.reference.clone());
        }
        let name = format!("mlctl/base:{}", &Digest::of(image.id.as_bytes()).to_hex()[..32]);
        self.name(&image.id, &name).await?;
        Ok(name)
    }
}

/// Copies a file, or makes a link or a directory like it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(from) {
        Ok(found) => found.file_type(),
        // No lock where there is nothing to lock.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if kind.is_dir() {
        return fs::create_dir_all(to);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind.is_symlink() { std::os::unix::fs::symlink(fs::read_link(from)?, to) } else { fs::copy(from, to).map(drop) }
}
