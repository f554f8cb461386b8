//! Report of a check: status, log and metrics.

use std::time::Duration;

use tracing::{error, warn};

use super::{CheckProgress, Reloader};
use crate::cache::Journal;
use crate::metrics::defs;
use crate::reload::error::CheckError;
use crate::reload::milliseconds;
use crate::reload::planner::End;

impl Reloader {
    /// Notes that a version of the source is not available.
    pub(super) fn not_available(
        &self,
        problem: CheckError,
        is_fallback: bool,
        progress: &mut CheckProgress,
    ) {
        if let CheckError::RejectedContent(_) = problem {
            progress.rejected.get_or_insert(problem);
            return;
        }
        if is_fallback {
            warn!(model = %self.settings.name, "cannot fall back to an earlier version: {problem}");
        }
        progress.failed(problem);
    }

    /// Reports the end of a check in the status, the log and the metrics.
    pub(super) fn report(&self, end: End, journal: &Journal, progress: &mut CheckProgress) {
        let (model, status) = (&self.settings.name, &self.shared.status);
        if self.active().is_none() {
            status.replacement_failed(model);
        }
        let has_failed = progress.problem.is_some();
        progress.has_failed = has_failed;
        let rejection = journal.history().rejection().map(str::to_owned);
        let rejection = progress
            .rejected
            .take()
            .or(rejection.map(CheckError::RejectedVersion));
        drop(self.kept_fallbacks(progress.fallbacks.take()));
        let deferral = self.loader.deferral(journal);
        let is_passed_over = rejection.is_some() || deferral.is_some();
        let problem = match (progress.problem.take(), end) {
            (Some(problem), _) => {
                self.report_problem(&problem);
                Some(problem)
            }
            // Reported only where it has an effect: another version was loaded instead.
            (None, End::Loaded) => {
                if let Some(rejection) = &rejection {
                    self.report_problem(rejection);
                }
                rejection
            }
            (None, _) => {
                // A rejection by an earlier process in this environment is not in this process's log yet.
                let is_first = status.get(model).is_none_or(|it| it.checks_ended == 0);
                if let Some(rejection) = rejection.as_ref().filter(|_| is_first) {
                    warn!(%model, "{rejection}");
                }
                rejection
            }
        };
        let problem = problem.or(deferral);
        let detail = problem.as_ref().map(ToString::to_string);
        let problem = problem.map(|problem| problem.public());
        let now = self.shared.clock.now();
        let is_wanted_active = problem.is_none() && self.active().is_some();
        status.update(model, |status| {
            status.is_busy = false;
            if is_wanted_active {
                status.wanted_since = None;
            } else if is_passed_over {
                status.wanted_version_seen(now);
            }
            status.checks_ended += 1;
            status.failures = if has_failed {
                status.failures.saturating_add(1)
            } else {
                0
            };
            status.check_ended_at = Some(now);
            (status.problem, status.detail) = (problem, detail);
        });
        if progress.must_repeat {
            status.request_check(model);
        }
    }

    fn report_problem(&self, problem: &CheckError) {
        if matches!(problem, CheckError::ShuttingDown(_)) {
            return;
        }
        let model = self.settings.name.as_str();
        let metric = match problem {
            CheckError::Source(_) => defs::MODEL_CHECK_FAILURES,
            _ => defs::MODEL_RELOAD_FAILURES,
        };
        metrics::counter!(metric, defs::MODEL_LABEL => model.to_owned()).increment(1);
        match self.shared.models.current(&self.settings.name) {
            Some(active) => {
                warn!(
                    model,
                    version = %active.version,
                    digest = %active.digest,
                    "keeping the active version: {problem}"
                );
            }
            None => error!(model, "no version is loaded: {problem}"),
        }
    }

    pub(super) fn count_cache_hit(&self) {
        let model = self.settings.name.to_string();
        metrics::counter!(defs::MODEL_CACHE_HITS, defs::MODEL_LABEL => model).increment(1);
    }

    pub(super) fn count_fetch(&self, time: Duration, bytes: u64) {
        let model = self.settings.name.as_str();
        metrics::histogram!(defs::MODEL_FETCH_TIME, defs::MODEL_LABEL => model.to_owned())
            .record(milliseconds(time));
        metrics::counter!(defs::MODEL_FETCH_BYTES, defs::MODEL_LABEL => model.to_owned())
            .increment(bytes);
    }
}
