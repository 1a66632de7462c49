//! Seals: that everything some results name is still there and untouched, said in one scan.

use mlctl_core::action::ActionResult;
use mlctl_core::digest::Digest;

use super::actions::object_names;
use super::objects::Form;
use super::{ObjectName, Stamp, Store, StoreError, boot};

/// Bytes of one object in a seal: form, digest, stamp.
const RECORD: usize = 1 + 32 + 4 * 8;
/// Bytes of the head: the digest of the boot's id, and the time in that boot.
const HEAD: usize = 32 + 8;

impl Store {
    /// The names and stamps of all objects that `results` name, as bytes. `None`: one of them is not there.
    pub fn seal<'a>(&self, results: impl Iterator<Item = &'a ActionResult>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut names: Vec<ObjectName> = results.flat_map(object_names).collect();
        names.sort_unstable();
        names.dedup();
        let mut bytes = Vec::with_capacity(HEAD + names.len() * RECORD);
        bytes.extend(Digest::of(self.boot.id.as_bytes()).as_bytes());
        bytes.extend(boot::uptime().to_le_bytes());
        for name in &names {
            let Some(stamp) = self.vouch(name)? else { return Ok(None) };
            bytes.push(name.form as u8);
            bytes.extend(name.digest.as_bytes());
            bytes.extend(stamp.size.to_le_bytes());
            bytes.extend(stamp.ino.to_le_bytes());
            bytes.extend(stamp.mtime.to_le_bytes());
            bytes.extend(stamp.ctime.to_le_bytes());
        }
        Ok(Some(bytes))
    }

    /// Whether everything in the seal is there and as it was. A seal of another boot never is: what a power loss may
    /// have torn is for [`Store::lookup`] to find out.
    pub fn is_sealed(&self, seal: &[u8]) -> bool {
        let Some((head, records)) = seal.split_at_checked(HEAD) else { return false };
        let this_boot = head.starts_with(Digest::of(self.boot.id.as_bytes()).as_bytes()) && !self.boot.id.is_empty();
        this_boot && records.len() % RECORD == 0 && records.chunks_exact(RECORD).all(|record| self.is_untouched(record))
    }

    fn is_untouched(&self, record: &[u8]) -> bool {
        let form = match record[0] {
            form if form == Form::File as u8 => Form::File,
            form if form == Form::Executable as u8 => Form::Executable,
            form if form == Form::Directory as u8 => Form::Directory,
            form if form == Form::Manifest as u8 => Form::Manifest,
            _ => return false,
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&record[1..33]);
        let stat = self.stat(&ObjectName::new(Digest::from_bytes(digest), form)).ok().flatten();
        stat.is_some_and(|stat| {
            let stamp = Stamp::from(&stat);
            let fields = [stamp.size, stamp.ino, stamp.mtime as u64, stamp.ctime as u64].map(u64::to_le_bytes);
            fields.as_flattened() == &record[33..]
        })
    }
}
