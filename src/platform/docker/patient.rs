//! A connection on which nothing can be written any more is read to its end: who closes it while it is written to has
//! mostly said why. hyper alone would only tell that it broke.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads to the end what cannot be written to any more.
pub(super) struct Patient<S> {
    stream: TokioIo<S>,
    /// Why nothing can be written.
    broken: Option<ErrorKind>,
    /// Whether everything was read.
    ended: bool,
}

impl<S: Read + Write + Unpin> Patient<S> {
    pub(super) fn new(stream: S) -> TokioIo<Self> {
        TokioIo::new(Self { stream: TokioIo::new(stream), broken: None, ended: false })
    }

    fn write(
        &mut self,
        write: impl FnOnce(Pin<&mut TokioIo<S>>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.broken.is_none() {
            match ready!(write(Pin::new(&mut self.stream))) {
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    self.broken = Some(error.kind());
                }
                written => return Poll::Ready(written),
            }
        }
        // Whoever waits here is woken by what is read.
        self.broken.filter(|_| self.ended).map_or(Poll::Pending, |kind| Poll::Ready(Err(kind.into())))
    }
}

impl<S: Read + Write + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.ended |= read.is_err() || buffer.filled().len() == before;
        Poll::Ready(read)
    }
}

impl<S: Read + Write + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Connection for Patient<S> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
