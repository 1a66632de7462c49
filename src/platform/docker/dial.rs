//! Connections of our own to the daemon, for what the client does not do: builds with a session.

use std::io;

use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service as _;

use super::address::Address;
use super::{Daemon, ssh, tls};

/// Both directions of a connection.
pub(crate) trait Stream: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Stream for T {}

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
