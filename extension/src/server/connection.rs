//! One connection.
//!
//! hyper's own limit on the time for a request's head also runs while a connection is idle, and after a freeze
//! it would close one that did nothing wrong. [`TimedHead`] counts from the head's first byte instead, looks at
//! the time only when nothing has come, and leaves out what a freeze took.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context as TaskContext, Poll, ready};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::patience::Patience;
use super::{Context, HEAD_TIME, answer};

/// hyper's buffer for a head, beyond which it answers 431.
const MOST_HEAD: usize = 64 * 1024;

/// Serves one connection until its peer closes it.
pub(super) fn serve<S>(
    stream: S,
    context: Arc<Context>,
) -> impl GracefulConnection<Error = hyper::Error> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let phase = Arc::new(AtomicU8::new(IDLE));
    let io = TokioIo::new(TimedHead {
        stream,
        phase: Arc::clone(&phase),
        patience: Patience::new(HEAD_TIME),
    });
    let service = service_fn(move |request| {
        phase.store(BUSY, Ordering::Relaxed);
        let (context, phase) = (Arc::clone(&context), Arc::clone(&phase));
        async move {
            let answer = answer::answer(request, &context).await;
            phase.store(IDLE, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .serve_connection(io, service)
}

/// No byte of a request has come.
const IDLE: u8 = 0;
/// A head is arriving.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;

/// A stream on which a head that has begun must end within [`HEAD_TIME`].
struct TimedHead<S> {
    stream: S,
    phase: Arc<AtomicU8>,
    patience: Patience,
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedHead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.phase.load(Ordering::Relaxed) != HEAD {
            this.patience.renew();
        } else if read.is_pending() {
            ready!(this.patience.poll_over(cx));
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the head took too long",
            )));
        }
        ready!(read)?;
        if buffer.filled().len() > before {
            let _ = this
                .phase
                .compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedHead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }
}

#[cfg(test)]
mod tests;
