//! The body of an answer, across a freeze.
//!
//! Bytes that had arrived by the thaw are read as if nothing had been. When there are none left and none
//! follow, the connection is taken for dead, and the body ends in an error, from which whoever reads resumes.
//!
//! A body of which nothing comes for [`STALL`] of time awake ends in an error as well. A peer may be gone without a word,
//! and the SDK reads listings and errors to their end with no limit of its own.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_types::body::{Error, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::http::{Frozen, Pulse};
use crate::clock::{AwakeTimeout, Timestamp, turns};

/// A body in flight brings a byte every few milliseconds.
const QUIET: Duration = Duration::from_secs(1);

/// Maximum time awake without a byte. Longer than a fetch waits, which goes on over another connection.
pub(super) const STALL: Duration = Duration::from_secs(15);

/// A body that no more bytes came of.
#[derive(Debug, thiserror::Error)]
#[error("read timeout: no byte of the answer within {} s", STALL.as_secs())]
struct Stalled;

pub(super) struct Body {
    inner: SdkBody,
    pulse: Pulse,
    thaw: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    last_byte: Timestamp,
    /// After a thaw: how much longer to wait for the next byte.
    patience: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    stall: AwakeTimeout,
}

impl Body {
    pub(super) fn new(inner: SdkBody, pulse: Pulse) -> Self {
        Self {
            inner,
            last_byte: pulse.beat(),
            thaw: Box::pin(pulse.thaw()),
            pulse,
            patience: None,
            stall: AwakeTimeout::new(STALL),
        }
    }

    /// Ready, with the reason, when no more can be hoped for.
    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        while self.thaw.as_mut().poll(cx).is_ready() {
            self.thaw = Box::pin(self.pulse.thaw());
            self.patience = Some(if self.pulse.since(self.last_byte) >= QUIET {
                Box::pin(turns())
            } else {
                Box::pin(tokio::time::sleep(QUIET))
            });
        }
        match &mut self.patience {
            Some(patience) => patience.as_mut().poll(cx).map(|()| Frozen.into()),
            None => self.stall.poll_over(cx).map(|()| Stalled.into()),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.last_byte = this.pulse.beat();
            this.patience = None;
            this.stall.renew();
            return Poll::Ready(frame);
        }
        let reason = ready!(this.poll_dead(cx));
        Poll::Ready(Some(Err(reason)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.inner)
    }
}

#[cfg(test)]
mod tests;
