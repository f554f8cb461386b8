//! Activation of a loaded version, and a new name or new labels for the active one.
//!
//! A publisher can give the same content another name: a manifest increments its version, or a repository's folder is a
//! copy of the previous one. Nothing is loaded then. If the manifest's acceptance criteria are new as well, the active
//! session is validated first; on failure, the content stays active under its former name.

use std::sync::Arc;

use tracing::info;

use super::Shared;
use super::engine_slot::on_thread;
use super::error::CheckError;
use super::validation::{AcceptanceCriteria, Validation, ValidationError};
use crate::cache::{History, Journal, ModelRecord};
use crate::engine::Session;
use crate::ids::{Digest, ModelName};
use crate::manifest::VersionLabels;
use crate::models::LoadedModel;
use crate::status::ModelStatus;
use crate::tensor::Signature;

/// Reason for which the active version was not renamed.
pub(super) enum RenameError {
    /// The content does not meet the criteria of the new name.
    Rejected(ValidationError),
    /// The rename could not be attempted.
    NotAttempted(Option<CheckError>),
}

/// Activates a loaded version.
pub(super) fn activate(
    model: &ModelName,
    record: &ModelRecord,
    digest: Digest,
    session: Box<dyn Session>,
    labels: VersionLabels,
    shared: &Shared,
) {
    let version = &record.version;
    let now = shared.clock.now();
    let loaded = LoadedModel::new(model.clone(), version.clone(), digest, now, session);
    shared.models.swap(loaded.with_labels(labels));
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

/// Gives the active version the labels of the last manifest, if they differ.
pub(super) fn relabel(model: &ModelName, history: &History, shared: &Shared) {
    let is_stale = |active: &Arc<LoadedModel>| *active.labels != *history.labels();
    if let Some(active) = shared.models.current(model).filter(is_stale) {
        let labels = history.labels().clone();
        shared.models.rename(model, active.version.clone(), labels);
    }
}
