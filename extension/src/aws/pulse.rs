//! Signs of life of a connection, across freezes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Thaws, Timestamp};

/// Error of a request or a response body that was in flight during a freeze.
#[derive(Debug, thiserror::Error)]
#[error("the execution environment was frozen during the transfer")]
pub(super) struct Frozen;

/// Observer of a connection's activity, which also marks the connection's pool as used.
#[derive(Clone)]
pub(super) struct Pulse {
    /// Last activity of the pool, in milliseconds since the Unix epoch.
    used: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
}

impl Pulse {
    /// Pulse of a connection of the pool whose last activity is `used`.
    pub(super) fn new(used: Arc<AtomicU64>, clock: Arc<dyn Clock>, thaws: Thaws) -> Self {
        Self { used, clock, thaws }
    }

    /// Pulse of a connection without a pool.
    #[cfg(test)]
    pub(super) fn without_pool(clock: Arc<dyn Clock>, thaws: Thaws) -> Self {
        Self::new(Arc::default(), clock, thaws)
    }

    /// Notes activity: the connection is used, or has delivered bytes. Returns the time.
    pub(super) fn beat(&self) -> Timestamp {
        let now = self.clock.now();
        self.used.store(now.0, Ordering::Relaxed);
        now
    }

    /// Returns the time since `last`.
    pub(super) fn since(&self, last: Timestamp) -> Duration {
        self.clock.now().since(last)
    }

    /// Waits for the next thaw.
    pub(super) fn thaw(&self) -> impl Future<Output = ()> + Send + 'static {
        self.thaws.next()
    }
}
