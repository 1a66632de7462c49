//! A new project from a template: the directories of `templates/`, which the binary carries.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};
use mlctl_core::diag::Source;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Files;

/// Where `init` puts the JSON Schema that the first line of a new `mlctl.toml` names.
pub(crate) const SCHEMA_PATH: &str = ".mlctl/schema.json";

/// Of the names that the spec takes.
const LONGEST_NAME: usize = 63;

/// What `mlctl init` can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// No more than `sh`.
    Minimal,
    /// The README's.
    Sklearn,
    /// Matrices over list params and over what a step found.
    Sweep,
}

impl Template {
    /// In the order in which they are offered.
    pub(crate) const ALL: [Self; 3] = [Self::Minimal, Self::Sklearn, Self::Sweep];

    /// The directory in `templates/`, which is also what people type.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Sklearn => "sklearn",
            Self::Sweep => "sweep",
        }
    }

    /// What it is, in a line.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Minimal => "three steps in plain sh",
            Self::Sklearn => "train, compare and publish scikit-learn models on a real data set",
            Self::Sweep => "search hyperparameters in two rounds, in Python without packages",
        }
    }
}

/// What a template leaves open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    /// `[project] name`.
    pub(crate) name: String,
    /// The Python of the environment, as `3.12`.
    pub(crate) python: String,
}

/// Why no project was made. Nothing was written then.
#[derive(Debug)]
pub(crate) enum ScaffoldError {
    /// These exist already, relative to the directory.
    InTheWay(Vec<PathBuf>),
    /// A file could not be written.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the project into `dir` and returns its files, relative to it, in order. All or nothing.
pub(crate) fn init(template: Template, dir: &Path, answers: &Answers) -> Result<Vec<PathBuf>, ScaffoldError> {
    let mut files = render(template, answers);
    if !dir.join(SCHEMA_PATH).exists() {
        let schema = format!("{:#}\n", mlctl_core::schema::json_schema());
        files.push((PathBuf::from(SCHEMA_PATH), schema.into_bytes()));
    }
    let in_the_way: BTreeSet<PathBuf> = files.iter().filter_map(|(path, _)| obstacle(dir, path)).collect();
    if !in_the_way.is_empty() {
        return Err(ScaffoldError::InTheWay(in_the_way.into_iter().collect()));
    }
    let mut made = Made::default();
    for (path, content) in &files {
        let target = dir.join(path);
        if let Err(source) = made.write(&target, content) {
            made.undo();
            return Err(ScaffoldError::Io { path: target, source });
        }
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// A project name made from that of a directory: `My Project!` becomes `my-project`.
pub(crate) fn project_name(dir: &Path) -> String {
    let name = dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut name = words.join("-");
    if check_name(&name).is_err() {
        // Empty, a digit first, a reserved word, or too long.
        name.insert_str(0, if name.is_empty() { "project" } else { "project-" });
        name.truncate(LONGEST_NAME);
    }
    name
}

/// Refuses what the spec would not take as `[project] name`, and says why.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let spec = format!("[project]\nname = {}\n", serde_json::Value::from(name));
    let source = Source { name: "mlctl.toml".to_owned(), text: spec };
    let refused = mlctl_core::spec::parse(&source).err().unwrap_or_default();
    let about_name = refused.into_iter().find(|diag| diag.span.start > 0);
    about_name.map_or(Ok(()), |diag| Err(diag.help.unwrap_or(diag.message)))
}

/// The template's files with the answers filled in, sorted by path.
fn render(template: Template, answers: &Answers) -> Vec<(PathBuf, Vec<u8>)> {
    let jinja = jinja();
    let prefix = format!("{}/", template.name());
    let mut files: Vec<(PathBuf, Vec<u8>)> = Files::iter()
        .filter_map(|path| {
            let relative = path.strip_prefix(&prefix)?;
            let content = Files::get(&path)?.data.into_owned();
            Some((PathBuf::from(relative), fill_in(&jinja, relative, content, answers)))
        })
        .collect();
    files.sort();
    files
}

/// Only these two have anything to fill in; a shift or a here-document elsewhere is nobody's placeholder.
fn fill_in(jinja: &Environment<'_>, path: &str, content: Vec<u8>, answers: &Answers) -> Vec<u8> {
    if !matches!(path, "mlctl.toml" | "README.md") {
        return content;
    }
    let text = String::from_utf8(content).expect("templates are UTF-8: a test renders each");
    let values = context! { name => &answers.name, python => &answers.python };
    jinja.render_str(&text, values).expect("templates use these values only: a test renders each").into_bytes()
}

/// `<< name >>`, because `{{ }}` is mlctl's own. An unknown name is an error.
fn jinja() -> Environment<'static> {
    let mut jinja = Environment::new();
    let syntax = SyntaxConfig::builder()
        .variable_delimiters("<<", ">>")
        .block_delimiters("<%", "%>")
        .comment_delimiters("<#", "#>")
        .keep_trailing_newline(true)
        .build()
        .expect("the delimiters differ");
    jinja.set_syntax(syntax);
    jinja.set_undefined_behavior(UndefinedBehavior::Strict);
    jinja
}

/// What keeps `path` from being made in `dir`: the file itself, or something that is no directory above it.
fn obstacle(dir: &Path, path: &Path) -> Option<PathBuf> {
    let above = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let blocked = above.filter(|parent| dir.join(parent).symlink_metadata().is_ok_and(|_| !dir.join(parent).is_dir()));
    let exists = dir.join(path).symlink_metadata().is_ok().then_some(path);
    blocked.last().or(exists).map(Path::to_owned)
}

/// What has been made so far, so that it can be taken back.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Made {
    fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.create_parents(path)?;
        let mut file = fs::File::create_new(path)?;
        self.files.push(path.to_owned());
        file.write_all(content)
    }

    fn create_parents(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            path.ancestors().skip(1).take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir)?;
            self.directories.push(dir.to_owned());
        }
        Ok(())
    }

    /// Best effort: the error that led here is the one worth telling.
    fn undo(self) {
        for file in self.files {
            let _ = fs::remove_file(file);
        }
        for dir in self.directories.into_iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        Answers { name: "demo".to_owned(), python: "3.11".to_owned() }
    }

    fn files_below(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
    }

    #[test]
    fn every_template_renders_and_fills_in_the_name() {
        for template in Template::ALL {
            let dir = tempfile::tempdir().unwrap();
            let project = dir.path().join("new/project");
            let files = init(template, &project, &answers()).unwrap();
            assert_eq!(files.len(), files_below(&project), "{}", template.name());
            let spec = fs::read_to_string(project.join("mlctl.toml")).unwrap();
            assert!(spec.starts_with(&format!("#:schema {SCHEMA_PATH}\n")), "{spec}");
            assert!(spec.contains("name = \"demo\"") && !spec.contains("<<"), "{spec}");
            assert!(project.join(".gitignore").is_file());
            let parsed = mlctl_core::spec::parse(&Source { name: "mlctl.toml".to_owned(), text: spec }).unwrap();
            assert_eq!(parsed.workflow.name, "demo");
            assert_eq!(parsed.warnings, []);
        }
    }

    #[test]
    fn what_is_in_the_way_is_listed_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("README.md"), "mine").unwrap();
        fs::write(dir.path().join("steps"), "a file where a directory is needed").unwrap();
        let refused = init(Template::Sweep, dir.path(), &answers());
        let Err(ScaffoldError::InTheWay(paths)) = refused else { panic!("{refused:?}") };
        assert_eq!(paths, [PathBuf::from("README.md"), PathBuf::from("steps")]);
        assert_eq!(files_below(dir.path()), 2);
    }

    #[test]
    fn a_failure_half_way_takes_everything_back() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("project");
        let mut made = Made::default();
        made.write(&project.join("deep/er/a"), b"a").unwrap();
        made.write(&project.join("deep/b"), b"b").unwrap();
        assert!(made.write(&project.join("deep/b"), b"again").is_err());
        made.undo();
        assert!(!project.exists());
    }

    #[test]
    fn a_name_is_what_the_spec_takes() {
        assert_eq!(check_name("churn-2"), Ok(()));
        for name in ["", "Churn", "2", "a b", "params", "a\"b\n", &"x".repeat(99)] {
            assert!(check_name(name).is_err_and(|why| !why.is_empty()), "{name:?}");
        }
    }

    #[test]
    fn a_project_is_named_after_its_directory() {
        let named = |dir: &str| project_name(Path::new(dir));
        assert_eq!(named("/x/My Project!"), "my-project");
        assert_eq!(named("churn_2"), "churn-2");
        assert_eq!(named("2024"), "project-2024");
        assert_eq!(named("/"), "project");
        assert_eq!(named("run"), "project-run");
        let long = named(&"long ".repeat(50));
        assert_eq!(check_name(&long), Ok(()), "{long}");
    }
}
