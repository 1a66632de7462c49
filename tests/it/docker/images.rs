//! Steps in images of all kinds.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{cli, docker};
use crate::support::{Project, Start, mlctl, wait};

/// An image with nothing but one static program, `/busybox`, and a configuration. It goes with this.
struct Bare(&'static str);

impl Bare {
    fn make(name: &'static str, configuration: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("busybox");
        let container = cli(&["create", "busybox:1.35"]);
        cli(&["cp", "--quiet", &format!("{container}:/bin/busybox"), program.to_str().unwrap()]);
        cli(&["rm", &container]);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_path_with_name(&program, "busybox").unwrap();
        let changes = configuration.iter().flat_map(|line| ["--change", line]);
        let mut import = Command::new("docker")
            .arg("import")
            .args(changes)
            .args(["-", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(&archive.into_inner().unwrap()).unwrap();
        assert!(wait(&mut import).success());
        Self(name)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", "--force", self.0]).ended();
    }
}

#[test]
fn an_image_needs_no_shell_and_what_it_says_of_how_to_run_it_does_not_matter() {
    if !docker() {
        return;
    }
    let configuration = [
        "ENTRYPOINT [\"/no/such/entrypoint\"]",
        "CMD [\"nor\", \"this\"]",
        "WORKDIR /elsewhere",
        "USER 4711:4712",
        "VOLUME /volume",
        "HEALTHCHECK CMD /no/such/check",
        "ENV OWN=\"of the image\" HOME=/nowhere LANG=xx",
    ];
    let image = Bare::make("mlctl-test-bare:1", &configuration);
    let project = Project::new(&format!(
        r#"
[project]
name = "images"
[environments.bare]
image = "{}"
[defaults]
environment = "bare"
[steps.copy]
inputs.text = {{ path = "text" }}
command = ["/busybox", "cp", "{{{{ inputs.text }}}}", "{{{{ outputs.text }}}}"]
outputs.text = {{}}
[steps.around]
command = ["/busybox", "sh", "-c", '''
set -eu
P=/busybox
$P id -u
$P id -un
echo "$OWN|$LANG|$PATH"
$P test "$($P pwd)" = "$($P readlink /proc/self/cwd)"
$P touch here "$HOME/there" "$TMPDIR/elsewhere"
''']
"#,
        image.0
    ));
    project.write("text", "carried\n");
    project.ok(&["run", "--context", "docker"]);
    assert_eq!(project.ok(&["artifacts", "get", "copy.text", "--dest", "-"]), "carried\n");
    let user = fs::metadata(project.root()).unwrap().uid();
    let standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(project.ok(&["logs", "around"]), format!("{user}\nmlctl\nof the image|C.UTF-8|{standard}\n"));
}

#[test]
fn a_step_is_the_user_who_runs_mlctl_has_a_name_and_leaves_nothing_that_is_not_the_users() {
    let (user, group) = (12_345, 12_346);
    if !docker() || !rustix::process::geteuid().is_root() {
        return;
    }
    let project = Project::new(
        r#"
[project]
name = "user"
[environments.python]
image = "python:3.11-slim"
[steps.who]
environment = "python"
command = ["python", "-c", """
import grp, os, pwd
print(pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name, os.getgroups())
os.makedirs(os.environ['MLCTL_OUTPUT_TREE'] + '/a/b')
open(os.environ['MLCTL_OUTPUT_TREE'] + '/a/b/file', 'w').close()
open(os.path.expanduser('~/file'), 'w').close()
open('/tmp/file', 'w').close()
print(oct(os.stat(os.path.expanduser('~/file')).st_mode))
"""]
outputs.tree = {}
[steps.fails]
environment = "python"
script = "mkdir left; touch left/over; exit 7"
"#,
    );
    let base = project.root().parent().unwrap().to_owned();
    // Where the tests are built may be closed to others.
    let program = base.join("program");
    fs::copy(mlctl(), &program).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    walk(&base, &mut |path, _| chown(path, Some(user), Some(group)).unwrap());
    let socket = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = socket.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
    let ids = [user, group, fs::metadata(socket).unwrap().gid()].map(|id| id.to_string());
    let [user_id, group_id, groups] = &ids;
    let mut run = project.command("setpriv");
    run.args(["--reuid", user_id, "--regid", group_id, "--groups", groups]).arg(program);
    let ended = run.args(["run", "--context", "docker", "who", "fails"]).ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("exit status 7"), "{ended:?}");
    assert_eq!(project.ok(&["logs", "who"]), "mlctl mlctl [12346]\n0o100644\n");
    walk(&base, &mut |path, found| {
        assert_eq!((found.uid(), found.gid()), (user, group), "{}", path.display());
    });
}

fn walk(path: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let found = fs::symlink_metadata(path).unwrap();
    if !found.is_symlink() {
        each(path, &found);
    }
    if found.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), each));
    }
}
