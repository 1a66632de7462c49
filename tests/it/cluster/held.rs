//! A run that waits in the middle of a step until the test lets it go on.

use std::process::Command;

use super::{Bed, Machine, Pod};
use crate::cluster::until;
use crate::faults::says;
use crate::support::Start;

/// `holds` goes on when a file appears in its container, `after` uses what it made.
const SPEC: &str = r#"
[project]
name = "faults"

[steps.holds]
script = '''
echo "attempt $MLCTL_ATTEMPT waits"
touch /tmp/waits
until [ -e /tmp/go ]; do sleep 0.2; done
echo made > "$MLCTL_OUTPUT_TEXT"
touch /tmp/made
'''
outputs.text = {}

[steps.aside]
script = 'echo aside > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}

[steps.after]
inputs.text = "holds.text"
inputs.aside = "aside.text"
script = 'cat "$MLCTL_INPUT_TEXT" > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}
"#;

/// Such a run.
pub(super) struct Held {
    pub(super) machine: Machine,
    pub(super) run: String,
}

/// What a test that failed leaves must not wait for ever.
impl Drop for Held {
    fn drop(&mut self) {
        let run = format!("mlctl.dev/run={}", self.run);
        let mut delete = self.machine.place.bed.kubectl();
        delete.args(["delete", "workflows", "--wait=false", "--selector", &run]).ended();
    }
}

impl Held {
    /// Starts one, and waits until it waits.
    pub(super) fn new(bed: &Bed) -> Self {
        let machine = Machine::new(bed, SPEC);
        let run = machine.submit();
        let held = Self { machine, run };
        held.pod();
        held
    }

    /// The pod in which the step waits.
    pub(super) fn pod(&self) -> Pod {
        self.pod_but(None)
    }

    /// Another pod in which the step waits.
    pub(super) fn another_pod(&self, than: &Pod) -> Pod {
        self.pod_but(Some(than))
    }

    fn pod_but(&self, but: Option<&Pod>) -> Pod {
        let mut found = None;
        until("the step to wait in a pod", || {
            let pods = self.machine.pods(&self.run).into_iter();
            let mut pods = pods.filter(|pod| Some(pod) != but && pod.name.contains("-holds-"));
            found = pods.find(|pod| self.inside(pod, "[ -e /tmp/waits ]"));
            found.is_some()
        });
        found.unwrap()
    }

    /// Lets the step go on.
    pub(super) fn let_go(&self) {
        assert!(self.inside(&self.pod(), "touch /tmp/go"));
    }

    /// Waits until the step beside it has ended.
    pub(super) fn until_aside(&self) {
        until("the step beside it", || {
            let status = self.machine.run(&["status", &self.run, "-o", "json"]).stdout;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let mut instances = status["instances"].as_array().unwrap().iter();
            instances.any(|each| each["instance"] == "aside" && each["status"] == "succeeded")
        });
    }

    /// Waits until the step, which was let go, has made what it makes.
    pub(super) fn until_made(&self) {
        let pod = self.pod();
        until("the step to end", || self.inside(&pod, "[ -e /tmp/made ]"));
    }

    /// That the run ends well.
    pub(super) fn succeeds(&self) {
        says(&self.machine.run(&["watch", &self.run]), 0, &[]);
        self.has_succeeded();
    }

    /// That it has ended well.
    pub(super) fn has_succeeded(&self) {
        let text = self.machine.run(&["artifacts", "get", "after.text", "--run", &self.run, "--dest", "-"]);
        assert_eq!((text.code, text.stdout.as_str()), (0, "made\n"), "{text:?}");
    }

    /// Runs a script in the step's container, as the cluster's administrator.
    fn inside(&self, pod: &Pod, script: &str) -> bool {
        let mut exec = Command::new("kubectl");
        exec.args(["exec", &pod.name, "--namespace", self.machine.place.bed.key("namespace")]);
        exec.args(["--container", "main", "--", "sh", "-c", script]).ended().code == 0
    }
}
