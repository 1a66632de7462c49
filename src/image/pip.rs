//! What pip knows on this machine, for the pip of a build: its indexes, and distributions that lie here.

use std::env;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::recipe::local_place;
use crate::lock::LockedEnvironment;

/// The settings that a build follows: pip's own name, its variable, and uv's, in that order.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("index-url", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("extra-index-url", "PIP_EXTRA_INDEX_URL", "UV_INDEX"),
    ("trusted-host", "PIP_TRUSTED_HOST", ""),
    ("no-index", "PIP_NO_INDEX", "UV_NO_INDEX"),
];

/// A `pip.conf` with the user's indexes. They may hold passwords.
pub(super) fn settings() -> Option<Vec<u8>> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let file = config_files(&set).into_iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let lines: Vec<String> = SETTINGS
        .iter()
        .filter_map(|(name, pip, uv)| {
            let value = set(pip).or_else(|| set(uv)).or_else(|| of_file(&file, name))?;
            // A line of its own would be another setting.
            Some(format!("{name} = {}\n", value.split_whitespace().collect::<Vec<_>>().join(" ")))
        })
        .collect();
    (!lines.is_empty()).then(|| format!("[global]\n{}", lines.concat()).into_bytes())
}

/// Where pip's settings may be, the strongest first.
fn config_files(set: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let home = set("HOME").map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".config")));
    [
        set("PIP_CONFIG_FILE").map(PathBuf::from),
        config.map(|config| config.join("pip/pip.conf")),
        home.map(|home| home.join(".pip/pip.conf")),
        Some("/etc/pip.conf".into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A setting of `[global]` or `[install]`.
fn of_file(text: &str, name: &str) -> Option<String> {
    let mut section = "";
    let mut found: Option<String> = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        let body = line.trim();
        if let Some(head) = body.strip_prefix('[') {
            section = head.trim_end_matches(']');
        } else if let (Some(value), true) = (&mut found, line.starts_with([' ', '\t']) && !body.is_empty()) {
            // A value goes on in lines that are set in.
            value.push(' ');
            value.push_str(body);
        } else if found.is_some() {
            break;
        } else if let Some((key, value)) = body.split_once(['=', ':'])
            && matches!(section, "global" | "install")
            && key.trim().replace('_', "-") == name
        {
            found = Some(value.trim().to_owned());
        }
    }
    found.filter(|value| !value.trim().is_empty())
}

/// Puts the locked distributions that lie on this machine (`--find-links DIRECTORY`) into `to`; tells whether there are
/// any. No other file of those directories comes along.
pub(super) fn wheels(project: &Path, locked: &LockedEnvironment, to: &Path) -> io::Result<bool> {
    let own = env::var("PIP_FIND_LINKS").or_else(|_| env::var("UV_FIND_LINKS")).unwrap_or_default();
    let own = own.split([' ', ',']).filter(|place| !place.is_empty() && !place.contains("://")).map(PathBuf::from);
    let places = locked.options.iter().filter_map(|option| local_place(option)).map(Path::to_owned).chain(own);
    let mut any = false;
    for place in places {
        for entry in fs::read_dir(project.join(place)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !is_wanted(&name.to_string_lossy(), &entry.path(), locked)? {
                continue;
            }
            fs::create_dir_all(to)?;
            if !to.join(&name).exists() {
                // A link where it can be one: some are large.
                fs::hard_link(entry.path(), to.join(&name))
                    .or_else(|_| fs::copy(entry.path(), to.join(&name)).map(drop))?;
            }
            any = true;
        }
    }
    Ok(any)
}

/// Whether a file is one of the locked distributions.
fn is_wanted(name: &str, path: &Path, locked: &LockedEnvironment) -> io::Result<bool> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '.'], "_");
    let name = plain(name);
    let mut alike =
        locked.distributions.iter().filter(|one| name.starts_with(&format!("{}_", plain(&one.name)))).peekable();
    if alike.peek().is_none() || !path.is_file() {
        return Ok(false);
    }
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    while let read @ 1.. = file.read(&mut buffer)? {
        hasher.update(&buffer[..read]);
    }
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(alike.any(|one| one.sha256.contains(&digest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Distribution;

    #[test]
    fn settings_of_a_file() {
        let text = "# mine\n[global]\nindex-url = https://a/simple\nextra_index_url =\n    https://b\n    https://c\n\n[list]\ntrusted-host = x\n";
        assert_eq!(of_file(text, "index-url").as_deref(), Some("https://a/simple"));
        assert_eq!(
            of_file(text, "extra-index-url").map(|value| value.trim().to_owned()).as_deref(),
            Some("https://b https://c")
        );
        assert_eq!(of_file(text, "trusted-host"), None);
    }

    #[test]
    fn only_locked_distributions_come_along() {
        let project = tempfile::tempdir().unwrap();
        let place = project.path().join("wheels");
        fs::create_dir(&place).unwrap();
        for (name, text) in
            [("Foo_Bar-1.0-py3-none-any.whl", "right"), ("foo_bar-1.1-py3-none-any.whl", "other"), ("b.txt", "right")]
        {
            fs::write(place.join(name), text).unwrap();
        }
        let sha256 = Sha256::digest("right").iter().map(|byte| format!("{byte:02x}")).collect();
        let locked = LockedEnvironment {
            inputs: mlctl_core::digest::Digest::of(b""),
            python: "3".to_owned(),
            options: vec!["--find-links wheels".to_owned()],
            distributions: vec![Distribution { name: "foo-bar".into(), version: "1.0".into(), sha256: vec![sha256] }],
        };
        let to = project.path().join("to");
        assert!(wheels(project.path(), &locked, &to).unwrap());
        let names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["Foo_Bar-1.0-py3-none-any.whl"]);
    }
}
