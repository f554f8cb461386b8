//! Rejection of a new version: the decision after a failed load.
//!
//! A version is rejected only for a fault of its own. The cause is its content, or the acceptance criteria that its
//! [validation](crate::reload::validation) found unmet. A lack of memory and an unreadable file are faults of the
//! environment. Such a load is deferred, and repeated after a backoff. The journal keeps rejections, so that a rejected
//! version is not loaded again until its content or the criteria change.

use crate::cache::RejectionCause;
use crate::engine::EngineError;
use crate::reload::error::CheckError;
use crate::rollback::RollbackOutcome;

/// Result of a load after which the version is not active.
pub(in crate::reload) struct LoadFailure {
    pub(in crate::reload) kind: LoadFailureKind,
    /// `true` if the active version had to leave memory for the load.
    pub(in crate::reload) vacated: bool,
}

/// Decision about the version of a failed load.
pub(in crate::reload) enum LoadFailureKind {
    /// The load could not be attempted.
    NotAttempted(CheckError),
    /// The evidence for a rollback does not hold.
    NotConfirmed(RollbackOutcome),
    /// The load failed for a reason outside the version.
    Deferred(CheckError),
    /// The version must not become active. The reason is the public one.
    Rejected {
        cause: RejectionCause,
        reason: String,
        problem: CheckError,
    },
}

impl LoadFailureKind {
    /// Returns the failure; `vacated`: the active version had to leave memory for the load.
    pub(super) fn vacated(self, vacated: bool) -> LoadFailure {
        LoadFailure {
            kind: self,
            vacated,
        }
    }
}

/// Returns the failure of a load that could not be attempted.
pub(super) fn not_attempted(problem: impl Into<CheckError>, vacated: bool) -> LoadFailure {
    LoadFailureKind::NotAttempted(problem.into()).vacated(vacated)
}

/// Returns the cause for which a failed load rejects its version; `None` for a fault of the environment.
///
/// All files of the version are whole here. A file that is missing nevertheless is a fault of the version, which refers
/// to it and does not have it.
pub(super) fn rejection_cause(problem: &CheckError) -> Option<RejectionCause> {
    match problem {
        CheckError::Engine(EngineError::File { is_missing, .. }) => {
            is_missing.then_some(RejectionCause::Content)
        }
        CheckError::Engine(error) if error.is_out_of_memory() => None,
        CheckError::Validation(error) if error.is_out_of_memory() => None,
        CheckError::Validation(_) => Some(RejectionCause::Criteria),
        _ => Some(RejectionCause::Content),
    }
}
