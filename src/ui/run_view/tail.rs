//! The end of a log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::ui::clean;
use crate::ui::style::FAINT;

/// Bytes looked at: a log may have lines of any length.
const BYTES: u64 = 64 * 1024;
/// Lines shown.
const LINES: usize = 20;
/// Characters of a line that are shown.
const WIDTH: usize = 400;

/// Appends the last lines of a log, each after a bar; what was left out is said.
pub(super) fn append(text: &mut String, log: &Path) {
    let Some((bytes, cut)) = last_bytes(log, BYTES) else { return };
    let lines: Vec<&[u8]> = bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|byte| *byte == b'\n').collect();
    if bytes.is_empty() {
        text.push_str("  it printed nothing\n");
        return;
    }
    let left_out = lines.len().saturating_sub(LINES);
    if cut || left_out > 0 {
        text.push_str(&format!("{FAINT}  | ...{FAINT:#}\n"));
    }
    for line in &lines[left_out..] {
        text.push_str(&format!("{FAINT}  |{FAINT:#} {}\n", clean::line(line, WIDTH)));
    }
}

/// The last line of a log, cleaned: what a program that runs said last.
pub(super) fn last_line(log: &Path, width: usize) -> Option<String> {
    let (bytes, _) = last_bytes(log, 4096)?;
    let line = bytes.rsplit(|byte| matches!(byte, b'\n' | b'\r')).find(|line| !line.trim_ascii().is_empty())?;
    Some(clean::line(line.trim_ascii(), width))
}

/// The last bytes of a file, and whether there are more before them.
fn last_bytes(path: &Path, most: u64) -> Option<(Vec<u8>, bool)> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let skipped = length.saturating_sub(most);
    file.seek(SeekFrom::Start(skipped)).ok()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some((bytes, skipped > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_long_log_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let lines: String = (1..=100).map(|n| format!("line {n}\x1b[2J\n")).collect();
        std::fs::write(&log, lines).unwrap();
        let mut text = String::new();
        append(&mut text, &log);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert!(plain.starts_with("  | ...\n  | line 81\n"), "{plain}");
        assert!(plain.ends_with("  | line 100\n"), "{plain}");
        assert_eq!(plain.lines().count(), 21);
        assert_eq!(last_line(&log, 80).as_deref(), Some("line 100"));
    }

    #[test]
    fn a_log_that_is_one_huge_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, vec![b'x'; 1 << 20]).unwrap();
        let mut text = String::new();
        append(&mut text, &log);
        assert!(text.chars().count() < 2 * WIDTH, "{}", text.len());
    }
}
