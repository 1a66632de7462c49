//! Removes what is left of a run that is over. Argo does not look after the pods of a workflow that is over: what ignores
//! to be told would run for ever.

use std::time::{Duration, Instant};

use crate::platform::kube::{Cluster, Fault, Pod};

/// How long what is told to end has.
const GRACE_SECONDS: u32 = 30;
/// After so long what is left is removed, whatever it does.
const KILL: Duration = Duration::from_secs(60);

/// Looks after the pods that are left.
pub(super) struct Sweep {
    began: Instant,
    /// How long pods may take to end on their own.
    lingering: Duration,
    /// The pods that were told to end, and how long they were given.
    told: Vec<(String, u32)>,
}

impl Sweep {
    /// Begins now.
    pub(super) fn new(lingering: Duration) -> Self {
        Self { began: Instant::now(), lingering, told: Vec::new() }
    }

    /// How long it has lasted.
    pub(super) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes a turn: whether none of these pods is left. Those that linger are told to end, once, then removed.
    pub(super) fn turn(&mut self, cluster: &Cluster, pods: &[Pod]) -> Result<bool, Fault> {
        let live: Vec<&Pod> = pods.iter().filter(|pod| !pod.has_ended()).collect();
        let lasted = self.lasted();
        if lasted > self.lingering {
            let grace = if lasted < KILL { GRACE_SECONDS } else { 0 };
            for pod in &live {
                // One that Argo made late is another one.
                let order = (pod.metadata.uid.clone(), grace);
                if !self.told.contains(&order) {
                    cluster.delete_pod(&pod.metadata.name, grace)?;
                    self.told.push(order);
                }
            }
        }
        Ok(live.is_empty())
    }
}
