//! Progress of one check.

use std::time::Duration;

use crate::cache::CachedModel;
use crate::reload::Timings;
use crate::reload::error::CheckError;
use crate::reload::resolver::FallbackList;
use crate::rollback::{Evidence, RollbackOutcome};

/// State of one check outside the planner: what the report and the reloader itself need.
#[derive(Default)]
pub(super) struct CheckProgress {
    pub(super) timings: Timings,
    /// Time spent on candidates and fallbacks since the last download; counts as part of the next download.
    pub(super) resolving: Duration,
    /// Fallbacks that were listed.
    pub(super) fallbacks: Option<FallbackList>,
    /// Files of the version that had to leave memory, held so that they are not evicted.
    pub(super) drained: Option<CachedModel>,
    /// First failure.
    pub(super) problem: Option<CheckError>,
    /// First content seen that an earlier check has rejected.
    pub(super) rejected: Option<CheckError>,
    /// `true` if the source did not respond in time, so that it is checked again at once.
    pub(super) must_repeat: bool,
    /// `true` if a step failed, also once that is reported.
    pub(super) has_failed: bool,
    /// Rollback that this is, if it is one.
    pub(super) rollback: Option<Rollback>,
}

impl CheckProgress {
    pub(super) fn failed(&mut self, problem: impl Into<CheckError>) {
        self.problem.get_or_insert(problem.into());
    }

    /// Returns whether the first failure was a source that did not respond, which then has no fallback either.
    pub(super) fn is_source_down(&self) -> bool {
        self.problem.as_ref().is_some_and(CheckError::is_transient)
    }

    /// Notes that the rollback does not take place.
    pub(super) fn not_rolled_back(&mut self, outcome: RollbackOutcome) {
        if let Some(rollback) = &mut self.rollback {
            rollback.outcome = Some(outcome);
        }
    }

    /// Notes that another version is active; with the reason, if that is the rollback.
    pub(super) fn rolled_back(&mut self, reason: Option<&str>) {
        if let (Some(rollback), Some(reason)) = (&mut self.rollback, reason) {
            rollback.reason = Some(reason.to_owned());
        }
    }
}

/// Rollback under way.
pub(super) struct Rollback {
    pub(super) evidence: Evidence,
    /// Outcome, where the active version stays.
    pub(super) outcome: Option<RollbackOutcome>,
    /// Reason for the rollback, once it is done.
    pub(super) reason: Option<String>,
}
