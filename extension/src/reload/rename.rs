//! A new name, or new labels, for the version that is active.
//!
//! A publisher can give the same content another name: a manifest counts its version up, a folder is a copy of the one
//! before. Nothing is loaded then. Where the manifest's acceptance criteria are new as well, the active session is held
//! against them first; if it fails, the content stays active under its former name.

use std::sync::Arc;

use tracing::info;

use super::engine_slot::on_thread;
use super::machine::Event;
use super::{Reloader, Walk};
use crate::cache::{History, Journal, ModelRecord, RejectionCause};
use crate::models::Loaded;

impl Reloader {
    /// Gives the active version the name of `record`, which has the same content.
    pub(super) async fn rename(
        &self,
        record: ModelRecord,
        journal: &Journal,
        walk: &mut Walk,
    ) -> Event {
        let (name, shared) = (&self.settings.name, &self.shared);
        let not_tried = Event::NotLoaded { vacated: false };
        let Some(active) = shared.models.current(name) else {
            return not_tried;
        };
        if !journal.history().was_accepted(&record) {
            let gate = self.gate(&record, std::mem::take(&mut walk.terms), journal);
            let session = Arc::clone(&active);
            let validate = move || {
                crate::sys::lower_thread_priority();
                gate.check(session.session())
            };
            match on_thread("validate-model", validate).await {
                Ok(Ok(passed)) => passed.report(name, &record.version),
                Ok(Err(refusal)) => {
                    let reason = refusal.to_string();
                    walk.failed(refusal);
                    return Event::Refused {
                        cause: RejectionCause::Criteria,
                        reason,
                        vacated: false,
                    };
                }
                Err(problem) => {
                    walk.failed(problem);
                    return not_tried;
                }
            }
        }
        if active.version != record.version {
            let labels = journal.history().labels().clone();
            shared.models.rename(name, record.version.clone(), labels);
            shared
                .status
                .activated(name, &record.version, active.loaded_at);
            info!(
                model = %name,
                version = %record.version,
                former_version = %active.version,
                digest = %active.digest,
                "the active version has a new name, and nothing is loaded: its content is the same"
            );
        }
        self.is_known_as(record);
        Event::Renamed {
            signature: active.signature().clone(),
        }
    }

    /// Gives the active version the labels of the last manifest, if it has others.
    pub(super) fn label(&self, history: &History) {
        let (name, models) = (&self.settings.name, &self.shared.models);
        let is_stale = |active: &Arc<Loaded>| *active.labels != *history.labels();
        if let Some(active) = models.current(name).filter(is_stale) {
            models.rename(name, active.version.clone(), history.labels().clone());
        }
    }
}
