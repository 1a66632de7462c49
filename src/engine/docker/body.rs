//! What a container is made of.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
};
use mlctl_core::action::Task;
use mlctl_core::workflow::Resources;
use mlctl_exec::{Launch, init};

use super::image::Image;
use crate::platform::docker::STORE_LABEL;

/// Where mlctl is in the container.
const PROGRAM: &str = "/.mlctl-init";
/// Docker takes no less: a hundredth of a CPU, and 6 MiB.
const LEAST_CPU_MILLIS: u32 = 10;
const LEAST_MEMORY: u64 = 6 << 20;

/// The container of a command.
pub(super) fn body(
    launch: &Launch<'_>,
    image: &Image,
    program: &Path,
    store: &Path,
    (user, group): &(u32, u32),
    gpus: &[u32],
    network: &str,
) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        cmd: Some(vec![init::ARGUMENT.to_owned()]),
        user: Some(format!("{user}:{group}")),
        working_dir: Some("/".to_owned()),
        // Of GPUs a container has those of its device requests, whatever its image says.
        env: Some(vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()]).filter(|_| gpus.is_empty()),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        stop_signal: Some("SIGTERM".to_owned()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(labels(launch, store)),
        host_config: Some(HostConfig {
            mounts: Some(mounts(launch, image, program, store)),
            device_requests: Some(devices(gpus)).filter(|_| !gpus.is_empty()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            init: Some(false),
            // SELinux would allow a container none of these files; relabelling a store would be worse.
            security_opt: Some(vec!["label=disable".to_owned()]),
            network_mode: Some(network.to_owned()),
            ..limits(&launch.task.resources)
        }),
        ..ContainerCreateBody::default()
    }
}

/// The label that says of which run it is.
pub(super) const RUN_LABEL: &str = "dev.mlctl.run";

/// A name that people recognise, and no other container has.
pub(super) fn name(task: &Task) -> String {
    name_of(&task.run, &task.instance, task.attempt)
}

fn name_of(run: &str, instance: &str, attempt: u32) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let clean: String = instance.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    // Cleaned, two may look the same.
    let digest = blake3::hash(instance.as_bytes()).to_hex();
    let tail = if clean == instance { String::new() } else { format!("-{}", &digest[..6]) };
    format!("mlctl-{run}-{clean}{tail}-{attempt}")
}

fn labels(launch: &Launch<'_>, store: &Path) -> HashMap<String, String> {
    let task = launch.task;
    let all = [
        (STORE_LABEL, store.to_string_lossy().into_owned()),
        (RUN_LABEL, task.run.clone()),
        ("dev.mlctl.instance", task.instance.clone()),
        ("dev.mlctl.attempt", task.attempt.to_string()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Each at the path that it has outside. The bundle is one mount, because nothing can be renamed from one mount to
/// another, which programs do with what they write.
fn mounts(launch: &Launch<'_>, image: &Image, program: &Path, store: &Path) -> Vec<Mount> {
    let own = |path: &Path| mount(path, path, false);
    let theirs = |path: &Path| mount(path, path, true);
    let mut mounts = vec![
        mount(program, Path::new(PROGRAM), true),
        theirs(&store.join("objects")),
        own(&launch.bundle.root),
        theirs(&launch.bundle.inputs),
    ];
    mounts.extend(launch.place.kept(launch.task).iter().map(|path| own(path)));
    mounts.extend(launch.place.certificates().iter().map(|path| theirs(path)));
    mounts.extend(image.accounts.iter().map(|(file, at)| mount(file, at, true)));
    mounts
}

fn mount(from: &Path, to: &Path, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(from.to_string_lossy().into_owned()),
        target: Some(to.to_string_lossy().into_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

fn limits(resources: &Resources) -> HostConfig {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = resources.memory.map(|memory| bytes(memory.max(LEAST_MEMORY)));
    HostConfig {
        nano_cpus: resources.cpu_millis.map(|millis| i64::from(millis.max(LEAST_CPU_MILLIS)) * 1_000_000),
        memory,
        // Together with swap: there is none.
        memory_swap: memory,
        // What lies there counts as memory, too.
        shm_size: resources.shm.or(resources.memory).map(bytes),
        ..HostConfig::default()
    }
}

fn devices(gpus: &[u32]) -> Vec<DeviceRequest> {
    vec![DeviceRequest {
        device_ids: Some(gpus.iter().map(u32::to_string).collect()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_those_of_two_instances_differ() {
        assert_eq!(name_of("ab12", "train", 2), "mlctl-ab12-train-2");
        let of = |instance| name_of("ab12", instance, 1);
        assert!(of("train@depth=2").starts_with("mlctl-ab12-train-depth-2-"), "{}", of("train@depth=2"));
        assert_ne!(of("train@a=1,b=2"), of("train@a=1%b=2"));
    }

    #[test]
    fn what_is_asked_for_is_what_a_container_may_use() {
        let resources = Resources { cpu_millis: Some(1500), memory: Some(1 << 30), ..Resources::default() };
        let all = limits(&resources);
        assert_eq!(all.nano_cpus, Some(1_500_000_000));
        assert_eq!((all.memory, all.memory_swap, all.shm_size), (Some(1 << 30), Some(1 << 30), Some(1 << 30)));
        let shm = limits(&Resources { shm: Some(1 << 20), ..resources });
        assert_eq!((shm.memory, shm.shm_size), (Some(1 << 30), Some(1 << 20)));
        assert_eq!(limits(&Resources::default()), HostConfig::default());
        let least = limits(&Resources { cpu_millis: Some(1), memory: Some(1), ..Resources::default() });
        assert_eq!((least.nano_cpus, least.memory), (Some(10_000_000), Some(6 << 20)));
    }

    #[test]
    fn gpus_are_asked_for_by_their_numbers() {
        let [request] = &devices(&[0, 3])[..] else { panic!("one request") };
        assert_eq!(request.device_ids, Some(vec!["0".to_owned(), "3".to_owned()]));
        assert_eq!(request.capabilities, Some(vec![vec!["gpu".to_owned()]]));
        assert_eq!(request.count, None, "it excludes ids");
    }
}
