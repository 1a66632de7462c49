//! All processes of an attempt: what its command started, and what those started in turn, also when they forked away,
//! left the process group or began a session of their own.
//!
//! mlctl is a child subreaper, so what loses its parent becomes a child of mlctl, and the kernel lists it among the
//! children of the main thread. Whose it is, its process group tells, or the nonce in its environment. What has neither
//! is left alone: it may as well be a daemon that git started.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, waitpid,
};

/// The variable that marks every process of an attempt. An mlctl that runs inside a step adds to what it inherited,
/// so that the outer one still finds what the inner one started.
pub(crate) const NONCE: &str = "MLCTL_NONCE";

/// How long killed processes get to disappear: a process in uninterruptible sleep must not block the run for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all attempts of this process share.
#[derive(Debug)]
pub(crate) struct Families {
    /// The kernel's list of the main thread's children; `None` on a kernel without it.
    children: Option<File>,
    /// A child of ours that belongs to no attempt; 0: none.
    warden: AtomicI32,
    /// This process's own.
    session: Option<i32>,
}

impl Families {
    /// Makes this process the one that inherits its steps' orphans.
    pub(crate) fn adopt() -> Self {
        let me = getpid();
        // Fails on kernels before 3.4 only; the group is then all that is found.
        let _ = set_child_subreaper(Some(me));
        let pid = me.as_raw_nonzero();
        Self {
            children: File::open(format!("/proc/{pid}/task/{pid}/children")).ok(),
            warden: AtomicI32::new(0),
            session: Kin::of(me).map(|kin| kin.session),
        }
    }

    /// Leaves the warden out.
    pub(crate) fn except(&self, warden: Pid) {
        self.warden.store(warden.as_raw_nonzero().get(), Ordering::Relaxed);
    }

    /// All children of the main thread but the warden.
    fn adopted(&self) -> Vec<Pid> {
        let warden = self.warden.load(Ordering::Relaxed);
        let all = self.children.as_ref().map_or_else(children_by_scan, children_by_list);
        all.into_iter().filter(|pid| pid.as_raw_nonzero().get() != warden).collect()
    }
}

fn children_by_list(list: &File) -> Vec<Pid> {
    let mut text = Vec::new();
    let mut part = [0; 1024];
    while let Ok(length @ 1..) = list.read_at(&mut part, text.len() as u64) {
        text.extend_from_slice(&part[..length]);
    }
    pids(&text).collect()
}

/// On a kernel without such lists: all that name us as their parent.
fn children_by_scan() -> Vec<Pid> {
    let me = getpid();
    let is_ours = |pid: &Pid| Kin::of(*pid).is_some_and(|kin| kin.parent == me.as_raw_nonzero().get());
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Pid::from_raw(name.to_str()?.parse().ok()?)).filter(is_ours).collect()
}

/// Whom a process belongs to, by number. 0 is what the kernel calls one outside this process's pid namespace, as the
/// session often is of what is started in a container or by a machine's first process; `rustix::process::getsid` must
/// not meet one.
struct Kin {
    parent: i32,
    group: i32,
    session: i32,
}

impl Kin {
    /// `None`: it is gone.
    fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // The name before it may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut numbers = rest.split_whitespace().skip(1).map_while(|word| word.parse().ok());
        Some(Self { parent: numbers.next()?, group: numbers.next()?, session: numbers.next()? })
    }

    /// Whether it is in the process group `group`.
    fn is_in(&self, group: Pid) -> bool {
        self.group == group.as_raw_nonzero().get()
    }
}

/// Waits until they are dead, and reaps them.
fn await_death(pids: &[Pid], deadline: Instant) {
    let lives = |pid: &Pid| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None));
    let mut living = pids.to_vec();
    loop {
        living.retain(lives);
        if living.is_empty() || Instant::now() > deadline {
            return;
        }
        sleep(Duration::from_millis(1));
    }
}

/// The processes of one attempt.
#[derive(Debug)]
pub(crate) struct Family {
    all: Arc<Families>,
    /// The value of [`NONCE`] for this attempt, without what was inherited.
    nonce: String,
}

impl Family {
    pub(crate) fn new(all: Arc<Families>, nonce: String) -> Self {
        Self { all, nonce }
    }

    /// TERM to all, and CONT, so that what is stopped gets to see it.
    pub(crate) fn terminate(&self, group: Pid) {
        let members = self.members(group);
        for signal in [Signal::TERM, Signal::CONT] {
            let _ = kill_process_group(group, signal);
            for pid in members.iter().filter(|pid| !Kin::of(**pid).is_some_and(|kin| kin.is_in(group))) {
                let _ = kill_process(*pid, signal);
            }
        }
    }

    /// KILL to all.
    pub(crate) fn kill(&self, group: Pid) {
        let _ = kill_process_group(group, Signal::KILL);
        for pid in self.members(group) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Whether anything that lost its parent still lives.
    pub(crate) fn has_orphans(&self, group: Pid) -> bool {
        !self.orphans(group).is_empty()
    }

    /// Once the command is gone: kills all that it left behind, and tells whether there was anything. Costs one read
    /// where there was not.
    pub(crate) fn sweep(&self, group: Pid) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut left_some = false;
        loop {
            let orphans = self.orphans(group);
            if orphans.is_empty() {
                return left_some;
            }
            if left_some && Instant::now() > deadline {
                return true;
            }
            left_some = true;
            self.kill(group);
            // What they started becomes ours when they are gone: the next round finds it.
            await_death(&orphans, deadline);
        }
    }

    /// Living processes of this attempt that have become our children. Dead ones are reaped in passing.
    fn orphans(&self, group: Pid) -> Vec<Pid> {
        let adopted = self.all.adopted();
        if adopted.is_empty() {
            return adopted;
        }
        let mut living = Vec::new();
        for pid in adopted.into_iter().filter(|pid| *pid != group) {
            let Some(kin) = Kin::of(pid) else { continue };
            let ours = kin.is_in(group) || has_nonce(pid, &self.nonce);
            // Nothing that mlctl itself starts leaves its session, so the dead of other sessions are some step's.
            if !ours && Some(kin.session) == self.all.session {
                continue;
            }
            let dead = !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None));
            if ours && !dead {
                living.push(pid);
            }
        }
        living
    }

    /// The command and everything below it and below its orphans.
    fn members(&self, group: Pid) -> Vec<Pid> {
        let mut found = self.orphans(group);
        found.push(group);
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            next += 1;
            for child in children(pid) {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
        }
        found
    }
}

/// Whether the environment that `pid` was started with holds `nonce`.
pub(crate) fn has_nonce(pid: Pid, nonce: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else { return false };
    environ.split(|byte| *byte == 0).any(|entry| {
        let value = entry.strip_prefix(NONCE.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        value.is_some_and(|value| value.windows(nonce.len()).any(|part| part == nonce.as_bytes()))
    })
}

fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read(thread.path().join("children")).ok());
    lists.flat_map(|list| pids(&list).collect::<Vec<_>>()).collect()
}

fn pids(text: &[u8]) -> impl Iterator<Item = Pid> {
    let numbers = text.split(u8::is_ascii_whitespace).filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
    numbers.filter_map(Pid::from_raw)
}
