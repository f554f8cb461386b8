//! How long a version is trusted before its source is asked again.
//!
//! Never longer than the interval, and a little less each time by chance, so that the environments of a fleet that
//! started together do not come at once: the first wait is from a half to the whole of the interval, which spreads
//! them, and each later one from nine tenths to the whole, which keeps them apart. An interval of zero is zero.
//!
//! One check that fails changes nothing: S3's client has tried several times in it, and a version that was refused
//! is none the sooner good. From the second one in a row on the wait doubles, from a second at the least, to ten
//! intervals or ten minutes at the most, whichever is shorter, but never to less than the interval. A check that does
//! not fail ends that.
//!
//! Pure, and without a state of its own: chance is drawn from a seed, the model and the time of its last check. So
//! environments that were restored from one snapshot part ways as well.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::ATTEMPT_PAUSE;
use crate::clock::Timestamp;
use crate::ids::ModelName;

/// The most intervals that failures make of one.
const MAX_INTERVALS: u32 = 10;
/// The longest wait that failures make, where the interval itself is not longer.
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Doublings after which every wait has long been the longest.
const MAX_DOUBLINGS: u32 = 12;
/// In how many steps chance is drawn.
const STEPS: u32 = 1 << 16;

/// The poll_schedule of one environment's checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollSchedule {
    /// The longest wait while checks succeed.
    pub(super) interval: Duration,
    /// What makes this environment differ from others.
    pub(super) seed: u64,
}

/// What is known of a model's last check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastCheck {
    /// When it began.
    pub(super) begun: Timestamp,
    /// Whether it was the first one.
    pub(super) is_first: bool,
    /// How many checks in a row have failed up to this one.
    pub(super) failures: u32,
}

impl PollSchedule {
    /// How long after the beginning of the last check the next one is due; whole milliseconds.
    pub(super) fn wait(self, model: &ModelName, last: LastCheck) -> Duration {
        let longest = self.longest(last.failures);
        let spread = longest / if last.is_first { 2 } else { 10 };
        let less = spread / STEPS * self.draw(model, last.begun);
        let wait = longest.saturating_sub(less).as_millis();
        Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// The longest wait after this number of failures in a row.
    pub(super) fn longest(self, failures: u32) -> Duration {
        backoff(self.interval, failures)
    }

    /// Less than [`STEPS`].
    fn draw(self, model: &ModelName, begun: Timestamp) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.seed, model, begun).hash(&mut hasher);
        u32::try_from(hasher.finish() % u64::from(STEPS)).unwrap_or_default()
    }
}

/// The wait after this number of failures in a row, of an attempt that is otherwise made once in `interval`.
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
