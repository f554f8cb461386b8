//! Activation of a loaded version, and a new name, new labels or a new baseline for the active one.
//!
//! A publisher can give the same content another name: a manifest increments its version, or a repository's folder is a
//! copy of the previous one. Nothing is loaded then. If the manifest's acceptance criteria are new as well, the active
//! session is validated first; on failure, the content stays active under its former name.

use std::sync::Arc;

use tracing::{info, warn};

use super::Shared;
use super::engine_slot::on_thread;
use super::error::CheckError;
use super::validation::{AcceptanceCriteria, Validation, ValidationError};
use crate::cache::{History, Journal, ModelRecord};
use crate::drift::DriftWindow;
use crate::engine::Session;
use crate::ids::{Digest, ModelName, VersionName};
use crate::manifest::{Baseline, printable};
use crate::models::{LoadSteps, LoadedModel};
use crate::status::ModelStatus;
use crate::tensor::Signature;

/// Reason for which the active version was not renamed.
pub(super) enum RenameError {
    /// The content does not meet the criteria of the new name.
    Rejected(ValidationError),
    /// The rename could not be attempted.
    NotAttempted(Option<CheckError>),
}

/// Activates a loaded version, with the labels and the baseline of its manifest. Its first response reports `steps`.
pub(super) fn activate(
    model: &ModelName,
    record: &ModelRecord,
    digest: Digest,
    session: Box<dyn Session>,
    steps: Option<LoadSteps>,
    history: &History,
    shared: &Shared,
) {
    let version = &record.version;
    let now = shared.clock.now();
    let drift = drift_window(
        model,
        version,
        history.baseline(record),
        session.signature(),
        shared,
    );
    let loaded = LoadedModel::new(model.clone(), version.clone(), digest, now, session);
    let loaded = loaded.with_labels(history.labels().clone());
    let loaded = loaded.with_steps(steps);
    shared.models.swap(loaded.with_drift(drift));
    shared.status.activated(model, version, now);
    let no_problem = |status: &mut ModelStatus| (status.problem, status.detail) = (None, None);
    shared.status.update(model, no_problem);
}

/// Gives the active version the name of `record`, which has the same content. Returns the active version's signature.
pub(super) async fn rename(
    model: &ModelName,
    record: &ModelRecord,
    criteria: AcceptanceCriteria,
    journal: &Journal,
    shared: &Shared,
) -> Result<Signature, RenameError> {
    let Some(active) = shared.models.current(model) else {
        return Err(RenameError::NotAttempted(None));
    };
    if !journal.history().was_accepted(record) {
        let validation =
            Validation::for_version(record, criteria, Some(active.signature()), journal);
        let session = Arc::clone(&active);
        let validate = move || {
            crate::sys::lower_thread_priority();
            validation.validate(session.session())
        };
        match on_thread("validate-model", validate).await {
            Ok(Ok(validated)) => validated.report(model, &record.version),
            Ok(Err(error)) => return Err(RenameError::Rejected(error)),
            Err(problem) => return Err(RenameError::NotAttempted(Some(problem.into()))),
        }
    }
    if active.version != record.version {
        let labels = journal.history().labels().clone();
        shared.models.rename(model, record.version.clone(), labels);
        shared
            .status
            .activated(model, &record.version, active.loaded_at);
        info!(
            %model,
            version = %record.version,
            former_version = %active.version,
            digest = %active.digest,
            "the active version has a new name; nothing is loaded, since its content is the same"
        );
    }
    Ok(active.signature().clone())
}

/// Gives the active version the labels and the baseline of the last manifest, where they differ.
pub(super) fn apply_metadata(model: &ModelName, history: &History, shared: &Shared) {
    let is_stale = |active: &Arc<LoadedModel>| *active.labels != *history.labels();
    if let Some(active) = shared.models.current(model).filter(is_stale) {
        let labels = history.labels().clone();
        shared.models.rename(model, active.version.clone(), labels);
    }
    let (Some(active), Some(record)) = (shared.models.current(model), history.last_active()) else {
        return;
    };
    if shared.drift_rows == 0 || record.digest() != active.digest {
        return;
    }
    let baseline = history.baseline(record);
    let measured = active
        .drift
        .as_deref()
        .map_or(&[][..], DriftWindow::baseline);
    if measured != baseline {
        let (version, signature) = (&record.version, active.signature());
        let drift = drift_window(model, version, baseline, signature, shared);
        shared.models.measure_drift(model, drift);
    }
}

/// Returns an empty window for a version with this baseline; `None` if drift is not measured. Logs the histograms that
/// do not fit the model.
fn drift_window(
    model: &ModelName,
    version: &VersionName,
    baseline: &[Baseline],
    signature: &Signature,
    shared: &Shared,
) -> Option<DriftWindow> {
    let seed = crate::sys::random_u64();
    let window = DriftWindow::new(baseline, shared.drift_rows, signature, seed)?;
    if let Some(first) = window.mismatches().first() {
        warn!(
            %model,
            %version,
            histograms = window.mismatches().len(),
            "the manifest's baseline does not fit the model; drift is not measured for {}: {}",
            printable(&first.column),
            first.reason
        );
    }
    Some(window)
}
