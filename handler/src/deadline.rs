//! Remaining time of an invocation.
//!
//! Lambda gives a deadline on the wall clock. The handler times out [`MARGIN`] before it, because
//! an error response is more useful than a killed environment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time reserved for the handler's own error response before Lambda's timeout. The sidecar reserves
/// twice as much, so that its response, which knows the reason, normally comes first.
const MARGIN: Duration = Duration::from_millis(50);

/// Lambda's maximum timeout, assumed for emulators without deadlines.
const LONGEST: Duration = Duration::from_mins(15);

/// Time at which Lambda stops the invocation, in milliseconds since the Unix epoch; 0 from
/// emulators without deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub u64);

impl Deadline {
    /// Time from `now` until the handler must respond; zero if that has passed.
    #[must_use]
    pub fn allows(self, now: SystemTime) -> Duration {
        if self.0 == 0 {
            return LONGEST;
        }
        let end = UNIX_EPOCH + Duration::from_millis(self.0);
        end.duration_since(now)
            .unwrap_or_default()
            .saturating_sub(MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn gives_up_a_little_before_lambda_does() {
        assert_eq!(Deadline(3_000).allows(at(0)), Duration::from_millis(2_950));
        assert_eq!(Deadline(3_000).allows(at(2_960)), Duration::ZERO);
        assert_eq!(Deadline(3_000).allows(at(9_000)), Duration::ZERO);
    }

    #[test]
    fn no_deadline_is_lambdas_longest() {
        assert_eq!(Deadline(0).allows(at(9_000)), Duration::from_mins(15));
    }
}
