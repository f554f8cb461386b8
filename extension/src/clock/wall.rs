//! For tests: a wall clock of their own, and a freeze with either behaviour of the monotonic clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Clock, Thaws, Timestamp};

/// A wall clock that goes on only when a test says so.
#[derive(Debug)]
pub(crate) struct Wall(AtomicU64);

impl Wall {
    /// A clock at a time in the year 2026.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_790_000_000_000)))
    }

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

/// What the monotonic clock does in a freeze. Which it is on Lambda is not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monotonic {
    Jumps,
    StandsStill,
}

impl Monotonic {
    pub(crate) const BOTH: [Monotonic; 2] = [Monotonic::Jumps, Monotonic::StandsStill];

    /// A freeze for `time`, and a thaw. Timers that ring at the thaw do so before anybody notes it: the worse order.
    /// The runtime's time must be paused.
    pub(crate) async fn freeze(self, wall: &Wall, thaws: &Thaws, time: Duration) {
        wall.pass(time);
        if self == Monotonic::Jumps {
            tokio::time::advance(time).await;
        }
        thaws.note(wall.now());
    }
}
