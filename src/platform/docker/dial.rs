//! Connections of our own to the daemon, for what the client does not do: builds with a session, and TLS.

use std::io;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service as _;

use super::address::Address;
use super::{Daemon, ssh, tls};

/// Both directions of a connection.
pub(crate) trait Stream: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Stream for T {}

/// Sends a request on a connection of its own, which ends with the response: whoever drops that tells the daemon that
/// nobody waits any more.
pub(crate) async fn send<B>(stream: impl Stream + 'static, request: Request<B>) -> hyper::Result<Response<Incoming>>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let connection = tokio::spawn(connection.with_upgrades());
    match sender.send_request(request).await {
        // It never was on its way: why is what the connection ended with, say a daemon's word about the certificate.
        Err(error) if error.is_canceled() => {
            drop(sender);
            Err(connection.await.ok().and_then(Result::err).unwrap_or(error))
        }
        answer => answer,
    }
}

impl Daemon {
    /// A new connection.
    pub(crate) async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.address {
            Address::Unix(path) => Box::new(TokioIo::new(UnixStream::connect(path).await?)),
            Address::Tcp { host, tls: None } => Box::new(TokioIo::new(TcpStream::connect(host).await?)),
            Address::Tcp { host, tls: Some(files) } => {
                let mut connector = tls::connector(files).map_err(io::Error::other)?;
                let uri = format!("https://{host}").parse().map_err(io::Error::other)?;
                Box::new(connector.call(uri).await.map_err(io::Error::other)?)
            }
            Address::Ssh(target) => Box::new(TokioIo::new(ssh::start(&ssh::arguments(target))?)),
        })
    }

    /// A path of the API, in the daemon's own version.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("/v{}{path}", self.about.api)
    }
}
