//! What can go wrong with a daemon, and with images.

use std::fs;

use rustix::process::Signal;

use super::own::Own;
use super::{cli, docker};
use crate::faults::{says, statuses, until, until_printed};
use crate::support::{Project, Start, mlctl};

/// `slow` is built for long; `waits` runs for long; both in an image that is there.
const SPEC: &str = r#"
[project]
name = "faults"
base-images.plain = "busybox:1.35"

[environments.slow]
build = { dockerfile = "Dockerfile" }

[steps.in_slow]
environment = "slow"
command = ["true"]

[steps.waits]
script = "echo started; sleep 600"

[steps.short]
command = ["true"]
"#;

const RUN: [&str; 3] = ["run", "--context", "docker"];

/// A project whose environment runs `step` while it is built.
fn project(step: &str) -> Project {
    let project = Project::new(SPEC);
    project.write("Dockerfile", &format!("FROM busybox:1.35\n{step}\n"));
    project
}

/// Whether `sleep` sleeps for so long.
fn sleeps(seconds: &str) -> bool {
    let arguments = format!("sleep\0{seconds}\0");
    let mut processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    processes.any(|path| fs::read(path).is_ok_and(|found| found == arguments.as_bytes()))
}

#[test]
fn a_daemon_that_ends_ends_the_build_with_the_reason() {
    let Some(mut own) = Own::start(&["busybox:1.35"], None) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        // No other process sleeps for so long.
        let seconds = format!("{}{:02}", std::process::id() + 1_000_000, signal.as_raw());
        let project = project(&format!("RUN sleep {seconds}"));
        let mut build = own.mlctl(&project).args(["build", "slow"]).start();
        until("the build to sleep", || sleeps(&seconds) || build.is_over());
        own.end(signal);
        says(&build.end(), 3, &["cannot build the environment `slow`", "the connection to the daemon at unix://"]);
        let ended = own.mlctl(&project).args(["build", "slow"]).ended();
        says(&ended, 3, &["the Docker daemon at unix://", "DOCKER_HOST"]);
        own.restart();
        // What was not finished is not taken for an image.
        project.write("Dockerfile", "FROM busybox:1.35\nRUN true\n");
        says(&own.mlctl(&project).args(["build", "slow"]).ended(), 0, &[]);
    }
}

#[test]
fn a_daemon_that_ends_fails_its_steps_and_the_next_run_goes_on() {
    let Some(mut own) = Own::start(&["busybox:1.35"], None) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        let project = project("RUN true");
        let run = own.mlctl(&project).args(RUN).args(["waits", "short"]).start();
        until_printed(&project, "waits", "started");
        own.end(signal);
        says(&run.end(), 1, &["waits: failed: "]);
        let (status, instances) = statuses(&project, "@latest");
        assert_eq!((status.as_str(), instances[0].1.as_str()), ("failed", "failed"), "{instances:?}");
        let ended = own.mlctl(&project).args(RUN).arg("waits").ended();
        says(&ended, 3, &["the Docker daemon at unix://"]);
        own.restart();
        let spec = SPEC.replace("sleep 600", "true");
        project.write("mlctl.toml", &spec);
        says(&own.mlctl(&project).args(RUN).args(["waits", "short"]).ended(), 0, &[]);
        assert_eq!(own.cli(&["ps", "--all", "--quiet"]), "", "a container is left over");
    }
}

#[test]
fn a_disk_of_the_daemon_that_is_full_is_said() {
    let Some(own) = Own::start(&["busybox:1.35"], Some("64m")) else { return };
    let full = ["o space left on device", "docker system df"];
    let by_step = project("RUN dd if=/dev/zero of=/big bs=1M count=100");
    says(&own.mlctl(&by_step).args(["build", "slow"]).ended(), 3, &full);
    let by_context = project("COPY big /");
    fs::write(by_context.root().join("big"), vec![1; 100 << 20]).unwrap();
    says(&own.mlctl(&by_context).args(["build", "slow"]).ended(), 3, &full);

    let filler = own.data().join("filler");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut fs::File::create(&filler).unwrap());
    says(&own.mlctl(&by_step).args(RUN).arg("short").ended(), 3, &full);
    fs::remove_file(filler).unwrap();
    own.cli(&["builder", "prune", "--force"]);
    says(&own.mlctl(&by_step).args(RUN).arg("short").ended(), 0, &[]);
}

#[test]
fn an_image_that_cannot_be_had_is_said_where_it_is_named() {
    if !docker() {
        return;
    }
    // A host that nobody has.
    let missing = "registry.invalid/base:1";
    let project = project("RUN true");
    project.write("Dockerfile", &format!("FROM busybox:1.35\nRUN true\nFROM {missing}\n"));
    let named = [&format!("the image `{missing}` cannot be had"), "Dockerfile:3", "registry.invalid"];
    says(&project.run(&["build", "slow"]), 3, &named);
    says(&project.run(&[&RUN, ["in_slow"].as_slice()].concat()), 3, &named);

    project.write("mlctl.toml", &SPEC.replace("busybox:1.35", missing));
    says(&project.run(&[&RUN, ["short"].as_slice()].concat()), 3, &[missing]);
    assert!(project.run(&["runs"]).stdout.is_empty(), "nothing ran");
}

/// Gives the daemon an image for another processor, with a program for that one.
fn foreign(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let forge = r#"
        mkdir -p root/bin
        head -c 4096 "$1" > root/bin/true
        printf '\267' | dd of=root/bin/true bs=1 seek=18 conv=notrunc 2>/dev/null
        chmod 755 root/bin/true
        tar -C root -cf layer.tar .
        layer=$(sha256sum layer.tar | cut -d' ' -f1)
        printf '{"architecture":"arm64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$layer" > config.json
        printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$2" > manifest.json
        tar -cf image.tar config.json manifest.json layer.tar
    "#;
    let mut sh = std::process::Command::new("sh");
    let sh = sh.current_dir(dir.path()).args(["-euc", forge, "sh"]).arg(mlctl()).arg(name);
    assert_eq!(sh.ended().code, 0);
    cli(&["load", "--quiet", "--input", dir.path().join("image.tar").to_str().unwrap()]);
}

#[test]
fn a_program_for_another_processor_is_said_with_its_image() {
    if !docker() || cli(&["version", "--format", "{{.Server.Arch}}"]) != "amd64" {
        return;
    }
    let name = "mlctl-test/foreign:1";
    foreign(name);
    let spec = "[project]\nname = \"f\"\n[environments.arm]\nimage = \"mlctl-test/foreign:1\"\n\
                [steps.a]\nenvironment = \"arm\"\ncommand = [\"/bin/true\"]\n";
    let project = Project::new(spec);
    let ended = project.run(&RUN);
    cli(&["image", "rm", name]);
    says(&ended, 1, &["a: failed: could not be started: `/bin/true`", "linux/arm64", "linux/amd64"]);
}
