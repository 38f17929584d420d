//! The end of a connection whose client still speaks: what it says is thrown away for a moment.
//!
//! A socket that is closed with unread bytes in it is reset (RFC 9293, 3.10.4 and RFC 1122, 4.2.2.13), and a reset
//! makes the client's kernel forget the answer that it has not read yet: a refused upload would look like a broken
//! connection. So after the last answer the client is told that nothing more comes, and what it still sends is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client is listened to after the last answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream whose shutdown ends when the client has stopped speaking, or after [`PATIENCE`].
pub(super) struct Linger<S> {
    stream: S,
    end: End,
}

enum End {
    Open,
    Draining(Pin<Box<Sleep>>),
    Done,
}

impl<S> Linger<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, end: End::Open }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.end {
                End::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    this.end = End::Draining(Box::pin(sleep(PATIENCE)));
                }
                End::Draining(patience) => {
                    let mut bytes = [0; 16 * 1024];
                    let mut buffer = ReadBuf::new(&mut bytes);
                    let gone = patience.as_mut().poll(cx).is_ready()
                        || match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                            Ok(()) => buffer.filled().is_empty(),
                            Err(_) => true,
                        };
                    if gone {
                        this.end = End::Done;
                    }
                }
                End::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
