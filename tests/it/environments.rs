//! Steps in virtual environments: what they see, who makes them, and what is said when they cannot be made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Ended, Project, Running, Start, mlctl};
use crate::wheels;

/// A project whose only step runs `program` in an environment with alpha 1.0, from an index of its own.
fn project(program: &str) -> Project {
    let python = wheels::python_version();
    let project = Project::new(&format!(
        "[project]\nname = \"env\"\n\n[environments.default]\npython = \"{python}\"\nrequirements = \"requirements.txt\"\n\n\
         [steps.only]\ncommand = [\"python\", \"-c\", '''\n{program}\n''']\nenvironment = \"default\"\n\
         outputs.said = {{ type = \"string\", at = \"said\" }}\n"
    ));
    wheels::add(&project.root().join("index"), "alpha", "1.0", &[]);
    project.write("requirements.txt", "--no-index\n--find-links index\nalpha\n");
    project.write(".mlctlignore", "index\n");
    project
}

/// What the step said in the latest run.
fn said(project: &Project) -> String {
    let status = project.json(&["status"]);
    let text = status.to_string();
    let (_, rest) = text.split_once("\"said\":\"").unwrap_or_else(|| panic!("{text}"));
    rest.split('"').next().unwrap().to_owned()
}

/// The virtual environments in a store.
fn environments(store: &Path) -> Vec<PathBuf> {
    let places = fs::read_dir(store.join("environments")).unwrap().map(|entry| entry.unwrap().path());
    let entries = places.flat_map(|place| fs::read_dir(place).unwrap().map(|entry| entry.unwrap()));
    entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()).collect()
}

fn start(project: &Project, store: &Path) -> Running {
    project.command(mlctl()).arg("run").env("MLCTL_STORE", store).start()
}

#[test]
fn a_step_sees_what_is_locked_and_nothing_of_the_user() {
    let project = project(
        "import alpha, importlib.util as u\n\
         found = [name for name in ('stray', 'personal', 'pip', 'setuptools') if u.find_spec(name)]\n\
         open('said', 'w').write(alpha.VERSION + ' ' + ','.join(found))",
    );
    let site = project.home().join(format!(".local/lib/python{}/site-packages", wheels::python_version()));
    fs::create_dir_all(&site).unwrap();
    fs::write(site.join("personal.py"), "").unwrap();
    let stray = project.home().join("stray");
    fs::create_dir(&stray).unwrap();
    fs::write(stray.join("stray.py"), "").unwrap();
    let ended = project.command(mlctl()).arg("run").env("PYTHONPATH", &stray).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(said(&project), "1.0 ");
}

#[test]
fn a_changed_requirement_changes_lock_environment_and_result() {
    let project = project("import alpha\nopen('said', 'w').write(alpha.VERSION)");
    project.ok(&["run"]);
    assert_eq!(said(&project), "1.0");
    wheels::add(&project.root().join("index"), "alpha", "1.1", &[]);
    project.ok(&["run"]);
    assert_eq!(said(&project), "1.0");
    project.write("requirements.txt", "--no-index\n--find-links index\nalpha>1\n");
    let Ended { code, stderr, .. } = project.run(&["run", "--locked"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("mlctl.lock is not up to date"), "{stderr}");
    project.ok(&["run"]);
    assert_eq!(said(&project), "1.1");
}

#[test]
fn projects_share_an_environment_that_is_made_once() {
    let program = "import sys\nopen('said', 'w').write(sys.prefix)";
    let projects = [project(program), project(program), project(program)];
    // The same file: a wheel's hash has the time at which it was written in it.
    for other in &projects[1..] {
        let wheel = "index/alpha-1.0-py3-none-any.whl";
        fs::copy(projects[0].root().join(wheel), other.root().join(wheel)).unwrap();
    }
    let store = projects[0].store();
    let runs: Vec<Running> = projects.iter().map(|project| start(project, &store)).collect();
    for run in runs {
        let ended = run.end();
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let made = environments(&store);
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(Path::new(&said(&projects[0])), made[0]);
}

#[test]
fn a_distribution_that_is_not_what_was_locked_is_refused() {
    let project = project("open('said', 'w').write('ran')");
    project.ok(&["lock"]);
    let wheel = project.root().join("index/alpha-1.0-py3-none-any.whl");
    let mut bytes = fs::read(&wheel).unwrap();
    let at = bytes.windows(7).position(|part| part == b"VERSION").unwrap();
    bytes[at] = b'v';
    fs::write(&wheel, bytes).unwrap();
    let Ended { code, stderr, .. } = project.run(&["run"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("environment `default`: a distribution is not what was locked"), "{stderr}");
    let log = stderr.lines().find_map(|line| line.strip_prefix("help: the whole log is ")).unwrap();
    assert!(fs::read_to_string(log).unwrap().contains("HASHES"));
    assert_eq!(project.run(&["run"]).code, 3, "what failed half-way is not trusted");
}

#[test]
fn an_interpreter_that_is_gone_makes_the_environment_anew() {
    let project = project("import sys\nopen('said', 'w').write('x')\nprint(sys.prefix)");
    project.ok(&["run"]);
    let first = environments(&project.store()).remove(0);
    fs::remove_file(first.join("bin/python")).unwrap();
    std::os::unix::fs::symlink("/gone", first.join("bin/python")).unwrap();
    project.ok(&["run", "--force", "only"]);
    let now = environments(&project.store());
    assert_eq!(now.len(), 1);
    assert_ne!(now[0], first);
    assert_eq!(Path::new(project.ok(&["logs", "only"]).trim()), now[0]);
}

#[test]
fn an_image_cannot_run_here_and_nothing_starts() {
    let project = Project::new(
        "[project]\nname = \"env\"\n\n[environments.cuda]\nimage = \"ghcr.io/acme/train:1\"\n\n\
         [steps.first]\ncommand = [\"true\"]\n\n[steps.train]\ncommand = [\"true\"]\nenvironment = \"cuda\"\n",
    );
    let Ended { code, stderr, .. } = project.run(&["run"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("mlctl.toml:4") && stderr.contains("--context docker"), "{stderr}");
    assert!(!project.root().join("mlctl.lock").exists());
    project.ok(&["run", "first"]);
}

#[test]
fn system_packages_must_be_there() {
    let project = Project::new(
        "[project]\nname = \"env\"\n\n[environments.native]\nsystem-packages = [\"libgomp1\", \"libzzz2\"]\n\n\
         [steps.only]\ncommand = [\"true\"]\nenvironment = \"native\"\n",
    );
    // A dpkg of our own: what is installed here must not matter.
    let bin = project.home().join("bin");
    fs::create_dir(&bin).unwrap();
    let dpkg = |installed: &str| {
        let script = format!("#!/bin/sh\nprintf '{installed}'\n");
        fs::write(bin.join("dpkg-query"), script).unwrap();
        fs::set_permissions(bin.join("dpkg-query"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let run = || -> Ended {
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        project.command(mlctl()).arg("run").env("PATH", path).ended()
    };
    dpkg("libgomp1 installed\\nlibzzz2 config-files\\n");
    let Ended { code, stderr, .. } = run();
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("needs system packages that are not installed: libzzz2\n"), "{stderr}");
    dpkg("libgomp1 installed\\nlibzzz2 installed\\n");
    assert_eq!(run().code, 0);
}

#[test]
fn a_python_with_nothing_in_it_is_an_environment_too() {
    let python = wheels::python_version();
    let project = Project::new(&format!(
        "[project]\nname = \"env\"\n\n[environments.bare]\npython = \"{python}\"\n\n[steps.only]\n\
         command = [\"python\", \"-c\", \"import sys; print('%d.%d' % sys.version_info[:2], sys.prefix != sys.base_prefix)\"]\n\
         environment = \"bare\"\n"
    ));
    project.ok(&["run"]);
    assert_eq!(project.ok(&["logs", "only"]).trim(), format!("{python} True"));
}
