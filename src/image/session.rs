//! What a build may ask of us while it runs: secrets, the ssh agent, credentials of registries. BuildKit calls; we serve,
//! on a connection that we opened.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use futures_util::{StreamExt, stream};
use hyper::header::{CONNECTION, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::wire::{self, Failure};
use crate::platform::docker::Daemon;

mod services;

/// What is served.
pub(super) struct Offer {
    /// Secrets by id.
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    /// The ssh agent's socket, where the build may use it.
    pub(super) ssh: Option<PathBuf>,
}

/// The methods that we serve, as the daemon must be told.
const METHODS: [&str; 5] = [
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
];

/// An open session; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Session {
    /// What a build names it by.
    pub(super) id: String,
    task: JoinHandle<()>,
}

impl Session {
    /// Opens a session and serves `offer` in it.
    pub(super) async fn open(daemon: &Daemon, id: String, offer: Offer) -> Result<Self, Failure> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(daemon.path("/session"))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "h2c")
            .header("X-Docker-Expose-Session-Uuid", &id)
            .header("X-Docker-Expose-Session-Name", "mlctl");
        for method in METHODS {
            request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
        }
        let request = request.body(wire::nothing()).map_err(|error| Failure::Lost(error.to_string()))?;
        let response = wire::send(daemon, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Lost(format!("the daemon opens no session: {}", response.status())));
        }
        let peer = Peer(TokioIo::new(hyper::upgrade::on(response).await?));
        let server = Server::builder()
            .add_service(HealthServer::new(services::Alive))
            .add_service(AuthServer::new(services::Credentials))
            .add_service(SecretsServer::new(services::Kept(offer.secrets)))
            .add_service(SshServer::new(services::Agent(offer.ssh)));
        // One connection, and no end before it is dropped.
        let incoming = stream::iter([Ok::<_, io::Error>(peer)]).chain(stream::pending());
        let task = tokio::spawn(async move {
            let _ = server.serve_with_incoming(incoming).await;
        });
        Ok(Self { id, task })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The daemon at the other end.
struct Peer(TokioIo<Upgraded>);

impl Connected for Peer {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
