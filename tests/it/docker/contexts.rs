//! Build contexts: what of a directory is in the image, and what can go wrong with that.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::proxy::proxy;
use super::realisations::{Images, images};
use super::{cli, docker};
use crate::faults::{Tmpfs, says};
use crate::support::{self, Ended, Project, Start, mlctl};

/// A project whose environment copies the directory `image`.
fn project(name: &str) -> Project {
    let project = Project::new(&format!(
        "[project]\nname = \"{name}\"\n[environments.own]\nbuild = {{ dockerfile = \"image/Dockerfile\" }}\n\
         [steps.only]\nenvironment = \"own\"\ncommand = [\"true\"]\n"
    ));
    project.write("image/Dockerfile", "FROM busybox:1.35\nCOPY . /copied\n");
    project
}

/// What an image has below `/copied`: names with kind, executable bit and target, and a digest of the contents.
fn copied(image: &str) -> BTreeSet<String> {
    let list = "cd /copied; find . -mindepth 1 -print0 | while IFS= read -r -d '' f; do \
                printf '%s %s %s %s\\0' \"$f\" \"$(stat -c %F \"$f\")\" \"$(readlink \"$f\")\" \
                \"$([ -f \"$f\" ] && [ -x \"$f\" ] && echo x)$([ -f \"$f\" ] && [ ! -L \"$f\" ] && sha256sum < \"$f\")\"; done";
    let listed = cli(&["run", "--rm", "--label", "mlctl-test", image, "sh", "-c", list]);
    listed.split('\0').filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn an_image_has_what_docker_build_copies() {
    const NAME: &str = "mlctl-it-context";
    if !docker() {
        return;
    }
    let _images = Images(NAME);
    let project = project(NAME);
    let root = project.root().join("image");
    let long = "long-".repeat(40);
    for (name, text) in
        [("a", "A"), ("sub/keep", "kept"), ("sub/b", "B"), ("out/x", "x"), ("new\nline", "n"), ("ünï", "u")]
    {
        project.write(&format!("image/{name}"), text);
    }
    project.write(&format!("image/{long}/{long}"), "deep");
    fs::write(root.join(OsStr::from_bytes(b"not \xff utf-8")), "odd").unwrap();
    fs::create_dir_all(root.join("empty/below")).unwrap();
    fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for (target, link) in
        [("a", "link"), ("/etc/passwd", "absolute"), ("../../nowhere", "outwards"), (&*long.repeat(2), "far")]
    {
        symlink(target, root.join(link)).unwrap();
    }
    fs::hard_link(root.join("a"), root.join("hard")).unwrap();
    project.write("image/.dockerignore", "Dockerfile\n.dockerignore\nout\nsub\n!sub/keep\n**/*.pyc\n");
    project.write("image/deep/cache.pyc", "no");

    project.ok(&["build", "-q"]);
    let ours = copied(&images(NAME)[0]);
    let docker_build = || {
        let mut build = project.command("docker");
        build.env("DOCKER_BUILDKIT", "0").args([
            "build",
            "-q",
            "--label",
            &format!("dev.mlctl.project={NAME}"),
            "image",
        ]);
        build.ended().stdout.trim().to_owned()
    };
    let mut theirs = copied(&docker_build());
    // With BuildKit an excluded Dockerfile has to be somewhere.
    theirs.extend(ours.iter().filter(|line| line.starts_with("./.mlctl.Dockerfile ")).cloned());
    assert_eq!(ours, theirs);
    assert!(ours.len() > 15 && ours.iter().all(|line| !line.starts_with("./Dockerfile")), "{ours:#?}");

    // What is excluded may change.
    project.write("image/out/x", "another");
    assert_eq!(project.json(&["build"])[0]["status"], "unchanged");
}

#[test]
fn a_file_that_changes_after_it_was_hashed_ends_the_build() {
    const NAME: &str = "mlctl-it-changes";
    if !docker() {
        return;
    }
    let _images = Images(NAME);
    let project = project(NAME);
    // More than waits on the way: what comes after it has not been read when the build begins.
    fs::File::create(project.root().join("image/a")).unwrap().set_len(64 << 20).unwrap();
    project.write("image/z", "before");
    let socket = project.home().join("docker.sock");
    let changed = project.root().join("image/z");
    proxy(&socket, move |asked| {
        if asked.windows(7).any(|part| part == b"/build?") {
            fs::write(&changed, "after!").unwrap();
        }
    });
    let mut build = project.command(mlctl());
    let ended = build.args(["build"]).env("DOCKER_HOST", format!("unix://{}", socket.display())).ended();
    says(
        &ended,
        1,
        &["image/z changed while it was read", "environment `own`", "help: something writes to it", ".dockerignore"],
    );
    assert_eq!(images(NAME), [""; 0]);
    project.ok(&["build"]);
    let kept = cli(&["run", "--rm", &images(NAME)[0], "cat", "/copied/z"]);
    assert_eq!(kept, "after!");
}

#[test]
fn a_large_context_takes_little_memory() {
    const NAME: &str = "mlctl-it-large";
    if !docker() {
        return;
    }
    let _images = Images(NAME);
    let project = project(NAME);
    project.write("image/Dockerfile", "FROM busybox:1.35\nCOPY small /small\n");
    project.write("image/small", "");
    fs::File::create(project.root().join("image/large")).unwrap().set_len(512 << 20).unwrap();
    let mut build = project.command(mlctl()).args(["build", "-q"]).start();
    let mut peak = 0;
    while !build.is_over() {
        let status = fs::read_to_string(format!("/proc/{}/status", build.pid().as_raw_nonzero())).unwrap_or_default();
        let high =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(high.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    says(&build.end(), 0, &[]);
    assert!((1..100 << 10).contains(&peak), "{peak} KiB");
}

#[test]
fn two_builds_of_one_environment_at_once_agree() {
    const NAME: &str = "mlctl-it-together";
    if !docker() {
        return;
    }
    let _images = Images(NAME);
    let project = project(NAME);
    project.write("image/Dockerfile", "FROM busybox:1.35\nRUN sleep 1\nCOPY . /copied\n");
    let builds = [(); 2].map(|()| project.command(mlctl()).args(["build", "-o", "json"]).start());
    let built = builds.map(|build| {
        let ended = build.end();
        says(&ended, 0, &[]);
        serde_json::from_str::<serde_json::Value>(&ended.stdout).unwrap()[0]["id"].clone()
    });
    assert_eq!(built[0], built[1]);
    assert_eq!(images(NAME).len(), 1);
}

#[test]
fn a_context_may_lie_where_nothing_can_be_written() {
    const NAME: &str = "mlctl-it-readonly";
    if !docker() {
        return;
    }
    let _images = Images(NAME);
    let project = project(NAME);
    let Some(place) = Tmpfs::mount(&project.home().join("place"), "20m") else { return };
    let root = project.home().join("place/project");
    support::copy(&project.root(), &root);
    let build = || -> Ended {
        let mut build = project.command(mlctl());
        build.current_dir(&root).args(["build", "-o", "json"]).ended()
    };
    let status = |ended: &Ended| {
        says(ended, 0, &[]);
        serde_json::from_str::<serde_json::Value>(&ended.stdout).unwrap()[0]["status"].clone()
    };
    // Full.
    let _ = fs::write(root.join("filler"), vec![b'x'; 30 << 20]);
    assert_eq!(status(&build()), "built");
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(project.home().join("place")).status();
    assert!(remount.unwrap().success());
    assert_eq!(status(&build()), "unchanged");
    drop(place);
}
