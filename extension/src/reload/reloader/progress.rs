//! Progress of one check.

use std::time::Duration;

use super::rollback::Rollback;
use crate::cache::CachedModel;
use crate::reload::Timings;
use crate::reload::error::CheckError;
use crate::reload::resolver::FallbackList;

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
}
