//! A request to roll back, the evidence for it, and the decision by it: pure.
//!
//! The server asks for a rollback while most runs of a version on trial fail. The reloader loads the previous version
//! and runs a sample of the failed inputs on it: a failure counts only if the previous version answers the same input.
//! Where memory does not hold both versions, nothing can be compared before the active version is gone. A rollback then
//! takes a clear majority of many runs that ended with 500.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::ids::{Digest, ModelName};
use crate::tensor::Value;

/// Minimum number of runs that a rollback takes: fewer say nothing.
pub const MIN_RUNS: u32 = 6;
/// The same where no inputs were compared.
const MIN_UNCOMPARED_RUNS: u32 = 30;

/// A request to roll a model back to its previous version.
#[derive(Debug)]
pub struct RollbackRequest {
    /// The model.
    pub model: ModelName,
    /// Digest of the files of the version whose runs fail.
    pub digest: Digest,
    /// The grounds for it.
    pub evidence: Evidence,
    /// Receives the outcome; closed without one where nothing was done.
    pub outcome: oneshot::Sender<RollbackOutcome>,
}

/// Outcome of a [`RollbackRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackOutcome {
    /// Another version is active.
    Replaced,
    /// The active version stays. What the previous version made of each input.
    Kept(Vec<Replayed>),
    /// The active version stays: the evidence does not suffice for the way in which memory allows the load.
    NotEnough,
    /// The active version stays: no other version could be loaded.
    Unavailable {
        /// Another attempt may succeed.
        may_retry: bool,
    },
}

/// Result of a failed input on the previous version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The previous version answers it: the failure counts.
    Answered,
    /// The previous version fails as well: the failure does not count.
    Failed,
    /// The run was cut short, by its deadline or for memory: it says nothing.
    Unknown,
}

/// An input on which a run failed, and the outputs that were wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedInput {
    /// The inputs, by name.
    pub inputs: Vec<(String, Value)>,
    /// The outputs that were wanted; all where none is named.
    pub outputs: Vec<String>,
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
    /// Random sample of the inputs of the unverified failures. One that was drawn twice weighs twice.
    pub inputs: Vec<Arc<FailedInput>>,
    /// Runs that ended with 500, whether their inputs could be kept or not.
    pub errors: u32,
}

impl Evidence {
    /// Returns whether more than half of at least [`MIN_RUNS`] runs failed.
    #[must_use]
    pub fn is_majority(&self) -> bool {
        is_majority(self.failures(), self.succeeded)
    }

    /// Returns whether more than three quarters of at least 30 runs ended with 500: enough where nothing is compared.
    #[must_use]
    pub fn is_clear_majority(&self) -> bool {
        let runs = u64::from(self.errors) + u64::from(self.succeeded);
        runs >= u64::from(MIN_UNCOMPARED_RUNS) && 4 * u64::from(self.errors) > 3 * runs
    }

    /// Returns whether a load can decide: alongside the active version by replays, `in_place` of it by majority.
    #[must_use]
    pub fn suffices(&self, in_place: bool) -> bool {
        if in_place {
            self.is_clear_majority()
        } else {
            !self.inputs.is_empty()
        }
    }

    /// Returns whether the previous version becomes active, by what it made of the inputs.
    ///
    /// Alongside the active version, the failures that count must be more than half of at least [`MIN_RUNS`] runs. Of
    /// the sample, most must be answered; any is enough while the active version has not answered a single request.
    /// Loaded in place of the active version, the previous version stays unless it fails on all that was compared.
    #[must_use]
    pub fn confirms(&self, replayed: &[Replayed], in_place: bool) -> bool {
        let (answered, compared) = counts(replayed);
        if in_place {
            return answered > 0 || compared == 0;
        }
        let failures = self.confirmed + share(self.unverified, replayed);
        let is_typical = 2 * answered > compared || self.succeeded == 0;
        answered > 0 && is_typical && is_majority(failures, self.succeeded)
    }

    /// Returns the reason for a rollback, in words.
    #[must_use]
    pub fn reason(&self, replayed: &[Replayed]) -> String {
        let (answered, compared) = counts(replayed);
        if compared == 0 {
            return self.to_string();
        }
        format!("{self}, and the previous version answers {answered} of {compared} failed inputs")
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

/// Returns how many of `failures` count, by a sample of them that was replayed.
#[must_use]
pub fn share(failures: u32, replayed: &[Replayed]) -> u32 {
    let (answered, compared) = counts(replayed);
    let share = u64::from(failures) * u64::from(answered) / u64::from(compared.max(1));
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// Returns how many inputs were answered, and how many were answered or failed.
fn counts(replayed: &[Replayed]) -> (u32, u32) {
    let count = |wanted| {
        let count = replayed.iter().filter(|one| **one == wanted).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let answered = count(Replayed::Answered);
    (answered, answered + count(Replayed::Failed))
}

fn is_majority(failures: u32, succeeded: u32) -> bool {
    failures > succeeded && failures.saturating_add(succeeded) >= MIN_RUNS
}

#[cfg(test)]
mod tests;
