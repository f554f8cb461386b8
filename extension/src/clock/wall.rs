//! Test clocks: a manual wall clock, and freezes with both behaviours of the monotonic clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Clock, Thaws, Timestamp};

/// Wall clock that a test advances.
#[derive(Debug)]
pub(crate) struct Wall(AtomicU64);

impl Wall {
    /// Creates a clock at a time in the year 2026.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_790_000_000_000)))
    }

    /// Advances the clock.
    pub(crate) fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Behaviour of the monotonic clock during a freeze, which Lambda does not document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monotonic {
    Jumps,
    StandsStill,
}

impl Monotonic {
    pub(crate) const BOTH: [Monotonic; 2] = [Monotonic::Jumps, Monotonic::StandsStill];

    /// Freezes for `time`, and thaws. Timers fire before the thaw is noted, which is the worst order. The runtime's
    /// time must be paused.
    pub(crate) async fn freeze(self, wall: &Wall, thaws: &Thaws, time: Duration) {
        wall.pass(time);
        if self == Monotonic::Jumps {
            tokio::time::advance(time).await;
        }
        thaws.note(wall.now());
    }
}
