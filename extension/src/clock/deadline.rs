//! Deadline of a response, in wall-clock time.

use std::time::Duration;

use super::{Timestamp, millis};

/// Time by which a response is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Timestamp);

impl Deadline {
    /// Creates a deadline from milliseconds since the Unix epoch, as in the Runtime and Extensions APIs.
    #[must_use]
    pub fn at_unix_ms(ms: u64) -> Self {
        Self(Timestamp(ms))
    }

    /// Creates a deadline that is `time` after `now`.
    #[must_use]
    pub fn after(now: Timestamp, time: Duration) -> Self {
        Self(Timestamp(now.0.saturating_add(millis(time))))
    }

    /// Returns a deadline that is earlier by `margin`.
    #[must_use]
    pub fn less(self, margin: Duration) -> Self {
        Self(Timestamp(self.0.0.saturating_sub(millis(margin))))
    }

    /// Returns the time left at `now`; zero after the deadline.
    #[must_use]
    pub fn remaining(self, now: Timestamp) -> Duration {
        self.0.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_stops_at_zero() {
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
}
