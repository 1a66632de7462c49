//! Processes that the system ends because memory is short.

use std::fs;

use rustix::process::Pid;

/// How much more readily than this process a command is ended: a tenth of all there is counts on top of what it uses.
const MORE: i32 = 100;
/// The kernel takes no more.
const MOST: i32 = 1000;

/// How many processes of this container the system has ended because memory was short. Its control group counts, whose
/// place depends on the version, and on whether the container sees more than its own.
pub(crate) fn kills() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = |of: &str| groups.lines().find_map(|line| line.split_once(of)).map_or("", |(_, path)| path);
    let places = [
        format!("/sys/fs/cgroup{}/memory.events", own("0::")),
        "/sys/fs/cgroup/memory.events".to_owned(),
        format!("/sys/fs/cgroup/memory{}/memory.oom_control", own(":memory:")),
        "/sys/fs/cgroup/memory/memory.oom_control".to_owned(),
    ];
    let kills = |text: String| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    places.iter().find_map(|path| kills(fs::read_to_string(path).ok()?)).unwrap_or(0)
}

/// Makes a command the first to be ended, before whoever can tell of it. Where the system does not let us, it may be us.
pub(crate) fn offer(pid: Pid) {
    let own = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok());
    let wanted = own.unwrap_or(0).saturating_add(MORE).min(MOST);
    let _ = fs::write(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()), wanted.to_string());
}
