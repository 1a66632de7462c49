//! A file of 1 GiB, in little memory.

use std::fs;

use super::{Machine, Server, spec};
use crate::support::Start;

/// What mlctl itself needs, beside the bytes on their way.
const BASE: u64 = 60 << 20;
/// What may be on its way.
const ON_THE_WAY: u64 = 64 << 20;

#[test]
fn a_file_of_1_gib_travels_in_little_memory() {
    let Some(server) = Server::start() else { return };
    let spec = spec(&server.bucket(), 3, 1 << 30);
    let (one, two) = (Machine::new(&spec, Some(&server)), Machine::new(&spec, Some(&server)));
    one.project.ok(&["run"]);
    for (machine, direction) in [(&one, "--push"), (&two, "--pull")] {
        let mut moving = machine.command(&["sync", "--context", "cloud", direction]).start();
        let mut peak = 0;
        while !moving.is_over() {
            let path = format!("/proc/{}/status", moving.pid().as_raw_nonzero());
            let status = fs::read_to_string(path).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            peak = peak.max(kib.unwrap_or(0) * 1024);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let ended = moving.end();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(peak > 0 && peak < BASE + ON_THE_WAY, "{direction}: {peak} bytes at the most");
    }
    assert_eq!(two.would_run(), "");
}
