//! Backoff between loads of a version that failed for a reason outside of it.
//!
//! Such a version is not rejected, since the next load may succeed: memory is free again, or the file system
//! responds. A load costs CPU, memory and time, so it is not repeated at every poll. Polls continue at their
//! interval, and another version is loaded immediately.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::Digest;

/// Wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Consecutive failed loads of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoadBackoff {
    digest: Digest,
    failures: u32,
    failed_at: Timestamp,
    reason: String,
}

impl LoadBackoff {
    /// Returns the backoff after a load of the version of this digest failed at `now`.
    pub(super) fn after_failure(
        before: Option<Self>,
        digest: Digest,
        now: Timestamp,
        reason: String,
    ) -> Self {
        let before = before.filter(|before| before.digest == digest);
        Self {
            digest,
            failures: before.map_or(0, |before| before.failures).saturating_add(1),
            failed_at: now,
            reason,
        }
    }

    /// Returns whether this is the backoff of the version of this digest.
    pub(super) fn is_of(&self, digest: &Digest) -> bool {
        self.digest == *digest
    }

    /// Returns the version whose load has to wait at `now`. A clock that was set back ends the wait.
    pub(super) fn deferred(&self, now: Timestamp) -> Option<&Digest> {
        let is_over = now < self.failed_at || now.since(self.failed_at) >= self.wait();
        (!is_over).then_some(&self.digest)
    }

    /// Returns the reason for which the version is not loaded now.
    pub(super) fn reason(&self) -> String {
        let seconds = self.wait().as_secs();
        format!(
            "{} (the next load is attempted after {seconds} s)",
            self.reason
        )
    }

    fn wait(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        FIRST_WAIT.saturating_mul(1 << doublings).min(MAX_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest(bytes: &str) -> Digest {
        Digest::of(Sha256::new().chain_update(bytes))
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_wait_up_to_a_limit() {
        let (version, mut now, mut backoff) = (digest("1"), Timestamp(0), None);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            let failed =
                LoadBackoff::after_failure(backoff, version.clone(), now, "no memory".into());
            let end = Timestamp(now.0 + seconds * 1_000);
            assert_eq!(failed.deferred(now), Some(&version));
            assert_eq!(
                failed.deferred(Timestamp(end.0 - 1)),
                Some(&version),
                "{seconds}"
            );
            assert_eq!(failed.deferred(end), None, "{seconds}");
            assert!(failed.reason().starts_with("no memory"));
            (now, backoff) = (end, Some(failed));
        }
    }

    #[test]
    fn another_version_restarts_the_backoff_and_a_clock_that_is_set_back_ends_it() {
        let now = Timestamp(5_000);
        let first = LoadBackoff::after_failure(None, digest("1"), now, String::new());
        let first = LoadBackoff::after_failure(Some(first), digest("1"), now, String::new());
        let other = LoadBackoff::after_failure(Some(first), digest("2"), now, String::new());
        assert_eq!(other.deferred(Timestamp(5_999)), Some(&digest("2")));
        assert_eq!(other.deferred(Timestamp(6_000)), None);
        assert_eq!(other.deferred(Timestamp(4_999)), None);
    }
}
