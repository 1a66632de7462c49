//! What needs a cluster: the contexts in the directories that `MLCTL_TEST_KIND` and `MLCTL_TEST_CLOUD` name. The file that
//! `tests/testbed/cluster/up` prints sets both; one's own may be elsewhere (CONTRIBUTING.md). Without them these tests say
//! SKIPPED; with `MLCTL_TEST_CLUSTER=1`, which CI sets for a part of them, they fail then.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use toml::{Table, Value};

use crate::faults;
use crate::support::{Ended, Project, Start, mlctl, skip};

mod access;
mod bed;
mod connections;
mod ends;
mod held;
mod network;
mod pods;
mod servers;
mod texts;

/// Runs at a time: two cores start one pod a second.
const AT_A_TIME: usize = 4;

/// A context that runs workflows on a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Bed {
    /// Its name.
    pub(crate) name: &'static str,
    /// `[contexts.NAME]` of its `config.toml`.
    context: Table,
    /// What mlctl and kubectl get in their environment.
    environment: BTreeMap<String, String>,
}

/// A store of a test's own in a context.
#[derive(Debug)]
pub(crate) struct Place {
    bed: Bed,
    /// On this machine, where the store is one of its directories.
    directory: Option<TempDir>,
}

/// The context of that name, if there is one to test with.
pub(crate) fn bed(name: &'static str) -> Option<Bed> {
    let wanted = env::var_os("MLCTL_TEST_CLUSTER").is_some_and(|value| value == "1");
    match Bed::read(name) {
        Ok(bed) => Some(bed),
        Err(why) if wanted => panic!("MLCTL_TEST_CLUSTER=1, but there is no context `{name}`: {why}"),
        Err(why) => {
            skip(&format!("no cluster (tests/testbed/cluster/up): {why}"));
            None
        }
    }
}

impl Bed {
    fn read(name: &'static str) -> Result<Self, String> {
        let variable = format!("MLCTL_TEST_{}", name.to_uppercase());
        let directory = env::var_os(&variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set"))?;
        let read = |file: &str| {
            let path = directory.join(file);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let mut config: Table = toml::from_str(&read("config.toml")?).map_err(|error| error.to_string())?;
        let context = config.get_mut("contexts").and_then(|contexts| contexts.as_table_mut()?.remove(name));
        let Some(Value::Table(context)) = context else { return Err(format!("no [contexts.{name}] in config.toml")) };
        let environment = read("environment")?;
        let pairs = environment.lines().filter_map(|line| line.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Self { name, context, environment })
    }

    /// A value of the context.
    pub(crate) fn key(&self, name: &str) -> &str {
        self.context.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets a value of the context.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.context.insert(name.to_owned(), Value::String(value.to_owned()));
    }

    /// `kubectl` as the context's user, in its namespace.
    pub(crate) fn kubectl(&self) -> Command {
        let mut kubectl = Command::new("kubectl");
        kubectl.envs(&self.environment);
        kubectl.args(["--context", self.key("kube-context"), "--namespace", self.key("namespace")]);
        kubectl
    }

    /// What `kubectl` prints, which must succeed.
    pub(crate) fn kube(&self, arguments: &[&str]) -> String {
        let ended = self.kubectl().args(arguments).ended();
        assert_eq!(ended.code, 0, "kubectl {arguments:?}: {ended:?}");
        ended.stdout.trim().to_owned()
    }

    /// A place for one test.
    pub(crate) fn place(&self) -> Place {
        let mut bed = self.clone();
        let store = bed.context.get_mut("store").and_then(|store| store.as_table_mut()?.get_mut("url")).unwrap();
        let url = store.as_str().unwrap().trim_end_matches('/').to_owned();
        let own = tempfile::Builder::new().prefix("").rand_bytes(12).to_owned();
        let directory = url.strip_prefix("file://").map(|parent| own.tempdir_in(parent).unwrap());
        let url = match &directory {
            Some(directory) => format!("file://{}", directory.path().display()),
            None => format!("{url}/{}", unique()),
        };
        *store = Value::String(url);
        Place { bed, directory }
    }
}

impl Place {
    /// The store's URL.
    pub(crate) fn url(&self) -> &str {
        self.bed.context["store"]["url"].as_str().unwrap()
    }

    /// Adds the context to a user's configuration.
    pub(crate) fn configure(&self, file: &Path) {
        let mut all: Table =
            if file.exists() { toml::from_str(&fs::read_to_string(file).unwrap()).unwrap() } else { Table::new() };
        let contexts = Table::from_iter([(self.bed.name.to_owned(), Value::Table(self.bed.context.clone()))]);
        merge(&mut all, Table::from_iter([("contexts".to_owned(), Value::Table(contexts))]));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, all.to_string()).unwrap();
    }

    /// What mlctl gets in its environment.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.bed.environment.clone();
        if let Some(directory) = &self.directory {
            all.insert("MLCTL_STORE".to_owned(), directory.path().display().to_string());
        }
        all
    }
}

/// A machine with a project of its own, and the context.
pub(crate) struct Machine {
    pub(crate) project: Project,
    place: Place,
}

impl Machine {
    /// One with this `mlctl.toml`.
    pub(crate) fn new(bed: &Bed, spec: &str) -> Self {
        let (project, place) = (Project::new(spec), bed.place());
        place.configure(&project.home().join(".config/mlctl/config.toml"));
        Self { project, place }
    }

    /// mlctl in the context.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(mlctl());
        command.args(arguments).envs(self.place.environment()).env("MLCTL_CONTEXT", self.place.bed.name);
        command
    }

    /// Runs mlctl in the context.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).ended()
    }

    /// Starts the run of everything, and gives its id.
    pub(crate) fn submit(&self) -> String {
        let ended = self.run(&["submit"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout.trim().to_owned()
    }

    /// The pods of a run that have not ended.
    pub(crate) fn pods(&self, run: &str) -> Vec<Pod> {
        let label = format!("mlctl.dev/run={run}");
        let each = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
        let going = "--field-selector=status.phase!=Succeeded,status.phase!=Failed";
        let pods = self.place.bed.kube(&["get", "pods", going, "--selector", &label, "--output", each]);
        let pods = pods.lines().filter_map(|line| line.split_once(' '));
        pods.map(|(name, uid)| Pod { name: name.to_owned(), uid: uid.to_owned() }).collect()
    }
}

/// A pod: another one may have the same name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The test bed's own cluster by its name: what disturbs one is done to no other.
pub(crate) fn own_cluster() -> Option<String> {
    let name = env::var("MLCTL_TESTBED_CLUSTER").ok();
    if name.is_none() {
        skip("not the test bed's own cluster");
    }
    name
}

/// A command in the node of the test bed's own cluster.
fn node(cluster: &str, command: &[&str]) -> Ended {
    let node = format!("{cluster}-control-plane");
    Command::new("docker").args(["exec", &node]).args(command).ended()
}

/// A command in the node, which must succeed.
fn in_node(cluster: &str, command: &[&str]) {
    let ended = node(cluster, command);
    assert_eq!(ended.code, 0, "{command:?}: {ended:?}");
}

/// Waits for a fact that takes a process to find out.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut first = true;
    faults::until(what, || {
        if !std::mem::take(&mut first) {
            std::thread::sleep(Duration::from_millis(300));
        }
        is_so()
    });
}

/// A name that no other test has, of this or another time.
fn unique() -> String {
    tempfile::tempdir().unwrap().path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Who uses the cluster now.
#[derive(Default)]
struct Users {
    runs: usize,
    alone: bool,
}

static USERS: Mutex<Users> = Mutex::new(Users { runs: 0, alone: false });
static CHANGED: Condvar = Condvar::new();

/// The right to use the cluster, until it is dropped.
pub(crate) struct Turn {
    alone: bool,
}

impl Turn {
    /// Beside a few others.
    pub(crate) fn beside_others() -> Self {
        let free = |users: &mut Users| users.alone || users.runs >= AT_A_TIME;
        let mut users = CHANGED.wait_while(USERS.lock().unwrap(), free).unwrap();
        users.runs += 1;
        Self { alone: false }
    }

    /// For what would disturb others.
    pub(crate) fn alone() -> Self {
        let mut users = CHANGED.wait_while(USERS.lock().unwrap(), |users| users.alone).unwrap();
        users.alone = true;
        drop(CHANGED.wait_while(users, |users| users.runs > 0).unwrap());
        Self { alone: true }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut users = USERS.lock().unwrap();
        if self.alone {
            users.alone = false
        } else {
            users.runs -= 1
        }
        CHANGED.notify_all();
    }
}
