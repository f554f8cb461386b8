//! Decision about a rollback, by the evidence of failed runs and their replays. Pure.
//!
//! A failure counts only if the previous version succeeds on the same input. Without memory for both versions, nothing
//! can be replayed before the active version is unloaded. A rollback then takes a clear majority of many runs that
//! ended with 500.

use std::fmt;
use std::sync::Arc;

use super::FailedInput;

/// Minimum number of runs for a rollback.
pub const MIN_RUNS: u32 = 6;
/// Minimum number of runs for a rollback without replays.
const MIN_UNCOMPARED_RUNS: u32 = 30;

/// Result of a failed input on the previous version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The run succeeded: the failure counts.
    Succeeded,
    /// The run failed as well: the failure does not count.
    Failed,
    /// The run was interrupted by its deadline or a lack of memory, and decides nothing.
    Unknown,
}

/// Runs of a version on trial.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Runs that succeeded.
    pub succeeded: u32,
    /// Failures that count, as estimated by earlier replays.
    pub confirmed: u32,
    /// Failures since then.
    pub unverified: u32,
    /// Random sample of the inputs of the unverified failures. An input that was drawn twice weighs twice.
    pub inputs: Vec<Arc<FailedInput>>,
    /// Runs that ended with 500, including those whose inputs could not be kept.
    pub errors: u32,
}

impl Evidence {
    /// Returns `true` if more than half of at least [`MIN_RUNS`] runs failed.
    #[must_use]
    pub fn is_majority(&self) -> bool {
        is_majority(self.failures(), self.succeeded)
    }

    /// Returns `true` if more than three quarters of at least 30 runs ended with 500, which suffices without replays.
    #[must_use]
    pub fn is_clear_majority(&self) -> bool {
        let runs = u64::from(self.errors) + u64::from(self.succeeded);
        runs >= u64::from(MIN_UNCOMPARED_RUNS) && 4 * u64::from(self.errors) > 3 * runs
    }

    /// Returns `true` if a load can decide: by replays alongside the active version, by the majority `in_place` of it.
    #[must_use]
    pub fn suffices(&self, in_place: bool) -> bool {
        if in_place {
            self.is_clear_majority()
        } else {
            !self.inputs.is_empty()
        }
    }

    /// Returns `true` if the previous version becomes active, by the results of the replays.
    ///
    /// Alongside the active version, the failures that count must be more than half of at least [`MIN_RUNS`] runs. Once
    /// a run of the active version has succeeded, most replays of two samples must succeed. One sample of three may
    /// hold the only three inputs that the active version rejects and the previous one accepts. Until then, one replay
    /// is enough. In place of the active version, the previous version stays unless all its replays failed.
    #[must_use]
    pub fn confirms(&self, replayed: &[Replayed], in_place: bool) -> bool {
        let (succeeded, compared) = counts(replayed);
        if in_place {
            return succeeded > 0 || compared == 0;
        }
        let failures = self.confirmed + share(self.unverified, replayed);
        let is_typical = self.succeeded == 0 || self.confirmed > 0 && 2 * succeeded > compared;
        succeeded > 0 && is_typical && is_majority(failures, self.succeeded)
    }

    /// Returns the reason for a rollback, for the log and for callers.
    #[must_use]
    pub fn reason(&self, replayed: &[Replayed]) -> String {
        let (succeeded, compared) = counts(replayed);
        if compared == 0 {
            return self.to_string();
        }
        format!(
            "{self}, and the previous version succeeds on {succeeded} of {compared} failed inputs"
        )
    }

    fn failures(&self) -> u32 {
        self.confirmed.saturating_add(self.unverified)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.failures().max(self.errors);
        let runs = failures.saturating_add(self.succeeded);
        write!(f, "{failures} of {runs} runs failed inside ONNX Runtime")
    }
}

/// Returns the number of `failures` that count, as estimated from the replays of a sample.
#[must_use]
pub fn share(failures: u32, replayed: &[Replayed]) -> u32 {
    let (succeeded, compared) = counts(replayed);
    let share = u64::from(failures) * u64::from(succeeded) / u64::from(compared.max(1));
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// Returns the number of replays that succeeded, and of those that succeeded or failed.
fn counts(replayed: &[Replayed]) -> (u32, u32) {
    let count = |wanted| {
        let count = replayed.iter().filter(|one| **one == wanted).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let succeeded = count(Replayed::Succeeded);
    (succeeded, succeeded + count(Replayed::Failed))
}

fn is_majority(failures: u32, succeeded: u32) -> bool {
    failures > succeeded && failures.saturating_add(succeeded) >= MIN_RUNS
}

#[cfg(test)]
mod tests;
