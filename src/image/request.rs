//! `POST /build`: sends the context, and follows what the daemon tells of the build to its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use prost::Message as _;
use serde::Deserialize;

use super::progress::Event;
use super::trace::{FailedStep, Trace};
use super::wire::{self, Body, Failure};
use crate::platform::docker::Daemon;

/// How often it is told how much of the context has been sent.
const TURN: Duration = Duration::from_millis(200);

/// What to build, in the daemon's terms.
#[derive(Debug, Default)]
pub(super) struct Order<'a> {
    /// The session of a build by BuildKit; `None`: the classic builder.
    pub(super) session: Option<&'a str>,
    /// What the build can be cancelled by.
    pub(super) build: &'a str,
    /// The name and tag that the image gets, when it is whole.
    pub(super) tag: &'a str,
    /// The Dockerfile in the context.
    pub(super) dockerfile: &'a str,
    /// The stage to build.
    pub(super) target: Option<&'a str>,
    /// Build arguments.
    pub(super) args: BTreeMap<String, String>,
    /// Labels of the image.
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    /// `linux/arm64`; `None`: the daemon's own.
    pub(super) platform: Option<&'a str>,
    /// Whether every step is done anew.
    pub(super) no_cache: bool,
    /// Credentials by registry, for the classic builder: the header's text.
    pub(super) registry_config: Option<String>,
}

/// Why there is no image.
#[derive(Debug)]
pub(super) enum Unbuilt {
    /// The daemon could not be spoken to, or refused the request.
    Wire(Failure),
    /// The build failed: what the daemon says, and where.
    Failed { message: String, step: Option<FailedStep> },
}

impl From<Failure> for Unbuilt {
    fn from(failure: Failure) -> Self {
        Self::Wire(failure)
    }
}

impl Order<'_> {
    /// As the daemon reads it. Nothing in it is secret.
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("t", self.tag).append_pair("dockerfile", self.dockerfile);
        query.append_pair("buildid", self.build).append_pair("buildargs", &json(&self.args));
        query.append_pair("labels", &json(&self.labels));
        match self.session {
            Some(session) => query.append_pair("version", "2").append_pair("session", session),
            // What fails leaves no containers behind.
            None => query.append_pair("version", "1").append_pair("rm", "1").append_pair("forcerm", "1"),
        };
        if let Some(target) = self.target {
            query.append_pair("target", target);
        }
        if let Some(platform) = self.platform {
            query.append_pair("platform", platform);
        }
        if self.no_cache {
            query.append_pair("nocache", "1");
        }
        query.finish()
    }
}

fn json(map: &impl serde::Serialize) -> String {
    // Maps of texts always have a JSON form.
    serde_json::to_string(map).unwrap_or_default()
}

/// A line of what the daemon tells.
#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    stream: Option<String>,
    status: Option<String>,
    progress: Option<String>,
    aux: Option<serde_json::Value>,
    error: Option<String>,
}

/// Builds, and gives the image's id.
pub(super) async fn build(
    daemon: &Daemon,
    order: &Order<'_>,
    (context, sent): (Body, &AtomicU64),
    secrets: BTreeMap<String, String>,
    tell: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<String, Unbuilt> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}?{}", daemon.path("/build"), order.query()))
        .header(CONTENT_TYPE, "application/x-tar");
    if let Some(config) = &order.registry_config {
        request = request.header("X-Registry-Config", config);
    }
    let request = request.body(context).map_err(|error| Failure::Lost(error.to_string()))?;
    let mut turn = tokio::time::interval(TURN);
    let mut told = 0;
    let mut tell_sent = |tell: &mut (dyn FnMut(Event<'_>) + Send)| {
        let now = sent.load(Ordering::Relaxed);
        if now != told {
            told = now;
            tell(Event::Sending(now));
        }
    };
    let mut answer = std::pin::pin!(wire::send(daemon, request));
    let response = loop {
        tokio::select! {
            response = &mut answer => break response?,
            _ = turn.tick() => tell_sent(tell),
        }
    };
    let mut follower = Follower { trace: Trace::without(secrets), id: None, error: None };
    let mut frames = response.into_body().into_data_stream();
    let mut buffer = Vec::new();
    loop {
        let chunk = tokio::select! {
            chunk = frames.next() => chunk,
            _ = turn.tick() => {
                tell_sent(tell);
                continue;
            }
        };
        let Some(chunk) = chunk else { break };
        buffer.extend_from_slice(&chunk.map_err(Failure::from)?);
        let mut rest = 0;
        while let Some(end) = buffer[rest..].iter().position(|byte| *byte == b'\n') {
            follower.take(&buffer[rest..rest + end], tell);
            rest += end + 1;
        }
        buffer.drain(..rest);
    }
    follower.take(&buffer, tell);
    follower.finish(tell)
}

/// Follows one build.
struct Follower {
    trace: Trace,
    id: Option<String>,
    error: Option<String>,
}

impl Follower {
    fn take(&mut self, line: &[u8], tell: &mut (dyn FnMut(Event<'_>) + Send)) {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return };
        if let Some(error) = line.error {
            self.error = Some(error);
        }
        match (line.id.as_deref(), line.aux) {
            (Some("moby.buildkit.trace"), Some(serde_json::Value::String(trace))) => {
                let status = STANDARD.decode(trace).ok().and_then(|bytes| StatusResponse::decode(&bytes[..]).ok());
                if let Some(status) = status {
                    self.trace.status(&status, tell);
                }
            }
            (_, Some(aux)) => {
                if let Some(id) = aux.get("ID").and_then(|id| id.as_str()) {
                    self.id = Some(id.to_owned());
                }
            }
            (id, None) => {
                if let Some(text) = line.stream {
                    self.trace.line(&text, tell);
                } else if let Some(status) = line.status {
                    let progress = line.progress.unwrap_or_default();
                    tell(Event::Pulling(format!("{} {status} {progress}", id.unwrap_or_default()).trim()));
                }
            }
        }
    }

    fn finish(mut self, tell: &mut (dyn FnMut(Event<'_>) + Send)) -> Result<String, Unbuilt> {
        match (self.error, self.id) {
            (Some(message), _) => Err(Unbuilt::Failed { message, step: self.trace.into_failed() }),
            (None, Some(id)) => {
                self.trace.end(tell);
                Ok(id)
            }
            (None, None) => Err(Failure::Lost("the daemon ended the build without a word".to_owned()).into()),
        }
    }
}
