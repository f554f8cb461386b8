//! Response bodies across a freeze.
//!
//! Bytes that arrived before the thaw are read normally. If no bytes follow, the connection counts as dead, and the
//! body ends with an error, from which the reader can resume.
//!
//! A body without a byte for [`STALL`] of time awake also ends with an error. A peer may vanish silently, and the SDK
//! reads listings and errors to their end without a limit.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_types::body::{Error, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::pulse::{Frozen, Pulse};
use crate::clock::{AwakeTimeout, Timestamp, yield_to_readers};

/// Time without a byte after which a body counts as idle. A body in flight delivers a byte every few milliseconds.
const QUIET: Duration = Duration::from_secs(1);

/// Maximum time awake without a byte. Longer than the limit of a fetch, which continues over another connection.
pub(super) const STALL: Duration = Duration::from_secs(15);

/// Error of a body that delivers no more bytes.
#[derive(Debug, thiserror::Error)]
#[error("read timeout: no byte of the response within {} s", STALL.as_secs())]
struct Stalled;

/// Body of a response, which ends with an error if its connection is dead.
pub(super) struct FreezeAwareBody {
    inner: SdkBody,
    pulse: Pulse,
    thaw: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    last_byte: Timestamp,
    /// Limit for the next byte after a thaw.
    grace: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    stall: AwakeTimeout,
}

impl FreezeAwareBody {
    pub(super) fn new(inner: SdkBody, pulse: Pulse) -> Self {
        Self {
            inner,
            last_byte: pulse.beat(),
            thaw: Box::pin(pulse.thaw()),
            pulse,
            grace: None,
            stall: AwakeTimeout::new(STALL),
        }
    }

    /// Ready with the reason if the body counts as dead.
    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        while self.thaw.as_mut().poll(cx).is_ready() {
            self.thaw = Box::pin(self.pulse.thaw());
            self.grace = Some(if self.pulse.since(self.last_byte) >= QUIET {
                Box::pin(yield_to_readers())
            } else {
                Box::pin(tokio::time::sleep(QUIET))
            });
        }
        match &mut self.grace {
            Some(grace) => grace.as_mut().poll(cx).map(|()| Frozen.into()),
            None => self.stall.poll_over(cx).map(|()| Stalled.into()),
        }
    }
}

impl http_body::Body for FreezeAwareBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.last_byte = this.pulse.beat();
            this.grace = None;
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
