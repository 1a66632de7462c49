//! Starts pods in the order that an engine would, by what it would know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mlctl_core::units::{Holds, Rows, Unit, UnitIx};
use rustix::process::{Pid, Signal, kill_process};

use super::bench::Run;

/// Nothing here takes so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// As Argo's own process starts a command.
const ARGO: [&str; 4] = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
/// A pod is started so often.
const PODS: usize = 4;

/// A pod: the two containers of it.
pub(crate) struct Pod {
    pub(crate) at: PathBuf,
    pub(crate) uid: String,
    /// The directory of its lease.
    lease: String,
    store: Command,
    pub(crate) storing: Option<Child>,
    pub(crate) running: Option<Child>,
}

/// What an engine sees of a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seen {
    Succeeded,
    Failed,
    NotStarted,
}

/// How a pod ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// What it told the engine.
    pub(crate) at: PathBuf,
}

impl Ended {
    pub(crate) fn told(&self, name: &str) -> String {
        fs::read_to_string(self.at.join("out").join(name)).unwrap_or_default()
    }
}

impl Run<'_> {
    /// A pod of a unit, not started yet.
    pub(crate) fn pod(&self, unit: &str, worker: u32, attempt: usize) -> Pod {
        self.pod_in(&ARGO, unit, worker, attempt)
    }

    /// The same, with another way to the server of the store, and so many seconds of patience.
    pub(crate) fn pod_at(&self, server: &str, patience: u32, unit: &str, worker: u32, attempt: usize) -> Pod {
        self.pod_with((&ARGO, Some(server), patience), unit, worker, attempt)
    }

    /// The same, with what runs the unit started by another program.
    pub(crate) fn pod_in(&self, by: &[&str], unit: &str, worker: u32, attempt: usize) -> Pod {
        self.pod_with((by, None, 30), unit, worker, attempt)
    }

    fn pod_with(
        &self,
        (by, server, patience): (&[&str], Option<&str>, u32),
        unit: &str,
        worker: u32,
        attempt: usize,
    ) -> Pod {
        let uid = format!("{unit}-{worker}-{attempt}");
        let at = self.bench.directory.path().join(&self.id).join(&uid);
        fs::create_dir_all(&at).unwrap();
        let command = |by: &[&str], what: &str, more: &[&str]| {
            let mut all = by.iter().copied().chain([env!("CARGO_BIN_EXE_mlctl-exec")]);
            let mut command = Command::new(all.next().unwrap());
            command.args(all).arg(what).arg("--at").arg(&at).args([
                "--run",
                &self.id,
                "--submission",
                &self.submission.to_hex(),
            ]);
            command.args(more).args(["--patience", &patience.to_string()]).stdin(Stdio::null());
            command
        };
        let mut store = command(&[], "store", &["--store", &self.bench.url]);
        store.envs(server.map(|server| ("AWS_ENDPOINT_URL", server)));
        let mut run = command(by, "run", &["--unit", unit, "--worker", &worker.to_string()]);
        // As an image would, and a cluster.
        run.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("MLCTL_POD", &uid).env("OF_THE_IMAGE", "yes");
        run.env("HOSTNAME", "node")
            .env("KUBERNETES_PORT", "tcp://10.0.0.1:443")
            .env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        run.env("ARGO_TEMPLATE", "{}").env("HOME", "/root").env("TOKEN", "hunter2");
        let lease = at.parent().and_then(Path::parent).unwrap().join("store/runs");
        let lease = if self.bench.is_here() { lease } else { at.join("store/runs") };
        let lease = lease.join(format!("{}-{uid}", self.id)).display().to_string();
        let mut pod = Pod { at, uid, lease, store, storing: None, running: None };
        pod.start_storing();
        pod.running = Some(run.spawn().unwrap());
        pod
    }

    /// Works through all units; gives what an engine sees of each.
    pub(crate) fn play(&self) -> Vec<Seen> {
        let mut seen: Vec<Seen> = Vec::new();
        let mut ended: Vec<Vec<Ended>> = Vec::new();
        for unit in &self.units {
            let met = unit.after.iter().all(|after| match seen[after.unit.0 as usize] {
                Seen::Succeeded => true,
                Seen::Failed => after.though_failed,
                Seen::NotStarted => after.though_not_started,
            });
            let told = |by: UnitIx, name: String| ended[by.0 as usize][0].told(&name);
            let starts = met && unit.when.as_ref().is_none_or(|when| holds(when, &told));
            let pods = if starts { self.pods(unit, &told) } else { 0 };
            let name = &self.plan.step(unit.first()).name;
            let all: Vec<Ended> = thread::scope(|scope| {
                let pods: Vec<_> = (0..pods).map(|worker| scope.spawn(move || self.until_done(name, worker))).collect();
                pods.into_iter().map(|pod| pod.join().unwrap()).collect()
            });
            seen.push(match starts {
                false => Seen::NotStarted,
                true if all.iter().all(|pod| pod.code == 0) => Seen::Succeeded,
                true => Seen::Failed,
            });
            ended.push(all);
        }
        seen
    }

    fn pods(&self, unit: &Unit, told: &dyn Fn(UnitIx, String) -> String) -> u32 {
        match unit.rows {
            Rows::Known { pods, .. } => pods,
            Rows::Dynamic { count: Some((by, place)) } => told(by, format!("w{place}")).parse().unwrap(),
            Rows::Dynamic { count: None } => 2,
        }
    }

    /// Pods until one ended for good.
    pub(crate) fn until_done(&self, unit: &str, worker: u32) -> Ended {
        for attempt in 0..PODS {
            let ended = self.pod(unit, worker, attempt).wait();
            if [0, 1, 4, 5].contains(&ended.code) {
                return ended;
            }
        }
        panic!("`{unit}` does not end");
    }
}

impl Pod {
    /// Starts the container that stores, for the first time or again.
    pub(crate) fn start_storing(&mut self) {
        self.storing = Some(self.store.spawn().unwrap());
    }

    /// Ends the container that runs the unit, with all that is in it.
    pub(crate) fn kill(&mut self) {
        self.running.as_mut().unwrap().kill().unwrap();
        for pid in self.commands() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Waits for the end of what runs the unit alone: what stores has nothing to store to.
    pub(crate) fn run_to_its_end(mut self) -> i32 {
        end(self.running.as_mut().unwrap(), &format!("the unit of {}", self.uid))
    }

    /// Waits for the end of what stores, which nobody has told to end.
    pub(crate) fn store_to_its_end(mut self) -> i32 {
        end(self.storing.as_mut().unwrap(), &format!("what stores of {}", self.uid))
    }

    /// Waits for the end of both, in their order.
    pub(crate) fn wait(mut self) -> Ended {
        let code = end(self.running.as_mut().unwrap(), &format!("the unit of {}", self.uid));
        let storing = self.storing.as_mut().unwrap();
        signal(storing, Signal::TERM);
        let stored = end(storing, &format!("what stores of {}", self.uid));
        assert_eq!(stored, 0, "what stores of {} failed", self.uid);
        Ended { code, at: self.at.clone() }
    }
}

/// A pod ends as a whole.
impl Drop for Pod {
    fn drop(&mut self) {
        for child in [self.running.take(), self.storing.take()].iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for pid in self.commands() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Pod {
    /// The processes of the step: they work in a directory named by the pod.
    pub(crate) fn commands(&self) -> Vec<Pid> {
        let work = format!("{}/work/", self.lease);
        let is_its = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.to_string_lossy().contains(&work))
        };
        let its = fs::read_dir("/proc").unwrap().flatten().filter(is_its);
        its.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the end of a process; gives its exit status, or 128 and its signal.
fn end(child: &mut Child, what: &str) -> i32 {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            use std::os::unix::process::ExitStatusExt;
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        }
        assert!(Instant::now() < deadline, "{what} does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not after {LIMIT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn holds(when: &Holds, told: &dyn Fn(UnitIx, String) -> String) -> bool {
    match when {
        Holds::Report(unit, place) => told(*unit, format!("c{place}")) == "true",
        Holds::Not(one) => !holds(one, told),
        Holds::And(left, right) => holds(left, told) && holds(right, told),
        Holds::Or(left, right) => holds(left, told) || holds(right, told),
    }
}
