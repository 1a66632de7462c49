//! Steps in containers, where conformance cases do not reach: limits, ends from outside, images of all kinds, logs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::docker::{cli, docker};
use crate::support::{Project, Running, Start, mlctl};

/// A project of which each run is in containers.
fn project(steps: &str) -> Project {
    Project::new(&format!("[project]\nname = \"steps\"\n{steps}"))
}

/// Runs all; the failure of each instance that has one.
fn failures(project: &Project) -> Value {
    let ended = project.run(&["run", "--context", "docker", "-o", "json"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let instances = report["instances"].as_array().unwrap();
    let named = |instance: &Value| Some((instance["instance"].as_str()?.to_owned(), instance["failure"].clone()));
    Value::Object(instances.iter().filter_map(named).filter(|(_, failure)| !failure.is_null()).collect())
}

fn log(project: &Project, instance: &str) -> String {
    project.ok(&["logs", instance])
}

/// The containers of a project's runs that are there.
fn containers(project: &Project) -> Vec<String> {
    let store = format!("label=dev.mlctl.store={}", project.store().display());
    cli(&["ps", "--all", "--quiet", "--filter", &store]).split_whitespace().map(str::to_owned).collect()
}

/// Starts a run, and waits until `text` is in the log of `instance`.
fn started(project: &Project, instance: &str, text: &str) -> Running {
    let run = project.command(mlctl()).args(["run", "--context", "docker"]).start();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !project.run(&["logs", instance]).stdout.contains(text) {
        assert!(Instant::now() < deadline, "`{instance}` never wrote `{text}`");
        std::thread::sleep(Duration::from_millis(20));
    }
    run
}

#[test]
fn logs_are_complete_and_in_order_however_fast_a_container_ends() {
    if !docker() {
        return;
    }
    let project = project(
        r#"
[steps.both]
script = 'i=0; while [ $i -lt 5000 ]; do echo "o$i"; echo "e$i" >&2; i=$((i + 1)); done'
[steps.much]
script = 'head -c 100000000 /dev/zero | tr "\0" "x"; echo end >&2'
[steps.torn]
script = 'printf "no newline"'
"#,
    );
    assert_eq!(failures(&project), json!({}));
    let expected: String = (0..5000).map(|i| format!("o{i}\ne{i}\n")).collect();
    assert!(log(&project, "both") == expected, "the streams are not in the order in which they were written");
    let much = log(&project, "much");
    assert_eq!((much.len(), much.ends_with("xend\n")), (100_000_004, true));
    assert_eq!(log(&project, "torn"), "no newline");
    assert_eq!(containers(&project), Vec::<String>::new());
}

#[test]
fn what_is_asked_for_is_what_there_is_and_no_more() {
    if !docker() {
        return;
    }
    let project = project(
        r#"
[steps.direct]
resources = { memory = "64Mi" }
command = ["tail", "/dev/zero"]
[steps.child]
resources = { memory = "64Mi" }
script = 'tail /dev/zero; exit 5'
[steps.kept]
resources = { memory = "64Mi" }
script = 'tail /dev/zero || true'
[steps.shm_of_memory]
resources = { memory = "96Mi" }
command = ["stat", "--file-system", "--format", "%b %S", "/dev/shm"]
[steps.shm]
resources = { memory = "96Mi", shm = "32Mi" }
command = ["stat", "--file-system", "--format", "%b %S", "/dev/shm"]
[steps.cpus]
resources = { cpu = 0.5 }
script = 'cat /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us'
"#,
    );
    let short = json!({ "kind": "out-of-memory", "limit": 64 << 20 });
    assert_eq!(failures(&project), json!({ "direct": short, "child": short }));
    let bytes = |step| log(&project, step).split_whitespace().map(|part| part.parse::<u64>().unwrap()).product::<u64>();
    assert_eq!((bytes("shm_of_memory"), bytes("shm")), (96 << 20, 32 << 20));
    let cpus = log(&project, "cpus");
    let cpus: Vec<u32> = cpus.split_whitespace().filter_map(|part| part.parse().ok()).collect();
    assert_eq!(cpus, [50_000, 100_000]);
}

#[test]
fn who_ignores_term_is_killed_after_the_grace_and_what_is_stopped_gets_it() {
    if !docker() {
        return;
    }
    let project = project(
        r#"
[steps.deaf]
timeout = "1s"
script = 'trap "" TERM; while :; do sleep 1; done'
[steps.stopped]
timeout = "1s"
script = 'trap "echo told; exit 0" TERM; kill -STOP $$; echo never'
"#,
    );
    let late = json!({ "kind": "timed-out", "limit_millis": 1000 });
    assert_eq!(failures(&project), json!({ "deaf": late, "stopped": late }));
    assert!(log(&project, "stopped").starts_with("told\n"));
    assert_eq!(containers(&project), Vec::<String>::new());
}

#[test]
fn who_interrupts_a_run_waits_for_its_containers_to_end_in_peace_and_forces_them_by_asking_again() {
    if !docker() {
        return;
    }
    let project = project(
        r#"
[steps.work]
script = '''
trap 'echo told' TERM
echo ready
while :; do sleep 0.1; done
'''
"#,
    );
    let run = started(&project, "work", "ready");
    run.signal(Signal::INT);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !project.run(&["logs", "work"]).stdout.contains("told") {
        assert!(Instant::now() < deadline, "TERM never came");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The same request twice within half a second is one.
    std::thread::sleep(Duration::from_millis(600));
    run.signal(Signal::INT);
    let asked = Instant::now();
    assert_eq!(run.end().code, 130);
    assert!(asked.elapsed() < Duration::from_secs(9), "it waited for the grace");
    assert_eq!(containers(&project), Vec::<String>::new());
}

#[test]
fn what_others_do_to_a_container_is_told_as_the_signal_that_it_was() {
    if !docker() {
        return;
    }
    for (command, signal) in [("kill", 9), ("stop", 15)] {
        let project = project("[steps.work]\nscript = 'echo ready; exec sleep 1000'\n");
        let run = started(&project, "work", "ready");
        let container = containers(&project);
        cli(&[command, &container[0]]);
        assert_eq!(run.end().code, 1, "{command}");
        let report = project.json(&["status"]);
        assert_eq!(report["instances"][0]["failure"], json!({ "kind": "signal", "signal": signal }), "{command}");
    }
}

#[test]
fn a_container_that_somebody_removes_is_not_taken_for_a_step_that_was_killed() {
    if !docker() {
        return;
    }
    let project = project("[steps.work]\nscript = 'echo ready; exec sleep 1000'\n");
    let run = started(&project, "work", "ready");
    cli(&["rm", "--force", &containers(&project)[0]]);
    let ended = run.end();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("work: failed: somebody removed its container"), "{ended:?}");
}

#[test]
fn a_container_tells_nothing_of_its_step() {
    if !docker() {
        return;
    }
    let project = project("[steps.work]\nenv = { A = \"hidden\" }\nscript = 'echo ready; exec sleep 1000 # hidden'\n");
    let run = started(&project, "work", "ready");
    let container = containers(&project);
    let inspected = cli(&["inspect", &container[0]]);
    run.signal(Signal::TERM);
    run.end();
    assert!(!inspected.contains("hidden"), "{inspected}");
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let name = inspected[0]["Name"].as_str().unwrap();
    assert!(name.starts_with("/mlctl-") && name.ends_with("-work-1"), "{name}");
}

#[test]
fn whom_mlctl_trusts_the_step_trusts_too() {
    if !docker() {
        return;
    }
    const SCRIPT: &str = r#"
[steps.work]
cache = false
script = '''
cat "$SSL_CERT_FILE"
echo "${REQUESTS_CA_BUNDLE-unset} ${CURL_CA_BUNDLE-unset} ${SSL_CERT_DIR-unset} ${HTTPS_PROXY-unset}"
echo "${PIP_CERT-unset}"
'''
"#;
    let project = project(SCRIPT);
    let own = project.home().join("own.pem");
    std::fs::write(&own, "my own\n").unwrap();
    let mut run = project.command(mlctl());
    run.args(["run", "--context", "docker"]).env("SSL_CERT_FILE", &own).env("SSL_CERT_DIR", project.home());
    assert_eq!(run.env("HTTPS_PROXY", "http://proxy:1").ended().code, 0);
    let expected = format!("my own\nunset unset {} http://proxy:1\n", project.home().display());
    // The images of the test bed have a PIP_CERT of their own.
    assert!(log(&project, "work").starts_with(&expected), "{}", log(&project, "work"));

    let company = project.home().join("company.pem");
    let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    std::fs::write(&company, certificate).unwrap();
    project.write("mlctl.local.toml", &format!("[contexts.docker]\nca = '{}'\n", company.display()));
    assert_eq!(run.ended().code, 0);
    let company = company.display();
    let expected = format!("{certificate}{company} {company} unset http://proxy:1\n{company}\n");
    assert_eq!(log(&project, "work"), expected);
}

#[test]
fn localhost_is_this_machine_as_for_a_process() {
    if !docker() {
        return;
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut client, b"from outside\n");
        }
    });
    let project = project(&format!(
        "[steps.work]\nshell = \"bash\"\ncache = false\nscript = 'cat < /dev/tcp/127.0.0.1/{port}'\n"
    ));
    for context in ["local", "docker"] {
        project.ok(&["run", "--context", context]);
        assert_eq!(log(&project, "work"), "from outside\n", "{context}");
    }
}
