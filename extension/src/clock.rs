//! Time, deadlines and limits across freezes.
//!
//! An execution environment is frozen between invocations, for seconds or hours. Lambda does not document whether the
//! monotonic clock stands still during a freeze. Schedules and deadlines therefore use the wall clock, which is correct
//! after a thaw in both cases. Durations across a freeze are measured in time awake ([`timed_awake`]).

mod awake;
mod deadline;
mod thaw;
#[cfg(test)]
pub(crate) mod wall;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use awake::{AwakeTimeout, timed_awake, within_awake};
pub use deadline::Deadline;
pub use thaw::{Thaws, yield_to_readers};

/// Wall-clock time in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the time since `earlier`; zero if the clock was set back in between.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns the start of the minute.
    #[must_use]
    pub fn minute(self) -> Timestamp {
        Timestamp(self.0 - self.0 % 60_000)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Source of wall-clock time; tests implement a manual clock.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// Wall clock of the system.
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
    fn a_clock_that_is_set_back_yields_zero() {
        assert_eq!(Timestamp(5).since(Timestamp(10)), Duration::ZERO);
        assert_eq!(Timestamp(61_999).minute(), Timestamp(60_000));
    }
}
