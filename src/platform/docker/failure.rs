//! What a daemon's errors mean for whoever reads them.

use std::error::Error as _;
use std::io::ErrorKind;

use bollard::errors::Error;

use crate::error::{CommandError, with_causes};

/// Explains why `what` could not be done ("cannot start the container").
pub(crate) fn failure(what: &str, error: Error) -> CommandError {
    let why = reason(&error);
    let said = why.to_ascii_lowercase();
    let has = |part: &str| said.contains(part);
    let missing = || CommandError::missing(what).cause(&why);
    if lost(&error) {
        return missing().hint("`docker info` shows whether the daemon still runs");
    }
    if has("no space left on device") {
        return missing().hint("`docker system df` shows what takes the space, `docker system prune` frees some of it");
    }
    if has("no such image") || has("image not known") {
        return missing().hint("`docker image ls` shows the images that there are");
    }
    if has("is too new. maximum supported api version") {
        return missing().hint("upgrade Docker");
    }
    if has("is too old. minimum supported api version") {
        return missing().hint("upgrade mlctl");
    }
    if has("could not select device driver") {
        return missing().hint("GPUs in containers need NVIDIA's container toolkit where the daemon runs");
    }
    if has("permission denied") || matches!(status(&error), Some(401 | 403)) {
        return missing().hint("the daemon, or a plugin of it, does not allow that to you");
    }
    match status(&error) {
        // What the daemon could not do, or does not have: not what was asked wrongly.
        Some(404 | 500..) => missing(),
        _ => CommandError::failed(what).cause(why),
    }
}

/// The HTTP status of an answer.
fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether the daemon went away, or never was there.
fn lost(error: &Error) -> bool {
    match error {
        Error::RequestTimeoutError
        | Error::HyperResponseError { .. }
        | Error::HyperLegacyError { .. }
        | Error::SocketNotFoundError(_) => true,
        Error::IOError { err } => matches!(
            err.kind(),
            ErrorKind::BrokenPipe
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionAborted
                | ErrorKind::UnexpectedEof
                | ErrorKind::NotFound
        ),
        _ => false,
    }
}

/// Why, in one line: what the daemon said, else the whole chain of causes.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, status_code } if message.trim().is_empty() => {
            format!("the daemon answered {status_code}")
        }
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::RequestTimeoutError => "the daemon is silent".to_owned(),
        Error::SocketNotFoundError(_) => "the daemon's socket is gone".to_owned(),
        error => chain(error),
    }
}

fn chain(error: &Error) -> String {
    // What says only which library failed is left out.
    let connecting = matches!(error, Error::HyperLegacyError { err } if err.is_connect());
    let text = match error {
        Error::HyperLegacyError { .. } if connecting => "cannot connect".to_owned(),
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } => "the connection broke".to_owned(),
        error => error.to_string(),
    };
    let cause = match error {
        // Its own text is that of the library.
        Error::HyperLegacyError { err } => err.source(),
        error => error.source(),
    };
    with_causes(text, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, message: &str) -> CommandError {
        failure("cannot do it", Error::DockerResponseServerError { status_code, message: message.to_owned() })
    }

    #[test]
    fn what_daemons_answer_is_explained() {
        for (status, message, code, hint) in [
            (404, "No such image: x:latest", 3, "docker image ls"),
            (500, "write /var/lib/docker/tmp/x: no space left on device", 3, "docker system df"),
            (500, "could not select device driver \"\" with capabilities: [[gpu]]", 3, "NVIDIA"),
            (403, "authorization denied by plugin x", 3, "does not allow"),
            (400, "client version 1.53 is too new. Maximum supported API version is 1.41", 3, "upgrade Docker"),
            (400, "client version 1.41 is too old. Minimum supported API version is 1.44", 3, "upgrade mlctl"),
            (404, "No such container: x", 3, ""),
            (500, "something else", 3, ""),
            (409, "Conflict. The container name is already in use", 1, ""),
            (400, "invalid argument", 1, ""),
        ] {
            let error = answered(status, message);
            assert_eq!((error.kind.code(), error.causes), (code, vec![message.to_owned()]));
            assert!(error.hints.concat().contains(hint) && error.hints.is_empty() == hint.is_empty(), "{message}");
        }
        assert_eq!(answered(500, " ").causes, ["the daemon answered 500"]);
    }

    #[test]
    fn a_daemon_that_went_away_is_told_from_one_that_refuses() {
        let broken = std::io::Error::from(ErrorKind::BrokenPipe);
        for error in [Error::RequestTimeoutError, Error::IOError { err: broken }] {
            let error = failure("cannot do it", error);
            assert_eq!(error.kind.code(), 3);
            assert!(error.hints[0].contains("docker info"), "{error:?}");
        }
    }
}
