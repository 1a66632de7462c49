//! Running pip, uv and python: what they write goes to a log, its last line to whoever watches.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// How a tool ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its status.
    pub(crate) status: ExitStatus,
    /// Everything it wrote, both streams as they came.
    pub(crate) output: String,
}

/// Runs `command` to its end. What it writes is appended to `log` and told line by line.
pub(crate) fn run(command: &mut Command, log: Option<&Path>, tell: &dyn Fn(&str)) -> io::Result<Ended> {
    let mut log = log.map(|log| File::options().create(true).append(true).open(log)).transpose()?;
    if let Some(log) = &mut log {
        writeln!(log, "$ {}", shown(command))?;
    }
    let (reader, writer) = io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds the write end too: it must close for the reading to end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let output = follow(reader, log.as_mut(), tell);
    let status = child.wait()?;
    Ok(Ended { status, output: output? })
}

fn follow(reader: impl Read, mut log: Option<&mut File>, tell: &dyn Fn(&str)) -> io::Result<String> {
    let mut reader = BufReader::new(reader);
    let mut output = String::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Some(log) = &mut log {
            log.write_all(&line)?;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            tell(text.trim());
        }
        output.push_str(&text);
        line.clear();
    }
    Ok(output)
}

/// The command as it could be typed.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
