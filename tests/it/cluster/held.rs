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
script = 'true'

[steps.after]
needs = ["aside"]
inputs.text = "holds.text"
script = 'cat "$MLCTL_INPUT_TEXT" > "$MLCTL_OUTPUT_TEXT"'
outputs.text = {}
"#;

/// Such a run.
pub(super) struct Held {
    pub(super) machine: Machine,
    pub(super) run: String,
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
