//! What this machine has.

use mlctl_core::scheduler::Capacity;

/// CPUs that this process may use.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What steps may use together: CPUs, memory (less where a cgroup limits it), GPUs.
pub(crate) fn capacity() -> Capacity {
    Capacity {
        cpu_millis: Some(u32::try_from(cpus()).unwrap_or(u32::MAX).saturating_mul(1000)),
        memory: memory(),
        gpu: Some(gpus()),
    }
}

/// Bytes of memory.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    let limit = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let cgroup = limit("/sys/fs/cgroup/memory.max").or_else(|| limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    Some((kib * 1024).min(cgroup.unwrap_or(u64::MAX)))
}

/// GPUs: NVIDIA's driver makes a device file for each.
pub(crate) fn gpus() -> u32 {
    let Ok(devices) = std::fs::read_dir("/dev") else { return 0 };
    let is_gpu = |name: &str| {
        name.strip_prefix("nvidia").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let count = devices.flatten().filter(|device| device.file_name().to_str().is_some_and(is_gpu)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether this process was started with the signal ignored.
pub(crate) fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
