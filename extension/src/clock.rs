//! Time, and deadlines that survive a freeze.
//!
//! An execution environment is frozen between invocations, for seconds or hours. Whether the monotonic clock
//! stands still meanwhile is not documented, so whatever asks "is it due?" or "how long until the deadline?"
//! asks the wall clock, which is right after a thaw in both cases. Elapsed times of single steps are measured
//! with [`timed_awake`] where a freeze may fall into them.

mod awake;
mod thaw;
#[cfg(test)]
pub(crate) mod wall;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use awake::{AwakeTimeout, timed_awake, within_awake};
pub use thaw::{Thaws, turns};

/// A point in wall-clock time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from `earlier` until here; zero when the clock was set back in between.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The start of the minute in which this lies.
    #[must_use]
    pub fn minute(self) -> Timestamp {
        Timestamp(self.0 - self.0 % 60_000)
    }
}

/// The time by which something must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Timestamp);

impl Deadline {
    /// A deadline as the Runtime and Extensions APIs give it: milliseconds since the Unix epoch.
    #[must_use]
    pub fn at_unix_ms(ms: u64) -> Self {
        Self(Timestamp(ms))
    }

    /// The deadline that lies `time` after `now`.
    #[must_use]
    pub fn after(now: Timestamp, time: Duration) -> Self {
        Self(Timestamp(now.0.saturating_add(millis(time))))
    }

    /// This deadline, earlier by `margin`, so that an answer still arrives in time.
    #[must_use]
    pub fn less(self, margin: Duration) -> Self {
        Self(Timestamp(self.0.0.saturating_sub(millis(margin))))
    }

    /// What is left at `now`; zero once it has passed.
    #[must_use]
    pub fn remaining(self, now: Timestamp) -> Duration {
        self.0.since(now)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Where the time comes from. A seam: tests of what is due when bring their own.
pub trait Clock: Send + Sync {
    /// The present wall-clock time.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, millis),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_counts_down_and_stops_at_zero() {
        let deadline = Deadline::after(Timestamp(1_000), Duration::from_secs(3));
        assert_eq!(
            deadline.remaining(Timestamp(1_500)),
            Duration::from_millis(2_500)
        );
        assert_eq!(
            deadline
                .less(Duration::from_millis(100))
                .remaining(Timestamp(3_000)),
            Duration::from_millis(900)
        );
        assert_eq!(deadline.remaining(Timestamp(9_000)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_negative_time() {
        assert_eq!(Timestamp(5).since(Timestamp(10)), Duration::ZERO);
        assert_eq!(Timestamp(61_999).minute(), Timestamp(60_000));
    }
}
