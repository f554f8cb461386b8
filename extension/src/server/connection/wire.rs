//! What stands between a connection's stream and hyper.
//!
//! - hyper's own limit on the time for a request's head also runs while a connection is idle, and after a freeze it
//!   would close one that did nothing wrong. A [`Wire`] counts from the head's first byte instead, looks at the time only
//!   when nothing has come, and leaves out what a freeze took. A head that takes too long is answered.
//! - What hyper refuses itself, such as a head that is no HTTP, it answers without a body, and has no hook for one. No
//!   error of ours is without a body, so that such an answer is hyper's, and is replaced. It is looked for only where the
//!   head of a response can begin: the body of one may be any bytes.
//! - A peer that takes nothing of its answer is given up, and so is one that sends nothing, where no freeze can be the
//!   reason.
//! - A connection that is closed while its sender has more to send is reset, and the reset may overtake the answer, or
//!   hit the sender in the middle of a write, before it reads. So what still comes of a body that was refused is taken and
//!   thrown away, within limits.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusal::{Head, refusal, refused_by_hyper};
use crate::server::awake_timeout::Patience;
use crate::server::{HEAD_TIME, IDLE_TIME, MAX_BODY, WRITE_STALL};

/// How long a refused sender may keep a closed connection waiting in all.
const LINGER: Duration = Duration::from_secs(5);
/// What is thrown away at once.
const SCRAP: usize = 16 * 1024;
/// How often in a row, before others have their turn.
const SCRAPS: usize = 16;

/// Where a connection is.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<Phases>);

#[derive(Debug, Default)]
struct Phases {
    reading: AtomicU8,
    writing: AtomicU8,
}

/// No byte of a request has come.
const IDLE: u8 = 0;
/// A head is arriving.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;
/// No more is read of what comes.
const REFUSED: u8 = 3;

/// The head of a response may begin.
const BETWEEN: u8 = 0;
/// A response is on its way to hyper.
const ANSWERING: u8 = 1;
/// All of a response is in hyper's buffer.
const BUFFERED: u8 = 2;

impl Phase {
    /// A request is being answered.
    pub(super) fn busy(&self) {
        self.0.reading.store(BUSY, Ordering::Relaxed);
        self.0.writing.store(ANSWERING, Ordering::Relaxed);
    }

    /// The answer is there; another request may follow.
    pub(super) fn answered(&self) {
        self.0.reading.store(IDLE, Ordering::Relaxed);
    }

    /// The answer is there, and is the last.
    pub(super) fn refused(&self) {
        self.0.reading.store(REFUSED, Ordering::Relaxed);
    }

    /// hyper has taken all of the answer.
    pub(super) fn buffered(&self) {
        self.0.writing.store(BUFFERED, Ordering::Relaxed);
    }

    /// hyper's buffer is empty.
    fn flushed(&self) {
        let written = &self.0.writing;
        let _ = written.compare_exchange(BUFFERED, BETWEEN, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.reading.load(Ordering::Relaxed) == phase
    }

    fn is_between_responses(&self) -> bool {
        self.0.writing.load(Ordering::Relaxed) == BETWEEN
    }
}

/// A stream that hyper reads and writes.
pub(super) struct Wire<S> {
    stream: S,
    phase: Phase,
    patience: Patience,
    /// Limit of the time without a request; `None` where a freeze may be the reason.
    idle: Option<Patience>,
    /// Limit of the time in which the peer takes nothing of a response.
    write: Patience,
    head: Head,
    /// An answer in the place of hyper's, and how much of it has gone out.
    refusal: Option<(Vec<u8>, usize)>,
    is_shut: bool,
    linger: Patience,
    /// How many bytes may still be thrown away.
    scrap: usize,
}

impl<S> Wire<S> {
    /// A connection, which is closed when it is idle for [`IDLE_TIME`] if `closes_idle`.
    pub(super) fn new(stream: S, phase: Phase, closes_idle: bool) -> Self {
        Self {
            stream,
            phase,
            patience: Patience::new(HEAD_TIME),
            idle: closes_idle.then(|| Patience::new(IDLE_TIME)),
            write: Patience::new(WRITE_STALL),
            head: Head::default(),
            refusal: None,
            is_shut: false,
            linger: Patience::new(LINGER),
            scrap: MAX_BODY,
        }
    }

    /// Whether the connection has been idle for as long as one may be. Asked whenever nothing has come, also while a
    /// request is being answered: hyper does not read again by itself when the answer has gone out.
    fn is_idle_for_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        let is_idle = self.phase.is(IDLE) && self.phase.is_between_responses();
        let Some(idle) = &mut self.idle else {
            return false;
        };
        if !is_idle {
            idle.renew();
        }
        idle.poll_over(cx).is_ready()
    }

    /// The result of a write, which fails when the peer has taken nothing for too long.
    fn limited(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write.renew();
            return written;
        }
        ready!(self.write.poll_over(cx));
        let error = io::Error::new(io::ErrorKind::TimedOut, "nobody takes the response");
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Writes the answer to a request that hyper or the wire refuses.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, status: StatusCode) -> Poll<io::Result<()>> {
        self.phase.refused();
        let head = &self.head;
        let (text, written) = self
            .refusal
            .get_or_insert_with(|| (refusal(status, head), 0));
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
        if this.refusal.is_none() {
            let before = buffer.filled().len();
            let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
            if !this.phase.is(HEAD) {
                this.patience.renew();
                if read.is_pending() && this.is_idle_for_too_long(cx) {
                    // As if the peer had closed its side.
                    return Poll::Ready(Ok(()));
                }
            } else if read.is_pending() {
                ready!(this.patience.poll_over(cx));
                let _ = ready!(this.poll_refuse(cx, StatusCode::REQUEST_TIMEOUT));
                return Poll::Ready(Err(slow()));
            }
            ready!(read)?;
            if buffer.filled().len() > before {
                if let Some(idle) = &mut this.idle {
                    idle.renew();
                }
                let phase = &this.phase.0.reading;
                let before_head =
                    phase.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
                if before_head.is_ok() {
                    this.head.clear();
                }
                if this.phase.is(HEAD) {
                    this.head.keep(&buffer.filled()[before..]);
                }
            }
            return Poll::Ready(Ok(()));
        }
        // The answer to a head that took too long is still on its way.
        let _ = ready!(this.poll_refuse(cx, StatusCode::REQUEST_TIMEOUT));
        Poll::Ready(Err(slow()))
    }
}

fn slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the head took too long")
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.phase.is_between_responses()
            && let Some(status) = refused_by_hyper(data)
        {
            ready!(self.poll_refuse(cx, status))?;
            self.refusal = None;
            return Poll::Ready(Ok(data.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.limited(written, cx)
    }

    /// Called by hyper when its buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.phase.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.is_shut = true;
        }
        if !this.phase.is(REFUSED) {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..SCRAPS {
            let mut scrap = [MaybeUninit::uninit(); SCRAP];
            let mut scrap = ReadBuf::uninit(&mut scrap);
            match Pin::new(&mut this.stream).poll_read(cx, &mut scrap) {
                Poll::Pending => return this.linger.poll_over(cx).map(Ok),
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
            this.scrap = this.scrap.saturating_sub(scrap.filled().len());
            if this.scrap == 0 {
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
        self.limited(written, cx)
    }
}
