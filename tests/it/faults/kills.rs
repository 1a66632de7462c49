//! mlctl is killed with -9 at many points of a run. Afterwards the next command works, the record says what happened,
//! nothing that was finished is lost, nothing half-written is used, and nothing runs on.

use std::fs;
use std::time::Instant;

use mlctl_core::action::{Artifact, ArtifactKind};
use mlctl_core::digest::Digest;
use mlctl_exec::store::Store;
use rustix::process::Signal;

use super::{output, start, statuses, until_quiet};
use crate::support::Project;

const ROUNDS: u32 = 20;

/// Directories, values, a static and a dynamic matrix, gathers, a chain. `all` holds what every other step made.
const SPEC: &str = r#"
[project]
name = "kills"

[params]
round = 0

[steps.split]
params = ["round"]
script = '''
mkdir -p "$MLCTL_OUTPUT_PARTS/empty"
for part in a b c d; do mkdir "$MLCTL_OUTPUT_PARTS/$part"; echo "$part $MLCTL_PARAM_ROUND" > "$MLCTL_OUTPUT_PARTS/$part/text"; done
echo '["a","b","c","d"]' > "$MLCTL_OUTPUT_NAMES"
sleep 0.01
'''
outputs.parts = {}
outputs.names = { type = "json" }

[steps.work]
matrix.part = ["a", "b", "c", "d"]
matrix.times = [1, 2, 3]
inputs.parts = "split.parts"
script = '''
sleep 0.01
mkdir "$MLCTL_OUTPUT_TREE"
for i in $(seq $MLCTL_MATRIX_TIMES); do cat "$MLCTL_INPUT_PARTS/$MLCTL_MATRIX_PART/text" >> "$MLCTL_OUTPUT_TREE/text"; done
cp "$MLCTL_OUTPUT_TREE/text" text; ln -s text "$MLCTL_OUTPUT_TREE/link"
wc -l < text > "$MLCTL_OUTPUT_LINES"
'''
outputs.tree = {}
outputs.text = { at = "text" }
outputs.lines = { type = "int" }

[steps.each]
matrix.name = "split.names"
inputs.texts = "work[*].text"
script = 'cat "$MLCTL_INPUT_TEXTS"/work@part=$MLCTL_MATRIX_NAME,* > "$MLCTL_OUTPUT_TEXT"; echo end >> "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}

[steps.all]
inputs.trees = "work[*].tree"
inputs.lines = "work[*].lines"
inputs.each = "each[*].text"
script = '''
cat "$MLCTL_INPUT_EACH"/each* "$MLCTL_INPUT_TREES"/work*/link > "$MLCTL_OUTPUT_TEXT"
cat "$MLCTL_INPUT_LINES"/work* | tr -d '\n' >> "$MLCTL_OUTPUT_TEXT"
'''
outputs.text = { export = "all.txt" }
"#;

/// What an undisturbed run makes.
fn expected(round: u32) -> String {
    let parts = ["a", "b", "c", "d"];
    let text = |part: &str, times: usize| format!("{part} {round}\n").repeat(times);
    let each = |part: &str| (1..=3).map(|times| text(part, times)).collect::<String>() + "end\n";
    let trees = parts.iter().flat_map(|part| (1..=3).map(|times| text(part, times)));
    parts.iter().map(|part| each(part)).chain(trees).collect::<String>() + &"123".repeat(parts.len())
}

#[test]
fn nothing_is_lost_or_half_written_wherever_mlctl_is_killed() {
    let project = Project::new(SPEC);
    let began = Instant::now();
    project.ok(&["run"]);
    let took = began.elapsed();
    assert_eq!(output(&project, "all.text"), expected(0));

    for round in 1..=ROUNDS {
        let param = format!("round={round}");
        let run = start(&project, &["run", "-j", "4", "-p", &param]);
        std::thread::sleep(took * round / ROUNDS);
        run.signal(Signal::KILL);
        let ended = run.end();
        let done = after_the_kill(&project, &param, ended.code == -1);
        until_quiet(&project);

        let ended = project.run(&["run", "-j", "4", "-p", &param]);
        assert_eq!(ended.code, 0, "round {round}: {}", ended.stderr);
        assert_eq!(output(&project, "all.text"), expected(round), "round {round}");
        assert_eq!(fs::read_to_string(project.root().join("all.txt")).unwrap(), expected(round), "round {round}");
        let (_, now) = statuses(&project, "@latest");
        for instance in done {
            let status = now.iter().find(|(id, _)| *id == instance).map(|(_, status)| status.as_str());
            assert_eq!(status, Some("cached"), "round {round}: {instance} was done");
        }
    }
    check_store(&project);
}

/// What the record says that the killed run had done.
fn after_the_kill(project: &Project, param: &str, killed: bool) -> Vec<String> {
    let runs = project.json(&["runs"]);
    let latest = &runs[0];
    // It may have been killed before its record was made, or after it was finished.
    if !latest["argv"].as_array().unwrap().iter().any(|argument| argument == param) {
        assert!(killed);
        return Vec::new();
    }
    let (status, instances) = statuses(project, latest["run"].as_str().unwrap());
    assert!(status == "interrupted" || status == "succeeded", "{status}");
    assert!(killed || status == "succeeded");
    for (id, status) in &instances {
        assert!(["succeeded", "cached", "cancelled"].contains(&status.as_str()), "{id} {status}");
    }
    let done = instances.into_iter().filter(|(_, status)| status == "succeeded" || status == "cached");
    done.map(|(id, _)| id).collect()
}

/// Every object is what its name says.
fn check_store(project: &Project) {
    let store = Store::open(&project.store()).unwrap();
    let shards = fs::read_dir(project.store().join("objects")).unwrap();
    let mut seen = 0;
    for object in shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap()) {
        let name = object.unwrap().file_name().into_string().unwrap();
        let (digest, form) = name.split_once('.').unwrap_or((&name, ""));
        let kind = match form {
            "" => ArtifactKind::File,
            "x" => ArtifactKind::Executable,
            "d" => ArtifactKind::Directory,
            _ => continue,
        };
        let digest: Digest = digest.parse().unwrap();
        store.verify(&Artifact { kind, digest, size: 0 }).unwrap();
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}
