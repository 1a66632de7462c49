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
use super::patient::Patient;
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
    let (mut sender, connection) = http1::handshake(Patient::new(stream)).await?;
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

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::{Bytes, Frame};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// Who takes the first of what is sent, answers with these bytes and closes the connection.
    fn hasty(dir: &std::path::Path, answer: &'static [u8]) -> std::path::PathBuf {
        let socket = dir.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                client.read_exact(&mut [0; 16]).await.unwrap();
                client.write_all(answer).await.unwrap();
            }
        });
        socket
    }

    /// Sends more than connections hold.
    async fn answer(socket: &std::path::Path) -> Result<String, String> {
        let stream = TokioIo::new(UnixStream::connect(socket).await.unwrap());
        let chunks = stream::iter((0..1000).map(|_| io::Result::Ok(Frame::data(Bytes::from_static(&[0; 256 << 10])))));
        let request = Request::post("/build").header("Host", "docker").body(StreamBody::new(chunks.boxed())).unwrap();
        let response = send(stream, request).await.map_err(|error| error.to_string())?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(body.to_bytes().into()).unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_refuses_early_and_closes_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let socket = hasty(dir.path(), b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        for _ in 0..200 {
            assert_eq!(answer(&socket).await, Ok("no".to_owned()));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_closes_without_a_word_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let socket = hasty(dir.path(), b"");
        for _ in 0..50 {
            let lost = tokio::time::timeout(std::time::Duration::from_secs(30), answer(&socket)).await;
            assert!(lost.expect("it ends").is_err());
        }
    }
}
