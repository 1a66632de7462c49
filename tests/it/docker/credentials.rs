//! A registry that wants to know who asks, and where mlctl finds out: Docker's config, a credential helper.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{cli, docker};
use crate::support::{Ended, Project, Start, mlctl};

const PASSWORD: &str = "hunter2?>~";

/// A registry that ends with the test.
pub(super) struct Registry {
    pub(super) address: String,
    process: Child,
}

impl Registry {
    /// Starts it with what it holds in `dir`.
    pub(super) fn start(dir: &Path, options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/registry");
        let mut command = Command::new(script);
        let mut process = command.args(options).arg(dir).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(!address.is_empty(), "the registry does not start");
        Self { address: address.trim().to_owned(), process }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Builds as somebody with this config of Docker's.
fn build(project: &Project, config: &str) -> Ended {
    fs::create_dir_all(project.home().join(".docker")).unwrap();
    fs::write(project.home().join(".docker/config.json"), config).unwrap();
    let bin = project.home().join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    project.command(mlctl()).args(["-v", "build", "private"]).env("PATH", path).ended()
}

#[test]
fn a_private_image_is_locked_and_pulled_with_the_users_credentials() {
    if !docker() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), &["--auth", &format!("me:{PASSWORD}")]);
    let host = &registry.address;
    let image = format!("{host}/mlctl-test/private:1");
    let spec = format!(
        "[project]\nname = \"private\"\n[environments.private]\nimage = \"{image}\"\n[steps.x]\nscript = \"true\"\n"
    );
    let project = Project::new(&spec);

    // The docker command logs in where the test says, and pushes.
    let config = project.home().join("login");
    let config = config.to_str().unwrap();
    cli(&["--config", config, "login", "--username", "me", "--password", PASSWORD, host]);
    cli(&["tag", "busybox:1.35", &image]);
    cli(&["--config", config, "push", "--quiet", &image]);
    cli(&["rmi", &image]);

    let helper = r#"{"credHelpers": {"HOST": "mlctl-test"}}"#.replace("HOST", host);
    let unknown = [build(&project, "{}"), build(&project, &helper)];
    assert!(unknown[0].stderr.contains(&format!("docker login {host}")), "{unknown:?}");
    assert!(unknown[1].stderr.contains("`docker-credential-mlctl-test`, which"), "{unknown:?}");

    let bin = project.home().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = bin.join("docker-credential-mlctl-test");
    let write = |text: &str| {
        fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("cat >/dev/null; echo 'the vault is locked' >&2; exit 1");
    let locked = build(&project, &helper);
    assert!(locked.stderr.contains("docker-credential-mlctl-test failed, and said: the vault is locked"), "{locked:?}");
    write("cat >/dev/null; echo 'credentials not found in native keychain'; exit 1");
    let none = build(&project, &helper);
    assert!(none.stderr.contains(&format!("docker login {host}")), "{none:?}");
    write(&format!(
        "[ \"$1 $(cat)\" = 'get {host}' ] && echo '{{\"ServerURL\": \"{host}\", \"Username\": \"me\", \"Secret\": \"{PASSWORD}\"}}'"
    ));
    let built = build(&project, &helper);
    assert_eq!(built.code, 0, "{built:?}");
    assert!(project.root().join("mlctl.lock").is_file());

    let forget = || {
        let named = cli(&["images", "--quiet", "--filter", &format!("reference={host}/mlctl-test/private")]);
        assert!(!named.is_empty());
        let digests = "{{range .RepoDigests}}{{println .}}{{end}}";
        for digest in cli(&["image", "inspect", "--format", digests, &named]).lines().filter(|name| name.contains(host))
        {
            cli(&["rmi", digest]);
        }
    };
    forget();
    // By what `docker login` wrote.
    let written = fs::read_to_string(Path::new(config).join("config.json")).unwrap();
    let again = build(&project, &written);
    assert_eq!(again.code, 0, "{again:?}");
    forget();
    for ended in unknown.iter().chain([&locked, &none, &built, &again]) {
        assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
    }
}
