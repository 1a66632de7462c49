//! A daemon on another machine, reached as the docker command does it: `ssh HOST docker system dial-stdio` for each
//! connection. The ssh program has the user's settings, keys and known hosts.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::address::Ssh;
use super::patient::Patient;

/// Bytes kept of what ssh says when it fails.
const SAID: usize = 4096;

/// A client of the daemon there.
pub(super) fn connect(target: &Ssh, timeout: u64) -> Result<Docker, Error> {
    let connector = Connector { arguments: arguments(target).into() };
    // Connections are kept: each costs a log-in.
    let client = Arc::new(Client::builder(TokioExecutor::new()).build(connector));
    let transport = move |request: BollardRequest| {
        let client = Arc::clone(&client);
        Box::pin(async move { client.request(request).await.map_err(Error::from) })
    };
    // The name is never looked up.
    Docker::connect_with_custom_transport(transport, Some("http://docker"), timeout, API_DEFAULT_VERSION)
}

/// What ssh is to be called with.
pub(super) fn arguments(target: &Ssh) -> Vec<String> {
    // Without questions: nobody could answer them beside a progress display.
    let mut arguments: Vec<String> = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-T"].map(str::to_owned).into();
    arguments.extend(target.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
    arguments.extend(target.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
    arguments.extend(["--".to_owned(), target.host.clone(), "docker".to_owned()]);
    // ssh joins the words for the shell there.
    let quoted = |socket: &String| format!("'{}'", format!("unix://{socket}").replace('\'', r"'\''"));
    arguments.extend(target.socket.iter().flat_map(|socket| ["--host".to_owned(), quoted(socket)]));
    arguments.extend(["system".to_owned(), "dial-stdio".to_owned()]);
    arguments
}

#[derive(Clone)]
struct Connector {
    arguments: Arc<[String]>,
}

impl tower_service::Service<http::Uri> for Connector {
    type Response = TokioIo<Patient<TokioIo<Stream>>>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        std::future::ready(start(&self.arguments).map(|stream| Patient::new(TokioIo::new(stream))))
    }
}

/// Starts ssh: its ends are the connection.
pub(super) fn start(arguments: &[String]) -> io::Result<Stream> {
    let mut command = Command::new("ssh");
    // A Ctrl-C at the terminal is for mlctl, which still has to clean up over this connection.
    command.args(arguments).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::NotFound { " (is it installed?)" } else { "" };
        io::Error::new(error.kind(), format!("cannot start ssh: {error}{hint}"))
    })?;
    let missing = || io::Error::other("ssh has no pipes");
    let (stdin, stdout) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
    let mut stderr = child.stderr.take().ok_or_else(missing)?;
    let said = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&said);
    let listener = tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
            let mut said = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() < SAID {
                said.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        }
    });
    Ok(Stream {
        stdin: Some(stdin),
        stdout,
        said,
        listener,
        asked: false,
        reader: None,
        answered: false,
        _child: child,
    })
}

/// The two ends of an ssh that runs.
pub(super) struct Stream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What ssh said of its troubles.
    said: Arc<Mutex<String>>,
    /// Ends when all of that is known.
    listener: tokio::task::JoinHandle<()>,
    /// Whether anything was to be sent.
    asked: bool,
    /// Who waits for an answer while nothing was asked.
    reader: Option<Waker>,
    /// Whether anything came from the other side.
    answered: bool,
    /// Killed with the connection.
    _child: Child,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = std::task::ready!(Pin::new(&mut self.stdout).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.answered = true;
        } else if !self.answered && read.is_ok() {
            // An HTTP client keeps to itself why a connection ended that it had sent nothing on.
            if !self.asked {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            // It ended before anybody spoke: what it says is the reason.
            let _ = std::task::ready!(Pin::new(&mut self.listener).poll(cx));
            self.answered = true;
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            return Poll::Ready(Err(io::Error::other(format!("ssh said: {}", said.trim()))));
        }
        Poll::Ready(read)
    }
}

impl Stream {
    fn input(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.stdin.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        self.input()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input()?.poll_flush(cx)
    }

    /// Closes the pipe: the other side sees the end.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}
