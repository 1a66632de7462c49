//! Confining what a step may write, with Landlock: nobody's rights are needed, and it holds for root too.
//!
//! A thread confines itself, and what it starts inherits that; so commands are started by threads that do nothing
//! else. Reading is not confined. Nor are modes, owners and times: a step of root's can still change those of a stored
//! object, which the store notices. What lies below /tmp is not protected, and a step can neither mount nor gain
//! rights (`sudo`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, make_bitflags,
};

/// What a container would give a step, too: the machine's temporary directories and devices.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev"];

/// Writing to files that exist.
const CONTENT: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile | Truncate});

/// Whether this system can confine steps (Linux 5.19). Where it cannot, only modes protect the store.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        // Before ABI 2 no file could be moved from one directory to another.
        let needed = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        needed.handle_access(AccessFs::from_write(ABI::V2)).and_then(Ruleset::create).is_ok()
    })
}

/// Whether a confined step that is not given `path`, which is canonical, cannot write there.
pub(crate) fn protects(path: &Path) -> bool {
    static ANYONES: LazyLock<Vec<PathBuf>> =
        LazyLock::new(|| SHARED.iter().filter_map(|path| fs::canonicalize(path).ok()).collect());
    is_available() && !ANYONES.iter().any(|shared| path.starts_with(shared))
}

/// The directories in which a step may write, besides the shared ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writable(pub(crate) Vec<PathBuf>);

impl Writable {
    /// Confines this thread, and all that it starts, for good.
    pub(crate) fn confine_this_thread(&self) -> Result<(), RulesetError> {
        let all = AccessFs::from_write(ABI::V3);
        let mut rules = Ruleset::default().handle_access(all)?.create()?;
        for path in self.0.iter().map(PathBuf::as_path).chain(SHARED.map(Path::new)) {
            rules = allow(rules, path, all)?;
        }
        // Threads name themselves there, and set their own limits.
        allow(rules, Path::new("/proc"), CONTENT)?.restrict_self()?;
        Ok(())
    }
}

/// What does not exist needs no rule.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(_) => Ok(rules),
    }
}
