//! Poll schedule: time until the next version check, with jitter and backoff.
//!
//! The [jitter] spreads the polls of a fleet whose environments started together. The first wait is 50 to 100 % of the
//! interval, which spreads the environments, and each later wait 90 to 100 %, which keeps them apart. An interval of
//! zero stays zero.
//!
//! A single failed check changes nothing, because S3's client has retried within it. From the second failure in a
//! row, the wait doubles, starting from at least one second. It is limited to ten intervals or ten minutes, whichever
//! is shorter, and never below the interval. A successful check resets the backoff.
//!
//! Pure and stateless.

mod jitter;

use std::time::Duration;

use super::ATTEMPT_PAUSE;
use crate::clock::Timestamp;
use crate::ids::ModelName;

/// Maximum backoff in intervals.
const MAX_INTERVALS: u32 = 10;
/// Maximum backoff, unless the interval is longer.
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Maximum number of doublings; every backoff has reached its maximum by then.
const MAX_DOUBLINGS: u32 = 12;

/// Poll schedule of an environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollSchedule {
    /// Maximum wait while checks succeed.
    pub(super) interval: Duration,
    /// Seed of the jitter, different in each environment.
    pub(super) seed: u64,
}

/// Last version check of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastCheck {
    /// Beginning of the check.
    pub(super) begun: Timestamp,
    /// `true` for the first check.
    pub(super) is_first: bool,
    /// Number of checks that failed in a row, up to this one.
    pub(super) failures: u32,
}

impl PollSchedule {
    /// Returns the time from the beginning of the last check until the next one is due, in whole milliseconds.
    pub(super) fn wait(self, model: &ModelName, last: LastCheck) -> Duration {
        let longest = self.max_wait(last.failures);
        let spread = longest / if last.is_first { 2 } else { 10 };
        let jitter = jitter::jitter(spread, self.seed, model, last.begun);
        let wait = longest.saturating_sub(jitter).as_millis();
        Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Returns the maximum wait after this number of failures in a row.
    pub(super) fn max_wait(self, failures: u32) -> Duration {
        backoff(self.interval, failures)
    }
}

/// Returns the wait after this number of failures in a row, for attempts that are made once in `interval` otherwise.
pub(super) fn backoff(interval: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(MAX_DOUBLINGS);
    if doublings == 0 {
        return interval;
    }
    let unit = interval.max(ATTEMPT_PAUSE);
    let most = unit.saturating_mul(MAX_INTERVALS).min(MAX_BACKOFF);
    unit.saturating_mul(1 << doublings).min(most).max(interval)
}

#[cfg(test)]
mod tests;
