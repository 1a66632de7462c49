//! One key, two realisations: what a process computed is not computed again in a container, and the other way round.

use super::docker;
use crate::support::Project;

const SPEC: &str = r#"
[project]
name = "keys"
[params]
seed = 1
[environments.python]
python = "{python}"
[environments.image]
image = "debian:bookworm-slim"
[steps.plain]
params = ["seed"]
script = 'echo "$MLCTL_PARAM_SEED" > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}
[steps.described]
environment = "python"
params = ["seed"]
command = ["python", "-c", "import os; open(os.environ['MLCTL_OUTPUT_TEXT'], 'w').write(os.environ['MLCTL_PARAM_SEED'])"]
outputs.text = {}
"#;

/// As `plain`, in an image that holds the same programs.
const IMAGE: &str = r#"
[steps.plain]
environment = "image"
params = ["seed"]
script = 'echo "$MLCTL_PARAM_SEED" > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}
"#;

/// What became of each instance.
fn statuses(project: &Project, context: &str, seed: u32) -> Vec<(String, String)> {
    let report = project.json(&["run", "--context", context, "-p", &format!("seed={seed}")]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let instances = report["instances"].as_array().unwrap();
    instances.iter().map(|instance| (text(&instance["instance"]), text(&instance["status"]))).collect()
}

#[test]
fn processes_and_containers_share_results_of_described_environments_but_not_of_images() {
    if !docker() {
        return;
    }
    let version = crate::wheels::python_version();
    let spec = SPEC.replace("{python}", &version);
    let project = Project::new(&spec);
    let both = |status: &str| ["plain", "described"].map(|step| (step.to_owned(), status.to_owned())).to_vec();
    for (seed, first, second) in [(2, "local", "docker"), (3, "docker", "local")] {
        assert_eq!(statuses(&project, first, seed), both("succeeded"), "{first}");
        assert_eq!(statuses(&project, second, seed), both("cached"), "{first}, then {second}");
    }
    let (head, _) = spec.split_once("[steps.plain]").unwrap();
    project.write("mlctl.toml", &format!("{head}{IMAGE}"));
    let plain = |status: &str| vec![("plain".to_owned(), status.to_owned())];
    assert_eq!(statuses(&project, "docker", 2), plain("succeeded"));
    assert_eq!(statuses(&project, "docker", 2), plain("cached"));
}
