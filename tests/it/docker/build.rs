//! `mlctl build` with a real daemon: what is built, what is looked up, what fails and how that is said.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{cli, docker};
use crate::support::{Project, Start, mlctl};
use crate::wheels;

mod delivery;
mod faults;
mod secrets;
mod unchanged;

/// A project whose environment `tools` is built from a Dockerfile; its name, and so its images, are its own.
struct Tools {
    project: Project,
    name: String,
}

impl Tools {
    fn new(build: &str, dockerfile: &str) -> Self {
        let name = format!("it{:x}{:x}", std::process::id(), NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let project = Project::new(&format!(
            "[project]\nname = \"{name}\"\n\n[environments.tools]\nbuild = {{ {build} }}\n\n\
             [steps.a]\ncommand = [\"cat\", \"/made\"]\nenvironment = \"tools\"\n"
        ));
        project.write(".dockerignore", ".mlctl\nmlctl.*\n.dockerignore\n");
        project.write("Dockerfile", dockerfile);
        Self { project, name }
    }

    /// What `mlctl build -o json` says of the one environment.
    fn build(&self, arguments: &[&str]) -> Value {
        let mut all = self.project.json(&[&["build"], arguments].concat());
        all[0].take()
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let images = Command::new("docker")
            .args(["images", "-q", "--filter", &format!("label=dev.mlctl.project={}", self.name)])
            .ended();
        for image in images.stdout.split_whitespace() {
            Command::new("docker").args(["rmi", "-f", image]).ended();
        }
    }
}

static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

const USUAL: &str = "dockerfile = \"Dockerfile\", dir = \".\"";

fn text<'a>(report: &'a Value, key: &str) -> &'a str {
    report[key].as_str().unwrap_or_else(|| panic!("{key} of {report}"))
}

/// What a program in an image prints.
fn inside(image: &str, argv: &[&str]) -> String {
    cli(&[&["run", "--rm", "--network", "none", image], argv].concat())
}

#[test]
fn what_is_unchanged_is_looked_up_and_what_is_not_has_another_tag() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nCOPY data /data\nRUN cp /data /made\n");
    tools.project.write("data", "one");
    let first = tools.build(&[]);
    assert_eq!(text(&first, "status"), "built");
    assert_eq!(inside(text(&first, "id"), &["cat", "/made"]), "one");
    assert_eq!(cli(&["image", "inspect", "--format", "{{.Id}}", text(&first, "reference")]), text(&first, "id"));
    // Times are no content, and what .dockerignore excludes is no context.
    tools.project.write("data", "one");
    tools.project.write("mlctl.other", "x");
    let again = tools.build(&[]);
    assert_eq!(text(&again, "status"), "unchanged");
    assert_eq!((&again["id"], &again["reference"]), (&first["id"], &first["reference"]));
    tools.project.write("data", "two");
    let changed = tools.build(&[]);
    assert_eq!(text(&changed, "status"), "built");
    assert_ne!(changed["reference"], first["reference"]);
    assert_eq!(inside(text(&changed, "id"), &["cat", "/made"]), "two");
    // Gone from the daemon: known nowhere else.
    cli(&["rmi", "-f", text(&changed, "reference")]);
    assert_eq!(text(&tools.build(&[]), "status"), "built");
    assert_eq!(text(&tools.build(&["--no-cache"]), "status"), "built");
}

#[test]
fn target_and_args_are_followed() {
    if !docker() {
        return;
    }
    let build = "dockerfile = \"docker/Dockerfile\", dir = \"docker\", target = \"chosen\", args = { WHO = \"me $x\" }";
    let tools = Tools::new(build, "FROM nothing-like-it\n");
    let dockerfile = "FROM busybox:1.35 AS base\nARG WHO=nobody\nRUN echo \"$WHO\" > /made\n\
                      FROM base AS chosen\nRUN echo chosen >> /made\nFROM base AS last\nRUN false\n";
    tools.project.write("docker/Dockerfile", dockerfile);
    let report = tools.build(&[]);
    assert_eq!(inside(text(&report, "id"), &["cat", "/made"]), "me $x\nchosen");
    // A name that is written wrongly, and one that needs no `ARG`.
    let spec = fs::read_to_string(tools.project.root().join("mlctl.toml")).unwrap();
    let spec = spec.replace("WHO = ", "NO_PROXY = \"x\", WHOM = \"you\", WHO = ");
    tools.project.write("mlctl.toml", &spec);
    let told = tools.project.run(&["build"]).stderr;
    let warning = "warning: environment `tools`: no `ARG` of its Dockerfile takes the build argument `WHOM`\n";
    assert_eq!(told.matches("warning").count(), 1, "{told}");
    assert!(told.contains(warning), "{told}");
    assert!(!tools.project.run(&["build"]).stderr.contains("warning"), "there is nothing to do");
}

#[test]
fn what_environments_lack_is_told_of_all_of_them_before_anything_is_done() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\n");
    let spec = format!(
        "[project]\nname = \"{}\"\n[environments.a]\nbuild = {{ dockerfile = \"none/Dockerfile\" }}\n\
         [environments.b]\nbuild = {{ dockerfile = \"Dockerfile\", dir = \"none\" }}\n\
         [environments.c]\npython = \"3.11\"\nrequirements = \"none.txt\"\n\
         [environments.d]\nbuild = {{ {USUAL} }}\n\
         [environments.e]\nbuild = {{ {USUAL}, secrets = [\"ONE\", \"TWO\"] }}\n",
        tools.name
    );
    let step = |name| format!("[steps.{name}]\nenvironment = \"{name}\"\nscript = \"true\"\n");
    tools.project.write("mlctl.toml", &(spec + &["a", "b", "c", "d", "e"].map(step).concat()));
    let files = ["cannot read `none/Dockerfile`", "cannot read the directory `none`", "cannot read `none.txt`"];
    for command in [&["build"][..], &["--context", "docker", "plan"], &["--context", "docker", "run"]] {
        let ended = tools.project.run(command);
        assert_eq!(ended.code, 3, "{command:?}: {ended:?}");
        for part in files {
            assert!(ended.stderr.contains(part), "{command:?}: {part}: {ended:?}");
        }
        assert!(ended.stderr.contains("paths below the project's directory"), "{ended:?}");
    }
    let ended = tools.project.run(&["build", "d", "e"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    for part in ["environment `e` needs the secret `ONE`", "environment `e` needs the secret `TWO`"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
    let images = cli(&["images", "-q", "--filter", &format!("label=dev.mlctl.project={}", tools.name)]);
    assert_eq!(images, "", "`d` was not built");
}

#[test]
fn a_described_environment_holds_what_is_locked() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\n");
    let spec = format!(
        "[project]\nname = \"{}\"\n\n[environments.default]\npython = \"3.11\"\nrequirements = \"requirements.txt\"\n\n\
         [steps.a]\ncommand = [\"python\", \"-c\", \"import alpha, sys; print(alpha.__file__, sys.prefix)\"]\n\
         environment = \"default\"\n",
        tools.name
    );
    tools.project.write("mlctl.toml", &spec);
    wheels::add(&tools.project.root().join("index"), "alpha", "1.0", &[]);
    wheels::add(&tools.project.root().join("index"), "beta", "1.0", &[]);
    tools.project.write("requirements.txt", "--no-index\n--find-links index\nalpha\n");
    for builder in ["1", "0"] {
        let mut build = tools.project.command(mlctl());
        build.env("DOCKER_BUILDKIT", builder).args(["build", "--no-cache", "-o", "json"]);
        let ended = build.ended();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stderr.contains("without BuildKit"), builder == "0", "{ended:?}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let id = text(&report[0], "id");
        let site = inside(id, &["python", "-c", "import alpha; print(alpha.__file__)"]);
        assert!(site.starts_with("/opt/mlctl/venv/lib/python3.11/site-packages/alpha"), "{site}");
        if builder == "1" {
            // Neither pip, nor what it was told, nor caches are in layers.
            let left = inside(
                id,
                &["sh", "-c", "ls -A /opt/mlctl/build /var/cache/mlctl /run/secrets 2>&1 | grep whl || true"],
            );
            assert_eq!(left, "", "{left}");
        }
    }
    assert_eq!(text(&tools.build(&[]), "status"), "unchanged", "whoever built it, it is the same");
    let run = tools.project.run(&["run", "--context", "docker"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn several_are_built_at_once_and_two_that_want_the_same_build_it_once() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN sleep 2; date +%s%N > /made\n");
    let spec = fs::read_to_string(tools.project.root().join("mlctl.toml")).unwrap();
    let other = "\n[environments.other]\nbuild = { dockerfile = \"Other\", dir = \".\" }\n";
    tools.project.write("mlctl.toml", &(spec + other));
    tools.project.write("Other", "FROM busybox:1.35\nRUN false\n");
    let start = || {
        let mut command = tools.project.command(mlctl());
        command.args(["build", "tools", "-o", "json"]).start()
    };
    let both = [start(), start()].map(|running| running.end());
    let reports: Vec<Value> =
        both.iter().map(|ended| serde_json::from_str(&ended.stdout).expect(&ended.stderr)).collect();
    assert_eq!(reports[0][0]["id"], reports[1][0]["id"]);
    let mut how: Vec<&str> = reports.iter().map(|report| text(&report[0], "status")).collect();
    how.sort_unstable();
    assert_eq!(how, ["built", "unchanged"]);
    assert!(both.iter().any(|ended| ended.stderr.contains("waiting for it")), "{both:?}");
    // One that fails ends the others.
    let ended = tools.project.run(&["build", "tools", "other", "--no-cache"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("Other:2"), "{ended:?}");
}

#[test]
fn the_report_says_name_reference_id_digest_and_how_long_it_took() {
    if !docker() {
        return;
    }
    let tools = Tools::new(USUAL, "FROM busybox:1.35\nRUN true\n");
    let report = tools.build(&[]);
    let keys: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["name", "reference", "id", "digest", "status", "sent", "seconds"]);
    assert_eq!((text(&report, "name"), text(&report, "status")), ("tools", "built"));
    assert!(text(&report, "reference").starts_with(&format!("mlctl/{}-tools:", tools.name)));
    assert!(report["digest"].is_null() && report["seconds"].as_f64().unwrap() > 0.0, "{report}");
    let quiet = tools.project.run(&["build", "-q", "--no-cache"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""), "{quiet:?}");
    let labels = cli(&["image", "inspect", "--format", "{{json .Config.Labels}}", text(&report, "id")]);
    assert!(labels.contains("\"dev.mlctl.environment\":\"tools\""), "{labels}");
}
