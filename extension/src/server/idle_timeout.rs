//! Timeout of idle connections, counted in ticks that all connections share.
//!
//! A timer of each connection would be armed and disarmed in the kernel at every wait for a request. The ticks come
//! from the runtime that does the background work.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::limits::IDLE_TIMEOUT;

/// Number of ticks in [`IDLE_TIMEOUT`].
const TICKS: u32 = 12;

/// Source of the ticks.
#[derive(Clone, Debug, Default)]
pub(super) struct IdleTicks(Arc<Notify>);

impl IdleTicks {
    /// Sends the ticks until the last clone of the source is dropped.
    pub(super) fn send(&self) -> impl Future<Output = ()> + Send + use<> {
        let ticks: Weak<Notify> = Arc::downgrade(&self.0);
        async move {
            loop {
                tokio::time::sleep(IDLE_TIMEOUT / TICKS).await;
                let Some(ticks) = ticks.upgrade() else {
                    return;
                };
                ticks.notify_waiters();
            }
        }
    }
}

/// Limit that is over after [`IDLE_TIMEOUT`] without a renewal, or up to one tick earlier.
#[derive(Debug)]
pub(super) struct IdleTimeout {
    ticks: Arc<Notify>,
    next: Pin<Box<OwnedNotified>>,
    /// Ticks until the limit is over.
    left: u32,
}

impl IdleTimeout {
    pub(super) fn new(IdleTicks(ticks): &IdleTicks) -> Self {
        Self {
            ticks: Arc::clone(ticks),
            next: Box::pin(Arc::clone(ticks).notified_owned()),
            left: TICKS,
        }
    }

    /// Restarts the limit.
    pub(super) fn renew(&mut self) {
        self.left = TICKS;
    }

    /// Ready when the limit is over.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.next.as_mut().poll(cx));
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return Poll::Ready(());
            }
            self.next.set(Arc::clone(&self.ticks).notified_owned());
        }
    }
}
