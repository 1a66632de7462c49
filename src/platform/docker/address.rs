//! Where a daemon listens, as `DOCKER_HOST` and Docker contexts write it.

use std::fmt;
use std::path::PathBuf;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A port, with TLS or without.
    Tcp {
        /// The host and the port.
        host: String,
        /// How the connection is secured.
        tls: Option<Tls>,
    },
    /// A machine where the docker command runs.
    Ssh(Ssh),
}

/// The files of a secured connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tls {
    /// The authority that signed the daemon's certificate, besides those of the machine.
    pub(super) ca: Option<PathBuf>,
    /// This client's certificate and its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
    /// Whether anyone may pretend to be the daemon.
    pub(super) unverified: bool,
}

/// What ssh connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ssh {
    /// The user there, if not the one that ssh's own settings say.
    pub(super) user: Option<String>,
    /// The host, or its alias in ssh's settings.
    pub(super) host: String,
    /// The port, likewise.
    pub(super) port: Option<u16>,
    /// The daemon's socket there, if not the usual one.
    pub(super) socket: Option<String>,
}

impl Address {
    /// Reads `unix:///path`, `tcp://host:port` or `ssh://user@host`. The error is the reason.
    pub(super) fn parse(text: &str, tls: Option<Tls>) -> Result<Self, String> {
        // As the docker command has it: what names no protocol is a port.
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err("the path of a socket is absolute: unix:///PATH".to_owned()),
            "tcp" => Ok(Self::Tcp { host: host_and_port(rest, tls.is_some())?, tls }),
            "ssh" => Ok(Self::Ssh(ssh(rest)?)),
            "npipe" => Err("named pipes exist on Windows only".to_owned()),
            other => Err(format!("`{other}` is no protocol of Docker: it is unix, tcp or ssh")),
        }
    }
}

/// An address as it may be told: a password that somebody put into it is left out.
pub(super) fn shown(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let user = before.find("://").map_or(0, |at| at + 3);
    match before[user..].find(':') {
        Some(colon) => format!("{}:***@{host}", &before[..user + colon]),
        None => text.to_owned(),
    }
}

fn host_and_port(text: &str, tls: bool) -> Result<String, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '@', '?', '#']) || text.chars().any(char::is_whitespace) {
        return Err("it is not `tcp://HOST:PORT`".to_owned());
    }
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse::<u16>().map_err(|_| format!("`{port}` is no port"))?,
        None if tls => 2376,
        None => 2375,
    };
    Ok(format!("{host}:{port}"))
}

fn ssh(text: &str) -> Result<Ssh, String> {
    let (authority, path) = text.split_once('/').map_or((text, ""), |(authority, path)| (authority, path));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if user.is_some_and(|user| user.contains(':')) {
        return Err("a password in it is not supported: use a key".to_owned());
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, Some(port.parse::<u16>().map_err(|_| format!("`{port}` is no port"))?))
        }
        _ => (host, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // What begins with a hyphen would be an option to ssh.
    let odd = |text: &str| text.is_empty() || text.starts_with('-') || text.chars().any(char::is_whitespace);
    if odd(host) || user.is_some_and(odd) {
        return Err("it is not `ssh://USER@HOST`".to_owned());
    }
    Ok(Ssh {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
        socket: (!path.is_empty()).then(|| format!("/{path}")),
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, .. } => write!(f, "tcp://{host}"),
            Self::Ssh(ssh) => {
                f.write_str("ssh://")?;
                ssh.user.iter().try_for_each(|user| write!(f, "{user}@"))?;
                f.write_str(&ssh.host)?;
                ssh.port.iter().try_for_each(|port| write!(f, ":{port}"))?;
                ssh.socket.iter().try_for_each(|socket| f.write_str(socket))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, tls: bool) -> Result<String, String> {
        Address::parse(text, tls.then(Tls::default)).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        for (text, tls, expected) in [
            ("unix:///var/run/docker.sock", false, "unix:///var/run/docker.sock"),
            ("tcp://build.example:2375", false, "tcp://build.example:2375"),
            ("tcp://build.example", false, "tcp://build.example:2375"),
            ("tcp://build.example/", true, "tcp://build.example:2376"),
            ("tcp://[::1]:4000", false, "tcp://[::1]:4000"),
            ("tcp://[::1]", false, "tcp://[::1]:2375"),
            ("tcp://:4000", false, "tcp://localhost:4000"),
            ("127.0.0.1:4000", false, "tcp://127.0.0.1:4000"),
            ("ssh://me@build.example:2222", false, "ssh://me@build.example:2222"),
            ("ssh://alias", false, "ssh://alias"),
            ("ssh://alias/run/other.sock", false, "ssh://alias/run/other.sock"),
        ] {
            assert_eq!(shown(text, tls).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_told() {
        for (text, expected) in [
            ("ssh://me:se@cret@host:1", "ssh://me:***@host:1"),
            ("me:secret@host", "me:***@host"),
            ("ssh://me@host:1", "ssh://me@host:1"),
            ("tcp://host:1", "tcp://host:1"),
        ] {
            assert_eq!(super::shown(text), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, reason) in [
            ("npipe:////./pipe/docker_engine", "Windows"),
            ("unix://run/docker.sock", "absolute"),
            ("ftp://host", "`ftp` is no protocol"),
            ("tcp://host:port", "`port` is no port"),
            ("tcp://host:1/base", "tcp://HOST:PORT"),
            ("ssh://me:secret@host", "password"),
            ("ssh://-oProxyCommand=x", "ssh://USER@HOST"),
            ("ssh://-l@host", "ssh://USER@HOST"),
            ("ssh://", "ssh://USER@HOST"),
        ] {
            let error = shown(text, false).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
