//! Engines: where the instances of a plan run.

use std::sync::Arc;

use mlctl_core::context::EngineKind;
use mlctl_core::scheduler::Capacity;

use crate::config::Context;
use crate::environment::Target;
use crate::error::CommandError;
use crate::image::platform;
use crate::platform::docker::Daemon;
use crate::platform::machine;
use crate::session::Project;

pub(crate) mod argo;
pub(crate) mod docker;
mod gpus;
pub(crate) mod local;

/// The label by which Kubernetes tells the processors of nodes.
const ARCHITECTURE: &str = "kubernetes.io/arch";

/// What runs the steps of a context.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// Processes of this machine.
    Process,
    /// Containers of a daemon; `None`: one that was not asked, as nothing is to run.
    Docker(Option<Arc<Daemon>>),
    /// Pods of a cluster.
    /// They are made from images of a daemon, if one answers; `None`: nothing was asked.
    Argo(Option<Arc<Daemon>>),
}

impl Engine {
    /// Connected, to run.
    pub(crate) fn connect(context: &Context) -> Result<Self, CommandError> {
        match context.engine() {
            EngineKind::Process => Ok(Self::Process),
            EngineKind::Docker => Daemon::connect().map(|daemon| Self::Docker(Some(daemon))),
            // Without a daemon there are the images that others make.
            EngineKind::Argo => Ok(Self::Argo(Daemon::connect().ok())),
        }
    }

    /// As far as it can be asked without a network, to tell what a run would do.
    pub(crate) fn at_hand(context: &Context) -> Result<Self, CommandError> {
        match context.engine() {
            EngineKind::Process => Ok(Self::Process),
            EngineKind::Docker => Ok(Self::Docker(Daemon::at_hand())),
            EngineKind::Argo => Ok(Self::Argo(Daemon::at_hand())),
        }
    }

    /// Where environments are to be realised.
    pub(crate) fn target(&self, project: &Project, context: &Context) -> Target {
        if matches!(self, Self::Process) {
            return Target::processes();
        }
        // A daemon nearby, and the nodes of a cluster, mostly have this machine's processor.
        let usual = || format!("linux-{}", std::env::consts::ARCH);
        let known = match self {
            Self::Docker(daemon) => daemon.as_ref().map(|daemon| daemon.platform().to_owned()),
            // Pods that may only be where the processor is another one say so.
            _ => context.merged.node_selector.get(ARCHITECTURE).and_then(|found| platform::of_processor(found)),
        };
        Target {
            platform: known.unwrap_or_else(usual),
            base_images: Some(context.merged.base_images.over(&project.workflow.base_images)),
        }
    }

    /// What steps may use together, as far as it is known.
    pub(crate) fn capacity(&self) -> Capacity {
        match self {
            Self::Process => machine::capacity(),
            Self::Docker(daemon) => daemon.as_ref().map(|daemon| daemon.capacity()).unwrap_or_default(),
            Self::Argo(_) => Capacity::default(),
        }
    }

    /// How many instances run at once where nobody says otherwise.
    pub(crate) fn cpus(&self) -> usize {
        let millis = if matches!(self, Self::Process) { None } else { self.capacity().cpu_millis };
        millis.map_or_else(machine::cpus, |millis| (millis as usize / 1000).max(1))
    }

    /// The daemon, if it has one.
    pub(crate) fn daemon(&self) -> Option<&Arc<Daemon>> {
        match self {
            Self::Process => None,
            Self::Docker(daemon) | Self::Argo(daemon) => daemon.as_ref(),
        }
    }

    /// Who has that capacity, in words.
    pub(crate) const fn machine(&self) -> &'static str {
        match self {
            Self::Process => "this machine",
            Self::Docker(_) => "the Docker daemon",
            Self::Argo(_) => "the cluster",
        }
    }
}
