//! The Dockerfile of a described environment: apt packages, then a virtual environment with exactly what is locked.
//!
//! Docker 20.10 builds it without fetching a frontend: no heredocs, no `COPY --link`, no `# syntax=` line. What only
//! installing needs (the context, caches, a certificate authority) is mounted, where the builder can, and so is in no
//! layer.

use std::fmt::Write as _;

/// Where the virtual environment is.
const VENV: &str = "/opt/mlctl/venv";
/// Where the build context is mounted, or copied.
const CONTEXT: &str = "/opt/mlctl/build";
/// The requirements file in the context.
pub(super) const REQUIREMENTS: &str = "requirements.txt";
/// The certificate authority in a context that is copied, and the id of the secret that holds it elsewhere.
pub(super) const CA: &str = "ca";
/// The id of the secret that holds pip's settings.
pub(super) const PIP: &str = "pip";
/// Distributions of this machine, in the context.
pub(super) const WHEELS: &str = "wheels";

/// What a described environment's image holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents<'a> {
    /// The image to begin with.
    pub(super) base: &'a str,
    /// The Python to have a virtual environment of.
    pub(super) python: Option<&'a str>,
    /// Whether there are distributions to install.
    pub(super) distributions: bool,
    /// Debian packages.
    pub(super) packages: &'a [String],
}

/// How the builder at hand does it. It changes no byte of the result that matters, and so no tag.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// BuildKit mounts; the classic builder copies.
    pub(super) mounts: bool,
    /// A certificate authority is there.
    pub(super) ca: bool,
    /// Settings of pip are there.
    pub(super) pip: bool,
    /// Distributions of this machine are in the context.
    pub(super) wheels: bool,
}

/// The text.
pub(super) fn dockerfile(contents: &Contents<'_>, manner: Manner) -> String {
    let mut text = format!("FROM {}\nUSER 0\nSHELL [\"/bin/sh\", \"-c\"]\n", contents.base);
    let copies = !manner.mounts && (contents.distributions || manner.ca);
    if copies {
        let _ = writeln!(text, "COPY . {CONTEXT}");
    }
    if !contents.packages.is_empty() {
        apt(&mut text, contents.packages, manner);
    }
    if let Some(python) = contents.python {
        venv(&mut text, python);
        if contents.distributions {
            pip(&mut text, manner);
        }
        let _ = writeln!(text, "ENV VIRTUAL_ENV={VENV} PATH={VENV}/bin:$PATH");
    }
    text
}

/// A step, as people read it, by the builder's name for it: the commands tell them nothing.
pub(super) fn title(step: &str) -> Option<&'static str> {
    let titles = [
        ("apt-get install", "installing system packages"),
        (" -m pip ", "installing distributions"),
        (" -m venv ", "making the virtual environment"),
    ];
    titles.into_iter().find(|(mark, _)| step.contains(mark)).map(|(_, title)| title)
}

fn apt(text: &mut String, packages: &[String], manner: Manner) {
    let mut mounts = Vec::new();
    let mut commands = Vec::new();
    let ca = ca(manner, &mut mounts, &mut commands);
    let authority = if ca { " -o Acquire::https::CaInfo=/tmp/mlctl-ca.pem" } else { "" };
    if manner.mounts {
        mounts.push("type=cache,target=/var/cache/apt,sharing=locked".to_owned());
        mounts.push("type=cache,target=/var/lib/apt,sharing=locked".to_owned());
        // Images of Debian throw packages away after installing.
        commands.push("rm -f /etc/apt/apt.conf.d/docker-clean".to_owned());
    }
    let keep = if manner.mounts { " -o APT::Keep-Downloaded-Packages=true" } else { "" };
    commands.push(format!("apt-get update -q{authority}"));
    commands.push(format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends{authority}{keep} {}",
        packages.join(" ")
    ));
    if !manner.mounts {
        commands.push("rm -rf /var/lib/apt/lists/*".to_owned());
    }
    if ca {
        commands.push("rm -f /tmp/mlctl-ca.pem".to_owned());
    }
    run(text, &mounts, &commands);
}

fn venv(text: &mut String, python: &str) {
    let parts = python.split('.').count();
    let check = format!(
        "python3 -c \"import sys; v = '.'.join(map(str, sys.version_info[:{parts}])); \
         v == '{python}' or sys.exit('the base image has Python ' + v + ', not {python}')\""
    );
    run(text, &[], &[check, format!("python3 -m venv --without-pip {VENV}")]);
}

fn pip(text: &mut String, manner: Manner) {
    let mut mounts = Vec::new();
    let mut commands = Vec::new();
    if manner.mounts {
        mounts.push(format!("type=bind,target={CONTEXT}"));
        mounts.push("type=cache,target=/var/cache/mlctl/pip".to_owned());
    }
    let ca = ca(manner, &mut mounts, &mut commands);
    let mut install = "PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore ".to_owned();
    if ca {
        install += "PIP_CERT=/tmp/mlctl-ca.pem ";
    }
    if manner.pip {
        mounts.push(format!("type=secret,id={PIP},target=/run/secrets/pip.conf"));
        install += "PIP_CONFIG_FILE=/run/secrets/pip.conf ";
    }
    let _ = write!(install, "python3 -m pip --python {VENV}/bin/python install --no-deps --require-hashes");
    install += " --progress-bar off";
    install += if manner.mounts { " --cache-dir /var/cache/mlctl/pip" } else { " --no-cache-dir" };
    if manner.wheels {
        let _ = write!(install, " --find-links {CONTEXT}/{WHEELS}");
    }
    let _ = write!(install, " -r {CONTEXT}/{REQUIREMENTS}");
    commands.push(install);
    if ca {
        commands.push("rm -f /tmp/mlctl-ca.pem".to_owned());
    }
    run(text, &mounts, &commands);
}

/// Trusts the authority besides those of the image, for what one `RUN` does.
fn ca(manner: Manner, mounts: &mut Vec<String>, commands: &mut Vec<String>) -> bool {
    if !manner.ca {
        return false;
    }
    let from = if manner.mounts {
        mounts.push(format!("type=secret,id={CA},target=/run/secrets/ca.pem"));
        "/run/secrets/ca.pem".to_owned()
    } else {
        format!("{CONTEXT}/{CA}")
    };
    let own = "/etc/ssl/certs/ca-certificates.crt";
    commands.push(format!("(cat {own} 2>/dev/null; echo; cat {from}) > /tmp/mlctl-ca.pem"));
    true
}

fn run(text: &mut String, mounts: &[String], commands: &[String]) {
    text.push_str("RUN ");
    for mount in mounts {
        let _ = write!(text, "--mount={mount} ");
    }
    let _ = writeln!(text, "{}", commands.join(" && "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_and_what_is_copied() {
        let packages = ["libgomp1".to_owned()];
        let contents =
            Contents { base: "python:3.12-slim", python: Some("3.12"), distributions: true, packages: &packages };
        let mounted = dockerfile(&contents, Manner { mounts: true, ..Manner::default() });
        assert!(mounted.starts_with("FROM python:3.12-slim\n"), "{mounted}");
        assert!(!mounted.contains("COPY") && mounted.contains("RUN --mount=type=cache,target=/var/cache/apt"));
        assert!(mounted.find("libgomp1") < mounted.find("-m venv"), "apt comes first: {mounted}");
        let copied = dockerfile(&contents, Manner::default());
        assert!(copied.contains("COPY . /opt/mlctl/build\n") && !copied.contains("--mount"), "{copied}");
        for text in [mounted, copied] {
            assert!(!["<<", "--link", "syntax=", "ENV PIP", "ENV SSL"].iter().any(|odd| text.contains(odd)), "{text}");
        }
    }

    #[test]
    fn an_authority_is_trusted_while_something_is_installed_and_not_after() {
        let contents = Contents { base: "b", python: Some("3.12"), distributions: true, packages: &[] };
        let text = dockerfile(&contents, Manner { mounts: true, ca: true, ..Manner::default() });
        assert!(text.contains("--mount=type=secret,id=ca,target=/run/secrets/ca.pem"), "{text}");
        assert!(text.contains("PIP_CERT=/tmp/mlctl-ca.pem python3") && text.contains("&& rm -f /tmp/mlctl-ca.pem"));
    }

    #[test]
    fn without_a_python_there_is_no_venv() {
        let contents = Contents { base: "debian:bookworm-slim", python: None, distributions: false, packages: &[] };
        let text = dockerfile(&contents, Manner { mounts: true, ..Manner::default() });
        assert_eq!(text, "FROM debian:bookworm-slim\nUSER 0\nSHELL [\"/bin/sh\", \"-c\"]\n");
    }
}
