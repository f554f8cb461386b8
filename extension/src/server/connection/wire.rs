//! Layer between the stream of a connection and hyper: timeouts that tolerate freezes, and error bodies.
//!
//! - **Head timeout.** hyper's own timeout also runs while a connection is idle, and after a freeze it would close a
//!   healthy connection. A [`Wire`] starts its timeout at the first byte of a head, counts time awake, and checks it
//!   only while no byte is available. A head that takes too long gets a 408.
//! - **Error bodies.** hyper rejects malformed heads with an empty body, and has no hook for another. No error of the
//!   sidecar has an empty body, so that such a response is hyper's and is replaced. Only the head of a response is
//!   inspected: a body may have any bytes.
//! - **Other timeouts.** A connection is closed when its peer takes no byte of a response. An idle connection is closed
//!   where no freeze can be the reason.
//! - **Lingering close.** The kernel resets a connection that is closed with unread data. The reset may overtake the
//!   response, or interrupt a sender that reads only after its write. The rest of a rejected body is therefore read and
//!   discarded, within limits.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::phase::ConnectionPhase;
use super::rejection::{RequestHead, rejected_by_hyper, rejection};
use crate::clock::AwakeTimeout;
use crate::server::idle_timeout::IdleTimeout;
use crate::server::limits::{HEAD_TIMEOUT, LINGER_TIMEOUT, MAX_BODY, WRITE_STALL_TIMEOUT};

/// Maximum number of bytes that one read discards.
const DISCARD_SIZE: usize = 16 * 1024;
/// Maximum number of such reads before the thread serves its other connections.
const MAX_DISCARDS: usize = 16;

/// Stream that hyper reads and writes.
pub(super) struct Wire<S> {
    stream: S,
    phase: ConnectionPhase,
    head_timeout: AwakeTimeout,
    /// Timeout of an idle connection; `None` where a freeze may be the reason.
    idle_timeout: Option<IdleTimeout>,
    write_timeout: AwakeTimeout,
    head: RequestHead,
    /// Response in place of hyper's, and the number of its bytes that are written.
    rejection: Option<(Vec<u8>, usize)>,
    is_shut_down: bool,
    linger_timeout: AwakeTimeout,
    /// Number of bytes that may still be discarded.
    discard_limit: usize,
}

impl<S> Wire<S> {
    /// Wraps a stream. The connection is closed once `idle_timeout` is over.
    pub(super) fn new(
        stream: S,
        phase: ConnectionPhase,
        idle_timeout: Option<IdleTimeout>,
    ) -> Self {
        Self {
            stream,
            phase,
            head_timeout: AwakeTimeout::new(HEAD_TIMEOUT),
            idle_timeout,
            write_timeout: AwakeTimeout::new(WRITE_STALL_TIMEOUT),
            head: RequestHead::default(),
            rejection: None,
            is_shut_down: false,
            linger_timeout: AwakeTimeout::new(LINGER_TIMEOUT),
            discard_limit: MAX_BODY,
        }
    }

    /// Returns `true` once the connection has been idle for too long. Must be polled whenever no byte is available,
    /// also while a request is being handled. hyper does not read again after it has written the response.
    fn is_idle_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        let is_idle = self.phase.is_idle() && self.phase.is_between_responses();
        let Some(timeout) = &mut self.idle_timeout else {
            return false;
        };
        if !is_idle {
            timeout.renew();
        }
        timeout.poll_over(cx).is_ready()
    }

    /// Returns the result of a write, or an error once the peer has taken no byte for too long.
    fn with_write_timeout(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_timeout.renew();
            return written;
        }
        ready!(self.write_timeout.poll_over(cx));
        let error = io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read the response",
        );
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Writes the response to a request that hyper or the wire rejects.
    fn poll_reject(&mut self, cx: &mut Context<'_>, status: StatusCode) -> Poll<io::Result<()>> {
        self.phase.closing();
        let head = &self.head;
        let (text, written) = self
            .rejection
            .get_or_insert_with(|| (rejection(status, head), 0));
        while let Some(rest) = text.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.rejection.is_none() {
            let before = buffer.filled().len();
            let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
            if !this.phase.is_in_head() {
                this.head_timeout.renew();
                if read.is_pending() && this.is_idle_too_long(cx) {
                    // End of stream: hyper closes the connection.
                    return Poll::Ready(Ok(()));
                }
            } else if read.is_pending() {
                ready!(this.head_timeout.poll_over(cx));
                let _ = ready!(this.poll_reject(cx, StatusCode::REQUEST_TIMEOUT));
                return Poll::Ready(Err(head_timed_out()));
            }
            ready!(read)?;
            if buffer.filled().len() > before {
                if let Some(timeout) = &mut this.idle_timeout {
                    timeout.renew();
                }
                if this.phase.head_begins() {
                    this.head.clear();
                }
                if this.phase.is_in_head() {
                    this.head.keep(&buffer.filled()[before..]);
                }
            }
            return Poll::Ready(Ok(()));
        }
        // The 408 is not written completely yet.
        let _ = ready!(this.poll_reject(cx, StatusCode::REQUEST_TIMEOUT));
        Poll::Ready(Err(head_timed_out()))
    }
}

fn head_timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the head took too long")
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.phase.is_between_responses()
            && let Some(status) = rejected_by_hyper(data)
        {
            ready!(self.poll_reject(cx, status))?;
            self.rejection = None;
            return Poll::Ready(Ok(data.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.with_write_timeout(written, cx)
    }

    /// Called by hyper once its buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.phase.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_shut_down {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.is_shut_down = true;
        }
        if !this.phase.is_closing() {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..MAX_DISCARDS {
            let mut discarded = [MaybeUninit::uninit(); DISCARD_SIZE];
            let mut discarded = ReadBuf::uninit(&mut discarded);
            match Pin::new(&mut this.stream).poll_read(cx, &mut discarded) {
                Poll::Pending => return this.linger_timeout.poll_over(cx).map(Ok),
                Poll::Ready(Ok(())) if !discarded.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
            this.discard_limit = this.discard_limit.saturating_sub(discarded.filled().len());
            if this.discard_limit == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [head] = data {
            return self.poll_write(cx, head);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.with_write_timeout(written, cx)
    }
}
