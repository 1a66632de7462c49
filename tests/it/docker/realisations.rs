//! One key, two realisations: what a described environment made is shared by processes and containers; images are known
//! by their digests, and shared with nothing else.

use super::{cli, docker};
use crate::faults::until;
use crate::support::{Project, Start, mlctl};
use crate::wheels;

/// How each instance of the latest run ended, in the order of the plan.
fn statuses(project: &Project) -> Vec<String> {
    let status = project.json(&["status"]);
    let instances = status["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["status"].as_str().unwrap().to_owned()).collect()
}

/// The images that this project's environments were built to.
pub(super) fn images(project: &str) -> Vec<String> {
    let label = format!("label=dev.mlctl.project={project}");
    cli(&["images", "--quiet", "--filter", &label]).lines().map(str::to_owned).collect()
}

/// Removes them at the end, however it comes.
pub(super) struct Images<'a>(pub(super) &'a str);

impl Drop for Images<'_> {
    fn drop(&mut self) {
        for image in images(self.0) {
            let _ = std::process::Command::new("docker").args(["rmi", "--force", &image]).output();
        }
    }
}

#[test]
fn what_a_process_computed_is_a_hit_in_a_container_and_the_other_way_round() {
    if !docker() {
        return;
    }
    const NAME: &str = "mlctl-it-two-realisations";
    let _images = Images(NAME);
    // The Python of the base image that tests have.
    let project = Project::new(&format!(
        "[project]\nname = \"{NAME}\"\n[params]\nword = \"one\"\n\
         [environments.default]\npython = \"3.11\"\n\
         [environments.more]\npython = \"3.11\"\nrequirements = \"requirements.txt\"\n\
         [steps.first]\nenvironment = \"more\"\n\
         command = [\"python\", \"-c\", \"import alpha, sys; open(sys.argv[1], 'w').write(alpha.VERSION)\", \"{{{{ outputs.text }}}}\", \"{{{{ params.word }}}}\"]\n\
         outputs.text = {{}}\n\
         [steps.second]\n\
         command = [\"python\", \"-c\", \"import sys; open(sys.argv[1], 'w').write(sys.argv[2])\", \"{{{{ outputs.text }}}}\", \"{{{{ params.word }}}}\"]\n\
         outputs.text = {{}}\n"
    ));
    wheels::add(&project.root().join("index"), "alpha", "1.0", &[]);
    project.write("requirements.txt", "--no-index\n--find-links index\nalpha\n");
    project.write(".mlctlignore", "index\n");
    project.ok(&["run"]);
    assert_eq!(statuses(&project), ["succeeded"; 2]);
    project.ok(&["--context", "docker", "run"]);
    assert_eq!(statuses(&project), ["cached"; 2]);
    assert_eq!(images(NAME), [""; 0], "nothing is built for results that are there");

    project.ok(&["--context", "docker", "run", "second", "-p", "word=one more"]);
    assert_eq!(images(NAME).len(), 1, "only what runs is built");
    project.ok(&["--context", "docker", "run", "-p", "word=two"]);
    assert_eq!(statuses(&project), ["succeeded"; 2]);
    assert_eq!(images(NAME).len(), 2);
    project.ok(&["run", "-p", "word=two"]);
    assert_eq!(statuses(&project), ["cached"; 2]);
}

#[test]
fn an_image_shares_no_results_with_anything_else() {
    if !docker() {
        return;
    }
    let step = |name: &str, environment: &str| {
        format!("[steps.{name}]\nscript = 'echo x > \"$MLCTL_OUTPUT_T\"'\noutputs.t = {{}}\n{environment}\n")
    };
    let project = Project::new(&format!(
        "[project]\nname = \"mlctl-it-images\"\n[environments.box]\nimage = \"busybox:1.35\"\n\
         [environments.deb]\nimage = \"debian:bookworm-slim\"\n{}{}{}",
        step("plain", ""),
        step("boxed", "environment = \"box\""),
        step("debian", "environment = \"deb\"")
    ));
    project.ok(&["--context", "docker", "run", "-j", "1"]);
    assert_eq!(statuses(&project), ["succeeded"; 3]);
    project.ok(&["--context", "docker", "run", "-j", "1"]);
    assert_eq!(statuses(&project), ["cached"; 3]);
    project.ok(&["run", "plain"]);
    assert_eq!(statuses(&project), ["cached"], "steps without an environment are keyed by the platform");
    let used = project.json(&["status"]);
    assert_eq!(used["context"], "local");
}

#[test]
fn a_dockerfile_is_built_before_keys_are_known_and_why_tells_of_another_image() {
    if !docker() {
        return;
    }
    const NAME: &str = "mlctl-it-build-keys";
    const PLAN: [&str; 3] = ["--context", "docker", "plan"];
    const RUN: [&str; 3] = ["--context", "docker", "run"];
    let _images = Images(NAME);
    let project = Project::new(&format!(
        "[project]\nname = \"{NAME}\"\n[environments.own]\nbuild = {{ dockerfile = \"image/Dockerfile\", dir = \".\" }}\n\
         [steps.only]\nenvironment = \"own\"\nscript = 'cp /hello \"$MLCTL_OUTPUT_T\"'\noutputs.t = {{}}\n"
    ));
    project.write("image/Dockerfile", "FROM busybox:1.35\nCOPY . /project\nRUN mv /project/image/hello /hello\n");
    project.write("image/hello", "one");
    let plan = project.ok(&PLAN);
    assert!(plan.contains("not known before the image of environment `own` is built"), "{plan}");
    assert_eq!(images(NAME), [""; 0]);
    project.ok(&RUN);
    assert_eq!(statuses(&project), ["succeeded"]);
    let plan = project.ok(&PLAN);
    assert!(plan.contains("nothing to run"), "{plan}");
    project.ok(&RUN);
    assert_eq!(statuses(&project), ["cached"]);

    project.write("image/hello", "two");
    let plan = project.ok(&PLAN);
    assert!(plan.contains("not known before"), "{plan}");
    project.ok(&RUN);
    assert_eq!(statuses(&project), ["succeeded"], "an edit of what is copied is another image");
    let why = project.ok(&["why", "only"]);
    assert!(why.contains("environment: image sha256:") && why.contains(" -> image sha256:"), "{why}");
}

#[test]
fn what_is_edited_while_it_is_built_is_of_the_next_run() {
    if !docker() {
        return;
    }
    const NAME: &str = "mlctl-it-build-edited";
    let _images = Images(NAME);
    let project = Project::new(&format!(
        "[project]\nname = \"{NAME}\"\n[environments.own]\nbuild = {{ dockerfile = \"image/Dockerfile\" }}\n\
         [steps.only]\nenvironment = \"own\"\nsources = []\nscript = 'cat /hello'\n"
    ));
    // The builder knows what it did in an earlier run of this test: each sleeps for another time, as nothing else does.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let sleep = format!("sleep 2.{:09}", now.subsec_nanos());
    project.write("image/Dockerfile", &format!("FROM busybox:1.35\nCOPY hello /hello\nRUN {sleep}\n"));
    project.write("image/hello", "one");
    let run = ["--context", "docker", "run"];
    let running = project.command(mlctl()).args(run).start();
    let sleeps = || std::process::Command::new("pgrep").args(["-fx", &sleep]).ended().code == 0;
    until("the image is built", sleeps);
    project.write("image/hello", "two");
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    // Its key names the first image: so must what ran.
    assert_eq!(project.ok(&["logs", "only"]), "one");
    project.ok(&run);
    assert_eq!(project.ok(&["logs", "only"]), "two");
}

#[test]
fn what_this_machine_has_no_python_for_is_resolved_in_the_base_image() {
    if !docker() {
        return;
    }
    let project = Project::new(
        "[project]\nname = \"mlctl-it-locks\"\n[environments.default]\npython = \"3.11\"\nrequirements = \"requirements.txt\"\n\
         [steps.only]\ncommand = [\"true\"]\n",
    );
    wheels::add(&project.root().join("my index"), "alpha", "1.0", &[]);
    wheels::add(&project.root().join("my index"), "alpha", "2.0", &[]);
    project.write("requirements.txt", "--no-index\n--find-links 'my index'\n-c constraints.txt\nalpha\n");
    project.write("constraints.txt", "alpha<2\n");
    let lock = || std::fs::read_to_string(project.root().join("mlctl.lock")).unwrap();
    let without_python = |arguments: &[&str]| project.command(mlctl()).args(arguments).env("PATH", "/nowhere").ended();
    let inside = without_python(&["--context", "docker", "lock"]);
    assert_eq!(inside.code, 0, "{inside:?}");
    let with_images = lock();
    assert!(
        with_images.contains("[images.\"python:3.11-slim\".linux-") && with_images.contains("alpha"),
        "{with_images}"
    );
    std::fs::remove_file(project.root().join("mlctl.lock")).unwrap();
    project.ok(&["lock"]);
    let environments = |text: &str| {
        let (_, rest) = text.split_once("[environments").unwrap();
        rest.split("\n[images").next().unwrap().trim().to_owned()
    };
    assert_eq!(environments(&with_images), environments(&lock()), "a container and this machine lock the same");

    project.write("requirements.txt", "--no-index\n--find-links 'my index'\nomega==3\n");
    let refused = without_python(&["--context", "docker", "lock"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("there is no `omega==3`"), "{refused:?}");
    let frozen = without_python(&["--context", "docker", "run", "--locked"]);
    assert_eq!(frozen.code, 3, "{frozen:?}");
    assert!(frozen.stderr.contains("mlctl.lock is not up to date"), "{frozen:?}");
}

#[test]
fn an_image_that_cannot_be_found_is_said_at_its_environment() {
    if !docker() {
        return;
    }
    let project = Project::new(
        "[project]\nname = \"mlctl-it-unknown\"\n[environments.gone]\nimage = \"registry.invalid/gone:1\"\n\
         [steps.only]\nenvironment = \"gone\"\nscript = 'true'\n",
    );
    let refused = project.run(&["--context", "docker", "run"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    for said in ["error[unknown-image]", "mlctl.toml:3:15", "registry.invalid/gone:1"] {
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
    let refused = project.run(&["--context", "docker", "plan", "--locked"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("image `registry.invalid/gone:1` is not locked for linux-"), "{refused:?}");
}

#[test]
fn a_base_image_that_cannot_be_found_is_said_at_the_environment_that_begins_with_it() {
    if !docker() {
        return;
    }
    let project = Project::new(
        "[project]\nname = \"mlctl-it-base\"\n\
         base-images = { python = \"registry.invalid/p:{{ python }}\", plain = \"registry.invalid/d:1\" }\n\
         [environments.tool]\npython = \"3.11\"\n\
         [steps.in_it]\nenvironment = \"tool\"\nscript = 'true'\n[steps.bare]\nscript = 'true'\n",
    );
    let refused = project.run(&["build"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    for said in ["environment `tool`, its base image", "`registry.invalid/p:3.11`", "mlctl.toml:4:15", "base-images"] {
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
    let refused = project.run(&["--context", "docker", "run", "bare"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    for said in ["`registry.invalid/d:1`", "steps without an environment run in it", "base-images"] {
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
}

#[test]
fn the_lock_keeps_the_base_images_of_every_context() {
    if !docker() {
        return;
    }
    const SPEC: &str = "[project]\nname = \"mlctl-it-contexts\"\n\
         [environments.tool]\nsystem-packages = [\"less\"]\n[steps.only]\nenvironment = \"tool\"\nscript = 'true'\n\
         [contexts.one]\nengine = \"docker\"\nbase-images.plain = \"busybox:1.35\"\n\
         [contexts.two]\nengine = \"docker\"\nbase-images.plain = \"debian:bookworm-slim\"\n";
    let project = Project::new(SPEC);
    let images = || -> Vec<String> {
        let lock = std::fs::read_to_string(project.root().join("mlctl.lock")).unwrap();
        lock.lines().filter_map(|line| line.strip_prefix("[images.\"")?.split('"').next()).map(str::to_owned).collect()
    };
    for context in ["one", "two", "one"] {
        project.ok(&["--context", context, "lock"]);
    }
    assert_eq!(images(), ["busybox:1.35", "debian:bookworm-slim"]);
    for context in ["one", "two"] {
        project.ok(&["--context", context, "lock", "--check"]);
    }
    // What no context names any more goes.
    project.write("mlctl.toml", &SPEC.replace("busybox:1.35", "debian:bookworm-slim"));
    project.ok(&["--context", "two", "lock"]);
    assert_eq!(images(), ["debian:bookworm-slim"]);
}

#[test]
fn an_image_stays_what_was_locked_until_the_lock_is_updated() {
    if !docker() {
        return;
    }
    const IMAGE: &str = "mlctl-it-moving:1";
    cli(&["tag", "busybox:1.35", IMAGE]);
    let project = Project::new(&format!(
        "[project]\nname = \"mlctl-it-moving\"\n[environments.box]\nimage = \"{IMAGE}\"\n\
         [steps.only]\nenvironment = \"box\"\nscript = 'ls /etc > \"$MLCTL_OUTPUT_T\"'\noutputs.t = {{}}\n"
    ));
    let run = || {
        project.ok(&["--context", "docker", "run"]);
        statuses(&project)
    };
    assert_eq!(run(), ["succeeded"]);
    cli(&["tag", "debian:bookworm-slim", IMAGE]);
    assert_eq!(run(), ["cached"]);
    project.ok(&["--context", "docker", "lock", "--check"]);
    let told = project.ok(&["--context", "docker", "lock", "--update"]);
    let id = |image: &str| cli(&["image", "inspect", "--format", "{{.Id}}", image]);
    let (old, new) = (id("busybox:1.35"), id("debian:bookworm-slim"));
    assert!(told.contains(&format!("{IMAGE} {old} (of this machine alone) -> {new}")), "{told}");
    assert_eq!(run(), ["succeeded"]);
    let why = project.ok(&["why", "only"]);
    assert!(why.contains(&format!("environment: image {} -> image {}", &old[..19], &new[..19])), "{why}");
    cli(&["rmi", IMAGE]);
}
