//! How long planning, keying and scheduling take, and how much memory: `cargo run --release -p mlctl-core --example
//! speed [INSTANCES]`. Each shape in a process of its own would be truer for memory; the peak is that of all so far.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::fmt::Write as _;
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact, ArtifactKind};
use mlctl_core::diag::Source;
use mlctl_core::digest::Digest;
use mlctl_core::forecast::forecast;
use mlctl_core::plan::{Plan, Request, plan};
use mlctl_core::scheduler::{Command, Facts, Input, Options, Scheduler};
use mlctl_core::{params, spec};

fn main() {
    let count: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let side = count.isqrt();
    println!("{count} instances; milliseconds of CPU; peak memory in MiB");
    println!("{:28} {:>8} {:>8} {:>8} {:>8} {:>8}", "", "parse", "plan", "hits", "runs", "peak");
    measure("matrix", &matrix(count));
    measure("matrix, then one to one", &chained_matrix(count / 2));
    measure("spelled out, a chain", &chain(count));
    measure("spelled out, a fan-out", &wide(count));
    measure(&format!("{side} gathered by {side}, {} times", side / 2), &gathers(side, side / 2));
}

const HEAD: &str = "[project]\nname = \"speed\"\n";

fn matrix(count: usize) -> String {
    let values: Vec<String> = (0..count).map(|i| i.to_string()).collect();
    format!(
        "{HEAD}[steps.one]\ncommand = [\"c\", \"{{{{ matrix.i }}}}\", \"{{{{ outputs.o }}}}\"]\nmatrix.i = [{}]\noutputs.o = {{}}\n",
        values.join(", ")
    )
}

fn chained_matrix(count: usize) -> String {
    matrix(count)
        + "[steps.two]\ncommand = [\"c\", \"{{ inputs.o }}\"]\nmatrix = \"one\"\ninputs.o = \"one.o\"\noutputs.o = {}\n"
}

fn chain(count: usize) -> String {
    let mut text = HEAD.to_owned() + "[steps.s0]\ncommand = [\"c\"]\noutputs.o = {}\n";
    for i in 1..count {
        let _ = writeln!(text, "[steps.s{i}]\ncommand = [\"c\"]\ninputs.i = \"s{}.o\"\noutputs.o = {{}}", i - 1);
    }
    text
}

fn wide(count: usize) -> String {
    let mut text = HEAD.to_owned();
    for i in 0..count {
        let _ = writeln!(text, "[steps.s{i}]\ncommand = [\"c\", \"{i}\"]\noutputs.o = {{}}");
    }
    text
}

/// Levels of `side` instances, each of which gathers all of the level before.
fn gathers(side: usize, levels: usize) -> String {
    let values: Vec<String> = (0..side).map(|i| i.to_string()).collect();
    let mut text = HEAD.to_owned();
    for level in 0..levels {
        let _ = writeln!(
            text,
            "[steps.s{level}]\ncommand = [\"c\"]\nmatrix.a{level} = [{}]\noutputs.o = {{}}",
            values.join(", ")
        );
        if level > 0 {
            let _ = writeln!(text, "inputs.i = \"s{}[*].o\"", level - 1);
        }
    }
    text
}

fn planned(text: &str) -> (Plan, f64, f64) {
    let begun = cpu();
    let source = Source { name: "mlctl.toml".to_owned(), text: text.to_owned() };
    let workflow = spec::parse(&source).expect("a valid spec").workflow;
    let parsed = cpu();
    let params = params::bind(&workflow, &[]).expect("params");
    let plan = plan(Arc::new(workflow), params, &Request::default()).expect("a plan");
    (plan, parsed - begun, cpu() - parsed)
}

fn facts(plan: &Plan) -> Facts {
    Facts {
        sources: plan.needed().map(|step| (step, Digest::of(b"sources"))).collect(),
        host: Some(Digest::of(b"host")),
        ..Facts::default()
    }
}

fn result(key: &Digest) -> Arc<ActionResult> {
    let artifact = Artifact { kind: ArtifactKind::File, digest: *key, size: 1 };
    Arc::new(ActionResult { artifacts: [("o".to_owned(), artifact)].into(), ..ActionResult::default() })
}

fn measure(name: &str, text: &str) {
    let (plan, parse, planning) = planned(text);
    let facts = facts(&plan);
    let begun = cpu();
    let all = forecast(plan.clone(), facts.clone(), &mut |key: &Digest| Some(result(key)));
    let hits = cpu() - begun;
    assert!(all.nothing_to_do());
    let begun = cpu();
    run(plan, facts);
    let runs = cpu() - begun;
    println!("{name:28} {parse:8.1} {planning:8.1} {hits:8.1} {runs:8.1} {:8.1}", peak());
}

/// Everything misses and is launched, two at a time.
fn run(plan: Plan, facts: Facts) {
    let mut scheduler = Scheduler::new(plan, facts, Options { jobs: 2, ..Options::default() });
    let mut commands = Vec::new();
    scheduler.step(Input::Begin, &mut commands);
    while !commands.is_empty() {
        for command in std::mem::take(&mut commands) {
            let input = match command {
                Command::LookUp { ix, .. } => Input::LookedUp { ix, result: None },
                Command::Launch { ix, attempt } => {
                    let task = scheduler.task(ix, attempt);
                    scheduler.step(Input::Started { ix, attempt }, &mut commands);
                    Input::Finished { ix, attempt, result: Ok(result(&task.key.expect("a key"))) }
                }
                _ => continue,
            };
            scheduler.step(input, &mut commands);
        }
    }
}

/// CPU time of this thread so far, in milliseconds: a busy machine does not spoil it.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

/// The most memory that was resident, in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}
