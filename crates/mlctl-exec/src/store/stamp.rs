//! Stamps: what the file system says of a file without reading it.

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

/// A file whose stamp is unchanged has, as far as the file system tells, not been touched. `ctime` cannot be set by
/// programs, so neither a restored `mtime` nor a changed mode escapes it. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64, i64, i64)", into = "(u64, u64, i64, i64)")]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// The inode.
    pub ino: u64,
    /// When the content changed.
    pub mtime: i64,
    /// When the inode changed.
    pub ctime: i64,
}

impl From<(u64, u64, i64, i64)> for Stamp {
    fn from((size, ino, mtime, ctime): (u64, u64, i64, i64)) -> Self {
        Self { size, ino, mtime, ctime }
    }
}

impl From<Stamp> for (u64, u64, i64, i64) {
    fn from(stamp: Stamp) -> Self {
        (stamp.size, stamp.ino, stamp.mtime, stamp.ctime)
    }
}

impl From<&Stat> for Stamp {
    // The fields' types differ between systems: on some the conversions do something.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, clippy::cast_lossless)]
    fn from(stat: &Stat) -> Self {
        Self {
            size: stat.st_size as u64,
            ino: stat.st_ino as u64,
            mtime: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

const fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
