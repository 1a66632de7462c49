//! From the first argument of a command to an absolute path, and from a failed exec to a reason that helps.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The longest single argument that Linux takes (32 pages, with its NUL).
const MAX_ARGUMENT: usize = 128 * 1024 - 1;

/// The program as an absolute path. With a bare name and a PATH of its own, std leaves the posix_spawn path, which
/// costs a copy of the parent's page tables; so the look-up is ours.
pub(crate) fn resolve(program: &OsStr, path: &OsStr, directory: &Path) -> Result<PathBuf, String> {
    if program.is_empty() {
        return Err("the command is empty".to_owned());
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(directory.join(program));
    }
    let mut not_executable = None;
    for place in std::env::split_paths(path) {
        let candidate = place.join(program);
        match fs::metadata(&candidate) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(found) if found.is_file() => not_executable = not_executable.or(Some(candidate)),
            _ => {}
        }
    }
    Err(match not_executable {
        Some(file) => format!("`{}` is not executable", file.display()),
        None => format!("`{}` was not found on the step's PATH: {}", program.display(), path.display()),
    })
}

/// Why `program` could not be started.
pub(crate) fn explain(error: &io::Error, program: &Path, argv: &[OsString]) -> String {
    let shown = program.display();
    match error.kind() {
        io::ErrorKind::NotFound if program.exists() => match interpreter(program) {
            Some(name) => format!("the interpreter of `{shown}` (`{name}`) was not found"),
            None => format!("the loader of `{shown}` was not found: is it built for this system?"),
        },
        io::ErrorKind::NotFound => format!("`{shown}` does not exist"),
        io::ErrorKind::PermissionDenied if program.is_dir() => format!("`{shown}` is a directory"),
        io::ErrorKind::PermissionDenied => format!("`{shown}` is not executable"),
        io::ErrorKind::ArgumentListTooLong => too_long(argv),
        io::ErrorKind::InvalidInput => "an argument or an environment variable holds a NUL byte".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            format!("`{shown}` is neither a program of this machine's kind nor a script with a `#!` line")
        }
        _ => format!("`{shown}`: {error}"),
    }
}

fn too_long(argv: &[OsString]) -> String {
    match argv.iter().enumerate().max_by_key(|(_, argument)| argument.len()) {
        Some((at, argument)) if argument.len() > MAX_ARGUMENT => format!(
            "argument {at} has {} bytes, and the system takes {MAX_ARGUMENT}: pass it in a file, for a param by MLCTL_PARAMS",
            argument.len()
        ),
        _ => {
            "arguments and environment variables together are longer than the system takes: pass some in a file".into()
        }
    }
}

/// What stands after `#!`.
fn interpreter(program: &Path) -> Option<String> {
    let mut line = Vec::new();
    BufReader::new(fs::File::open(program).ok()?.take(256)).read_until(b'\n', &mut line).ok()?;
    let line = String::from_utf8_lossy(line.strip_prefix(b"#!")?).trim().to_owned();
    Some(line.split(' ').next().unwrap_or_default().to_owned())
}
