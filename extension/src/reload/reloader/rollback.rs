//! Rollback: the automatic return to the previous version while most runs of the active version fail.
//!
//! The server requests it with the [evidence](Evidence). The previous version is loaded like any fallback; before it
//! becomes active, failed inputs are replayed on it. Without proof the active version stays. A version that was rolled
//! back is rejected until the source changes.

use tracing::{info, warn};

use super::Reloader;
use super::progress::{CheckProgress, Rollback};
use crate::ids::{Digest, VersionName};
use crate::metrics::defs;
use crate::reload::planner::Planner;
use crate::rollback::{Evidence, RollbackOutcome};

/// Identity and public name of a version.
type Named = (Digest, VersionName);

impl Reloader {
    /// Returns to the previous version, or to a fallback of the source, if the evidence against the active version
    /// holds.
    pub async fn roll_back(&self, digest: &Digest, evidence: Evidence) -> RollbackOutcome {
        let mut slot = self.journal.lock().await;
        let name = &self.settings.name;
        let Some(failing) = self.active_version().filter(|(active, _)| active == digest) else {
            info!(model = %name, "no rollback: the version whose runs failed is no longer active");
            return RollbackOutcome::Replaced;
        };
        let grounds = evidence.to_string();
        let mut progress = CheckProgress {
            rollback: Some(Rollback {
                evidence,
                outcome: None,
                reason: None,
            }),
            ..CheckProgress::default()
        };
        let journal = self.read_journal(&mut slot).await;
        let (planner, step) = Planner::roll_back(journal.history(), Some(digest.clone()), digest);
        self.run(planner, step, &mut slot, &mut progress).await;
        let rollback = progress.rollback.take();
        let (outcome, reason) = match rollback {
            Some(rollback) => (rollback.outcome, rollback.reason),
            None => (None, None),
        };
        match self.active_version() {
            Some(active) if active.0 != *digest => {
                self.report_replaced(&failing, &active, reason);
                RollbackOutcome::Replaced
            }
            _ => {
                let outcome = outcome.unwrap_or(RollbackOutcome::Unavailable {
                    may_retry: progress.has_failed,
                });
                self.report_kept(&failing, &outcome, &grounds);
                outcome
            }
        }
    }

    /// Returns the active version by name, and does not hold it: a held version could not leave memory.
    fn active_version(&self) -> Option<Named> {
        let active = self.shared.models.current(&self.settings.name)?;
        Some((active.digest.clone(), active.version.clone()))
    }

    fn report_replaced(&self, failing: &Named, active: &Named, reason: Option<String>) {
        let model = &self.settings.name;
        let ((rejected_digest, rejected), (digest, version)) = (failing, active);
        let Some(reason) = reason else {
            info!(%model, %version, %digest, "no rollback: the source had another version to move to");
            return;
        };
        metrics::counter!(defs::MODEL_ROLLBACKS, defs::MODEL_LABEL => model.to_string())
            .increment(1);
        warn!(
            %model,
            %version,
            %digest,
            %rejected,
            %rejected_digest,
            "rollback: the previous version is active until the source changes: {reason}"
        );
    }

    fn report_kept(&self, failing: &Named, outcome: &RollbackOutcome, grounds: &str) {
        let (model, (digest, version)) = (&self.settings.name, failing);
        match outcome {
            RollbackOutcome::Kept(_) => {
                info!(
                    %model,
                    %version,
                    %digest,
                    "no rollback: the previous version fails on the same inputs: {grounds}"
                );
            }
            RollbackOutcome::Unavailable { may_retry: false } => {
                warn!(%model, %version, %digest, "{grounds}; keeping it: no other version is available");
            }
            RollbackOutcome::Unavailable { .. } => {
                warn!(%model, %version, %digest, "{grounds}; keeping it for now: no other version could be loaded");
            }
            RollbackOutcome::InsufficientEvidence | RollbackOutcome::Replaced => {}
        }
    }
}
