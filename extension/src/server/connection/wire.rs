//! What stands between a connection's stream and hyper.
//!
//! - hyper's own limit on the time for a request's head also runs while a connection is idle, and after a freeze it
//!   would close one that did nothing wrong. A [`Wire`] counts from the head's first byte instead, looks at the time only
//!   when nothing has come, and leaves out what a freeze took. A head that takes too long is answered.
//! - What hyper refuses itself, such as a head that is no HTTP, it answers without a body, and has no hook for one. No
//!   error of ours is without a body, so that such an answer is hyper's, and is replaced.
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

use super::MOST_HEAD;
use crate::server::patience::Patience;
use crate::server::{HEAD_TIME, MOST_BODY};

/// How long a refused sender may keep a closed connection waiting in all.
const LINGER: Duration = Duration::from_secs(5);
/// What is thrown away at once.
const SCRAP: usize = 16 * 1024;
/// How often in a row, before others have their turn.
const SCRAPS: usize = 16;

/// Where a connection is.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

/// No byte of a request has come.
const IDLE: u8 = 0;
/// A head is arriving.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;
/// No more is read of what comes.
const REFUSED: u8 = 3;

impl Phase {
    /// A request is being answered.
    pub(super) fn busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// The answer is there; another request may follow.
    pub(super) fn answered(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// The answer is there, and is the last.
    pub(super) fn refused(&self) {
        self.0.store(REFUSED, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Relaxed) == phase
    }
}

/// A stream that hyper reads and writes.
pub(super) struct Wire<S> {
    stream: S,
    phase: Phase,
    patience: Patience,
    /// An answer in the place of hyper's, and how much of it has gone out.
    refusal: Option<(Vec<u8>, usize)>,
    is_shut: bool,
    linger: Patience,
    /// How many bytes may still be thrown away.
    scrap: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, phase: Phase) -> Self {
        Self {
            stream,
            phase,
            patience: Patience::new(HEAD_TIME),
            refusal: None,
            is_shut: false,
            linger: Patience::new(LINGER),
            scrap: MOST_BODY,
        }
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Writes the answer to a request that hyper or the wire refuses.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, status: StatusCode) -> Poll<io::Result<()>> {
        self.phase.refused();
        let (text, written) = self.refusal.get_or_insert_with(|| (refusal(status), 0));
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
            } else if read.is_pending() {
                ready!(this.patience.poll_over(cx));
                let _ = ready!(this.poll_refuse(cx, StatusCode::REQUEST_TIMEOUT));
                return Poll::Ready(Err(slow()));
            }
            ready!(read)?;
            if buffer.filled().len() > before {
                let phase = &this.phase.0;
                let _ = phase.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
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
        if let Some(status) = refused_by_hyper(data) {
            ready!(self.poll_refuse(cx, status))?;
            self.refusal = None;
            return Poll::Ready(Ok(data.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }
}

/// The status of an error without a body.
fn refused_by_hyper(data: &[u8]) -> Option<StatusCode> {
    let code = data.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let status = StatusCode::from_bytes(code).ok()?;
    let has_no_body = || {
        let empty = b"\r\ncontent-length: 0\r\n";
        data.windows(empty.len()).any(|part| part == empty)
    };
    (status.is_client_error() && data.ends_with(b"\r\n\r\n") && has_no_body()).then_some(status)
}

/// The answer to a request that never became one.
fn refusal(status: StatusCode) -> Vec<u8> {
    let error = match status {
        StatusCode::REQUEST_TIMEOUT => format!(
            "the head of the request came too slowly: {} s may pass from its first byte to its end",
            HEAD_TIME.as_secs()
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            format!("the headers are too large: {MOST_HEAD} bytes and 100 headers are taken")
        }
        StatusCode::URI_TOO_LONG => "the path is too long: 65,534 bytes are taken".to_owned(),
        _ => "this is no HTTP/1.1 request: a request line and headers are expected".to_owned(),
    };
    let body = serde_json::json!({ "error": error }).to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
