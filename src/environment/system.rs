//! System packages on this machine: they cannot be installed for a step, only looked for.

use std::process::{Command, Stdio};

use super::{Progress, Update};
use crate::error::CommandError;

/// Refuses an environment whose Debian packages are missing. Where there is no dpkg, nobody can tell: a warning.
pub(super) fn check(environment: &str, packages: &[String], progress: &Progress<'_>) -> Result<(), CommandError> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n", "--"]).args(packages);
    let Ok(output) = query.stdin(Stdio::null()).stderr(Stdio::null()).output() else {
        let packages = packages.join(", ");
        progress(Update::Warning(&format!(
            "environment `{environment}` needs {packages}: this machine cannot be asked"
        )));
        return Ok(());
    };
    let known = String::from_utf8_lossy(&output.stdout);
    let missing = missing(packages, &known);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    Err(CommandError::missing(format!(
        "environment `{environment}` needs system packages that are not installed: {packages}"
    ))
    .hint(format!("install them: `sudo apt-get install {packages}`"))
    .hint("or run in containers: `--context docker`"))
}

fn missing<'a>(packages: &'a [String], known: &str) -> Vec<&'a str> {
    let installed: Vec<&str> = known.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    let without_arch = |package: &'a str| package.split(':').next().unwrap_or(package);
    packages.iter().map(String::as_str).filter(|package| !installed.contains(&without_arch(package))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let packages = ["libc6:amd64", "gone", "unknown"].map(str::to_owned);
        assert_eq!(missing(&packages, "libc6 installed\ngone config-files\n"), ["gone", "unknown"]);
    }
}
