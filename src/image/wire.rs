//! HTTP with the daemon on connections of our own: a build whose context is streamed, with a session that serves
//! secrets and ssh beside it, is what bollard does not do.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};

use crate::error::with_causes;
use crate::platform::docker::{self, Daemon};

/// What is sent: a stream of chunks, or nothing.
pub(super) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// The longest answer that is read to its end: an error's, or a small report.
const LONGEST: usize = 1 << 20;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The daemon said no.
    Refused(StatusCode, String),
    /// There is no daemon any more, or it went away.
    Lost(String),
    /// What was to be sent could not be read.
    Unreadable(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let text = with_causes(error.to_string(), std::error::Error::source(&error));
        // What the stream of a body says is about the user's files.
        if error.is_user() { Self::Unreadable(text) } else { Self::Lost(text) }
    }
}

/// No body.
pub(super) fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is made while it is sent.
pub(super) fn streamed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
}

/// Sends a request on a connection of its own, which ends with the response: whoever drops that tells the daemon that
/// nobody waits any more.
pub(super) async fn send(daemon: &Daemon, mut request: Request<Body>) -> Result<Response<Incoming>, Failure> {
    let stream = daemon.dial().await?;
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("docker"));
    let response = docker::send(stream, request).await?;
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    Err(Failure::Refused(status, message(&text(response).await?)))
}

/// A short body, whole.
async fn text(response: Response<Incoming>) -> Result<String, Failure> {
    let mut text = Vec::new();
    let mut frames = response.into_body().into_data_stream();
    while let Some(chunk) = frames.next().await {
        let chunk = chunk?;
        text.extend_from_slice(&chunk[..chunk.len().min(LONGEST - text.len())]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What the daemon says in an error's body.
fn message(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| json.get("message")?.as_str());
    message.unwrap_or(body).trim().to_owned()
}
