//! The user's own file of contexts, changed without touching what else stands in it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use mlctl_core::diag::Source;
use mlctl_core::spec::{self, Level};
use toml_edit::{DocumentMut, Item, Table};

use crate::error::CommandError;
use crate::session::{user_config, user_config_name};

/// The file, as it is to be.
pub(crate) struct UserFile {
    path: PathBuf,
    document: DocumentMut,
}

impl UserFile {
    /// Reads it; what is not there is empty.
    pub(crate) fn read() -> Result<Self, CommandError> {
        let path = user_config().ok_or_else(|| {
            CommandError::missing("there is no place for your configuration")
                .cause("neither $XDG_CONFIG_HOME nor $HOME is set")
        })?;
        // A link to it stays one.
        let path = path.canonicalize().unwrap_or(path);
        let cannot = || CommandError::missing(format!("cannot read `{}`", user_config_name()));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(cannot().because(&error)),
        };
        check(&text)?;
        let document = text.parse().map_err(|error: toml_edit::TomlError| cannot().because(&error))?;
        Ok(Self { path, document })
    }

    /// Whether it says something of this context.
    pub(crate) fn has(&self, context: &str) -> bool {
        self.document.get("contexts").and_then(|contexts| contexts.get(context)).is_some()
    }

    /// The cluster of a context, as it says.
    pub(crate) fn kube_context(&self, context: &str) -> Option<&str> {
        self.document.get("contexts")?.get(context)?.get("kube-context")?.as_str()
    }

    /// Adds a context, with a comment before it, and writes the file.
    pub(crate) fn add(&mut self, context: &str, comment: &str, mut values: Table) -> Result<(), CommandError> {
        let contexts = self.document.entry("contexts").or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let gap = if self.path.exists() { "\n" } else { "" };
        values.decor_mut().set_prefix(format!("{gap}# {comment}\n"));
        let Some(contexts) = contexts.as_table_mut() else {
            return Err(CommandError::usage(format!("cannot add [contexts.{context}] to `{}`", user_config_name()))
                .cause("its `contexts` is written in one line")
                .hint("write each as a table, `[contexts.NAME]`, or add this one yourself"));
        };
        contexts.insert(context, Item::Table(values));
        self.write()
    }

    /// Removes a context, and writes the file.
    pub(crate) fn remove(&mut self, context: &str) -> Result<(), CommandError> {
        if let Some(contexts) = self.document.get_mut("contexts").and_then(Item::as_table_like_mut) {
            contexts.remove(context);
        }
        self.write()
    }

    /// Writes it whole, or leaves it as it is.
    fn write(&self) -> Result<(), CommandError> {
        let text = self.document.to_string();
        check(&text)?;
        let directory = self.path.parent().unwrap_or(&self.path);
        let write = || {
            fs::create_dir_all(directory)?;
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(text.as_bytes())?;
            if let Ok(found) = fs::metadata(&self.path) {
                file.as_file().set_permissions(found.permissions())?;
            }
            file.persist(&self.path).map_err(|error| error.error).map(drop)
        };
        write().map_err(|error| CommandError::missing(format!("cannot write `{}`", user_config_name())).because(&error))
    }
}

/// What is not valid is not made worse.
fn check(text: &str) -> Result<(), CommandError> {
    let source = Source { name: user_config_name(), text: text.to_owned() };
    spec::parse_contexts(&source, Level::User).map(drop).map_err(|diags| CommandError::diags(source, diags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir, text: &str) -> UserFile {
        let path = dir.path().join("mlctl/config.toml");
        if !text.is_empty() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        UserFile { path, document: text.parse().unwrap() }
    }

    fn values() -> Table {
        let mut values = Table::new();
        values.insert("engine", toml_edit::value("argo"));
        values.insert("kube-context", toml_edit::value("kind-mlctl"));
        values
    }

    #[test]
    fn a_context_comes_and_goes_and_the_rest_stays() {
        let own = "# Mine.\n[contexts.local]  # this machine\nsettings.A = 'x'\n\n# Last words.\n";
        let dotted = "contexts.local.settings.A = \"x\" # mine\n";
        for text in ["", own, dotted] {
            let dir = tempfile::tempdir().unwrap();
            let mut it = file(&dir, text);
            it.add("kind", "Made.", values()).unwrap();
            let written = fs::read_to_string(&it.path).unwrap();
            assert!(written.contains("# Made.\n[contexts.kind]\nengine = \"argo\"\n"), "{written}");
            for line in text.lines() {
                assert!(written.contains(line), "{line} in {written}");
            }
            let mut again = file(&dir, &written);
            assert_eq!((again.has("kind"), again.kube_context("kind")), (true, Some("kind-mlctl")));
            assert!(!again.has("other"));
            again.remove("kind").unwrap();
            assert_eq!(fs::read_to_string(&it.path).unwrap().trim_end(), text.trim_end());
        }
    }

    #[test]
    fn what_cannot_be_changed_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let text = "contexts = { local = { settings = { A = \"x\" } } }\n";
        let error = file(&dir, text).add("kind", "Made.", values()).unwrap_err();
        assert!(error.to_string().contains("in one line"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("mlctl/config.toml")).unwrap(), text);
    }
}
