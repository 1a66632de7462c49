//! What goes wrong between a daemon and a registry, and what to do about it.

use bollard::errors::Error;

use super::reference::{HUB, Reference};
use crate::error::CommandError;
use crate::platform::docker;

/// Whether another try may succeed: the connection broke, the registry was busy.
pub(super) fn is_passing(error: &Error) -> bool {
    let said = docker::reason(error).to_ascii_lowercase();
    let lasting = ["certificate", "no such host", "http response to https client", "no space left"];
    let passing = [
        "eof",
        "connection reset",
        "broken pipe",
        "i/o timeout",
        "tls handshake timeout",
        "use of closed network connection",
        "client.timeout exceeded",
        "received unexpected http status: 5",
        "http2: ",
    ];
    !lasting.iter().any(|part| said.contains(part)) && passing.iter().any(|part| said.contains(part))
}

/// Explains why `what` could not be done; `known`: the user has credentials for the registry.
pub(super) fn explain(what: &str, reference: &Reference<'_>, known: bool, error: Error) -> CommandError {
    let host = reference.host();
    let said = docker::reason(&error);
    let lower = said.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let because = || CommandError::missing(what).cause(&said);
    if has(&["tag does not exist", "does not exist locally"]) {
        return because().hint("there is no image of this name here: `mlctl build` makes those of environments");
    }
    if has(&["toomanyrequests", "rate limit"]) {
        let hint = "the registry limits how often it is asked";
        let login = if known { "" } else { "; it may allow more to those who log in" };
        return because().hint(format!("{hint}: wait{login}"));
    }
    if has(&["no matching manifest", "does not provide the specified platform", "no match for platform"]) {
        return because().hint("that image does not exist for this platform: choose another, or build it");
    }
    if has(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "denied",
        "forbidden",
        "may require 'docker login'",
    ]) {
        let login = if host == HUB { "docker login".to_owned() } else { format!("docker login {host}") };
        return if known {
            because().hint(format!("is the name right? `{host}` refuses your credentials, or they do not allow this: `{login}` replaces them"))
        } else {
            because().hint(format!("is the name right? `{host}` may ask who you are: `{login}`"))
        };
    }
    if has(&["manifest unknown", "manifest for", "name unknown", "not found: manifest"]) {
        return because().hint(format!("`{host}` has no such image: is the name right, and the tag?"));
    }
    if has(&["http response to https client"]) {
        return because().hint(format!(
            "`{host}` speaks no TLS, which the daemon must be told to accept: \"insecure-registries\" in its daemon.json"
        ));
    }
    if has(&["certificate", "x509", "tls: "]) {
        return because().hint(format!(
            "where the daemon runs, put the certificate of the authority that signed it into /etc/docker/certs.d/{host}/ca.crt"
        ));
    }
    if has(&["no such host", "server misbehaving", "name resolution"]) {
        if host == HUB {
            return because().hint("the daemon does not find Docker Hub: has it a network? An image of another registry is named with its host");
        }
        return because().hint(format!("there is no host `{host}` as far as the daemon knows: is the name right?"));
    }
    if has(&["connection refused", "no route to host", "network is unreachable", "i/o timeout", "deadline exceeded"]) {
        return because().hint(format!("`{host}` does not answer the daemon: is it up, and may the daemon reach it?"));
    }
    docker::failure(what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(message: &str, known: bool) -> String {
        let reference = Reference::parse("registry.example:5000/acme/train:1").unwrap();
        let error = Error::DockerStreamError { error: message.to_owned() };
        let error = explain("cannot push", &reference, known, error);
        assert_eq!(error.kind.code(), 3, "{message}");
        error.hints.join("\n")
    }

    #[test]
    fn what_daemons_say_is_explained() {
        for (message, expected) in [
            ("unauthorized: authentication required", "docker login registry.example:5000"),
            ("no basic auth credentials", "docker login registry.example:5000"),
            ("denied: requested access to the resource is denied", "docker login registry.example:5000"),
            ("toomanyrequests: You have reached your pull rate limit", "wait; it may allow more"),
            ("manifest for registry.example:5000/acme/train:1 not found: manifest unknown", "is the name right"),
            (
                "Get \"https://registry.example:5000/v2/\": x509: certificate signed by unknown authority",
                "certs.d/registry.example:5000/ca.crt",
            ),
            (
                "Get \"https://registry.example:5000/v2/\": http: server gave HTTP response to HTTPS client",
                "insecure-registries",
            ),
            (
                "Get \"https://registry.example:5000/v2/\": dial tcp: lookup registry.example: no such host",
                "there is no host",
            ),
            (
                "Get \"https://registry.example:5000/v2/\": dial tcp 192.0.2.1:5000: connect: connection refused",
                "is it up",
            ),
            ("no matching manifest for linux/arm64/v8 in the manifest list entries", "for this platform"),
        ] {
            assert!(hint(message, false).contains(expected), "{message}: {}", hint(message, false));
        }
        let hub = Reference::parse("python:3.12-slim").unwrap();
        let error =
            Error::DockerStreamError { error: "dial tcp: lookup registry-1.docker.io: no such host".to_owned() };
        assert!(explain("", &hub, false, error).hints.join("").contains("Docker Hub"));
        assert!(hint("denied: requested access to the resource is denied", true).contains("refuses your credentials"));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let passing = |message: &str| is_passing(&Error::DockerStreamError { error: message.to_owned() });
        assert!(passing("Patch \"http://localhost:5000/v2/x/blobs/uploads/1\": EOF"));
        assert!(passing("write tcp 127.0.0.1:1->127.0.0.1:5000: write: connection reset by peer"));
        assert!(!passing("denied: requested access to the resource is denied"));
        assert!(!passing("x509: certificate signed by unknown authority"));
        assert!(!passing("dial tcp 192.0.2.1:5000: connect: connection refused"));
    }
}
