//! What an attempt costs beyond its command: 1,000 times `sh -c 'echo N > FILE'`, two at once, with everything on
//! (slots, confinement, warden, log, digest, entry), against ninja doing the same, alternating in one run.
//!
//! `cargo run --release -p mlctl-exec --example spawnbench [ROUNDS] [DIRECTORY]`
//!
//! It leaves what it made in `DIRECTORY/spawnbench-PID`: for minutes after many files were removed ext4 takes several
//! times as long to make one, which would spoil the next measurement. Remove it when done measuring.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mlctl_core::action::{CONTRACT, Task, TaskOutput};
use mlctl_core::digest::Digest;
use mlctl_core::template::{Piece, Template};
use mlctl_core::workflow::Resources;
use mlctl_exec::sources::Snapshot;
use mlctl_exec::store::Store;
use mlctl_exec::{Cancel, Executor, Place, Realised, Warden, warden};

const STEPS: u32 = 1000;
const THREADS: u32 = 2;

/// Seconds.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == warden::ARGUMENT
    {
        return warden::main(rest);
    }
    let rounds: u32 = arguments.first().map_or(5, |rounds| rounds.parse().unwrap());
    let directory = arguments
        .get(1)
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("spawnbench-{}", std::process::id()));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        theirs.push(ninja(&directory.join(format!("ninja-{round}"))));
        ours.push(attempts(&directory.join(format!("mlctl-{round}"))));
    }
    let report = |name: &str, costs: &[Cost]| {
        let best = |of: fn(&Cost) -> f64| costs.iter().map(of).fold(f64::INFINITY, f64::min);
        let best = Cost { wall: best(|cost| cost.wall), cpu: best(|cost| cost.cpu) };
        println!("{name:6} best of {rounds}: wall {:.3} s, CPU {:.3} s", best.wall, best.cpu);
        best
    };
    let (ours, theirs) = (report("mlctl", &ours), report("ninja", &theirs));
    println!("ratio: wall {:.2}, CPU {:.2}", ours.wall / theirs.wall, ours.cpu / theirs.cpu);
    ExitCode::SUCCESS
}

fn measure(work: impl FnOnce()) -> Cost {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    work();
    Cost { wall: wall.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }
}

/// User and system time of this process and of the children that it waited for.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(4);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn ninja(directory: &Path) -> Cost {
    fs::create_dir_all(directory).unwrap();
    // ninja runs a command by `sh -c` itself.
    let mut text = "rule r\n  command = echo $n > $out\n".to_owned();
    for step in 0..STEPS {
        writeln!(text, "build out/{step}: r\n  n = {step}").unwrap();
    }
    fs::write(directory.join("build.ninja"), text).unwrap();
    let mut command = Command::new("ninja");
    command.args(["-j", &THREADS.to_string(), "--quiet", "-C"]).arg(directory);
    measure(|| assert!(command.status().unwrap().success()))
}

fn attempts(directory: &Path) -> Cost {
    let store = Arc::new(Store::open(&directory.join("store")).unwrap());
    let project = directory.join("project");
    fs::create_dir_all(&project).unwrap();
    let tree = Snapshot::take(&project, &directory.join("stamps")).unwrap().tree(None, &[]).unwrap();
    store.put_sources(&tree).unwrap();
    let next = AtomicU32::new(0);
    measure(|| {
        let executor = Executor::new(store).guarded_by(Warden::this_program());
        let cancel = Cancel::new().unwrap();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let step = next.fetch_add(1, Ordering::Relaxed);
                        if step >= STEPS {
                            return;
                        }
                        let report =
                            executor.run(&task(step, tree.digest), &place(directory, step), &cancel, &mut || {});
                        report.result.unwrap();
                    }
                });
            }
        });
    })
}

fn task(step: u32, sources: Digest) -> Task {
    let text = |text: &str| Piece::Text(text.to_owned());
    let script = Template(vec![text(&format!("echo {step} > ")), Piece::Output("x".to_owned())]);
    Task {
        contract: CONTRACT,
        run: "bench".to_owned(),
        instance: format!("step@n={step}"),
        attempt: 1,
        key: Some(Digest::of(&step.to_ne_bytes())),
        command: vec![Template(vec![text("sh")]), Template(vec![text("-c")]), script],
        env: BTreeMap::new(),
        params: BTreeMap::new(),
        sources,
        inputs: Default::default(),
        outputs: [("x".to_owned(), TaskOutput { at: None, value: None })].into_iter().collect(),
        environment: None,
        secrets: Vec::new(),
        settings: BTreeMap::new(),
        caches: Vec::new(),
        checkpoint: false,
        resources: Resources::default(),
        timeout: None,
    }
}

fn place(directory: &Path, step: u32) -> Place {
    Place {
        work: directory.join("store/runs/bench/s"),
        log: directory.join(format!("logs/{step}.log")),
        partial: None,
        environment: Realised::default(),
        authorities: None,
        secrets: BTreeMap::new(),
        caches: directory.join("store/caches"),
        checkpoint: directory.join("store/checkpoints"),
        replace: false,
        sandbox: true,
        grace: Duration::from_secs(10),
        components: BTreeMap::new(),
    }
}
