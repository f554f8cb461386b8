//! What is loaded, since when, and why something is not ready.
//!
//! Written by reload, shown by the server. It is also the way in which the server asks for what is not its own
//! business: a request that finds no model wants another attempt, and a model whose runs fail wants a rollback.

mod command;
mod rollback;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{Deadline, Timestamp};
use crate::ids::{ByName, ModelName, VersionName};
pub use command::Command;
pub use rollback::{
    Evidence, FailedInput, MIN_RUNS, Replayed, RollbackOutcome, RollbackRequest, share,
};

/// Where one model stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelStatus {
    /// The version that answers.
    pub version: Option<VersionName>,
    /// The version that is being loaded in place of one that answered, and for which memory was made free.
    pub replaced_by: Option<VersionName>,
    /// When it was loaded.
    pub loaded_at: Option<Timestamp>,
    /// When the source was last asked with success.
    pub checked_at: Option<Timestamp>,
    /// When the last check began.
    pub asked_at: Option<Timestamp>,
    /// How many checks in a row have failed up to the last that ended. One whose answer is a version that is refused
    /// already has not.
    pub failures: u32,
    /// Whether a check or a load is under way.
    pub busy: bool,
    /// How many checks have ended, well or not.
    pub attempts: u64,
    /// When the last of them ended.
    pub attempted_at: Option<Timestamp>,
    /// Why the last check failed, in words for callers from outside; `None` when it succeeded.
    pub problem: Option<String>,
    /// The same in full, for the log alone: it may name buckets, keys, accounts, roles and paths.
    pub detail: Option<String>,
}

impl ModelStatus {
    /// How long ago the source last said which version is the newest; where it has not said so yet, as at a start from
    /// the cache without it, how long ago the version that answers was loaded. `None` while there is none.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        let since = self.checked_at.or(self.loaded_at)?;
        Some(now.since(since))
    }
}

/// The state of every model, and the channel by which the server's commands go.
#[derive(Debug)]
pub struct Status {
    models: ByName<watch::Sender<ModelStatus>>,
    wanted: mpsc::Sender<Command>,
    /// In milliseconds since the Unix epoch; 0 outside an invocation.
    invocation_deadline: AtomicU64,
}

impl Status {
    /// The status of these models, nothing loaded yet; what the server asks for arrives at the receiver.
    #[must_use]
    pub fn new(models: impl IntoIterator<Item = ModelName>) -> (Self, mpsc::Receiver<Command>) {
        // Requests for a check while one is under way add nothing, so a short queue may overflow.
        let (wanted, receiver) = mpsc::channel(16);
        let models = models
            .into_iter()
            .map(|name| (name, watch::Sender::default()))
            .collect();
        (
            Self {
                models,
                wanted,
                invocation_deadline: AtomicU64::new(0),
            },
            receiver,
        )
    }

    /// Follows one model; `None` for a name that is not served.
    #[must_use]
    pub fn watch(&self, model: &ModelName) -> Option<watch::Receiver<ModelStatus>> {
        self.models.get(model).map(watch::Sender::subscribe)
    }

    /// One model's present state; `None` for a name that is not served.
    #[must_use]
    pub fn get(&self, model: &ModelName) -> Option<ModelStatus> {
        self.models.get(model).map(|status| status.borrow().clone())
    }

    /// Why a model is not there, in words for callers from outside.
    #[must_use]
    pub fn why_missing(&self, model: &ModelName) -> String {
        let mut status = self.get(model).unwrap_or_default();
        let problem = status.problem.take();
        Self::missing(model, status, problem)
    }

    /// As [`Self::why_missing`], in full, for the log alone.
    #[must_use]
    pub fn why_missing_in_full(&self, model: &ModelName) -> String {
        let mut status = self.get(model).unwrap_or_default();
        let problem = status.detail.take();
        Self::missing(model, status, problem)
    }

    fn missing(model: &ModelName, status: ModelStatus, problem: Option<String>) -> String {
        let name = model.as_str();
        match (status.replaced_by, problem) {
            (Some(version), _) => {
                format!(
                    "model {name:?} is being replaced by version {version}, which is still being loaded"
                )
            }
            (None, Some(problem)) => format!("model {name:?} is not loaded: {problem}"),
            (None, None) => format!("model {name:?} is still being loaded"),
        }
    }

    /// From here on a model's version is being replaced, and requests wait: to be called before it is taken out, so
    /// that none of them is told otherwise. It ends with [`answers`](Self::answers).
    pub fn replacement_began(&self, model: &ModelName, by: &VersionName) {
        self.update(model, |status| {
            status.version = None;
            status.replaced_by = Some(by.clone());
        });
    }

    /// From here on this version of a model answers, loaded at `loaded_at`: to be called after it is swapped in, since
    /// it wakes the requests that wait.
    pub fn answers(&self, model: &ModelName, version: &VersionName, loaded_at: Timestamp) {
        self.update(model, |status| {
            status.version = Some(version.clone());
            status.replaced_by = None;
            status.loaded_at = Some(loaded_at);
        });
    }

    /// No version of a model answers any more, since none could be loaded in place of the one that did.
    pub fn replacement_failed(&self, model: &ModelName) {
        self.update(model, |status| status.replaced_by = None);
    }

    /// Every model's present state.
    pub fn all(&self) -> impl Iterator<Item = (&ModelName, ModelStatus)> {
        self.models
            .iter()
            .map(|(name, status)| (name, status.borrow().clone()))
    }

    /// Of each model that was ever asked for: when its last check began, and how many in a row have failed.
    pub fn last_checks(&self) -> impl Iterator<Item = (&ModelName, Timestamp, u32)> {
        self.models.iter().filter_map(|(name, status)| {
            let status = status.borrow();
            Some((name, status.asked_at?, status.failures))
        })
    }

    /// Changes one model's state and wakes those who follow it.
    pub fn update(&self, model: &ModelName, change: impl FnOnce(&mut ModelStatus)) {
        if let Some(status) = self.models.get(model) {
            status.send_modify(change);
        }
    }

    /// Notes the deadline of the invocation that has begun, in milliseconds since the Unix epoch.
    pub fn invocation_began(&self, deadline_ms: u64) {
        self.invocation_deadline
            .store(deadline_ms, Ordering::Relaxed);
    }

    /// The deadline of the last invocation that began here, for requests that bring none of their own.
    #[must_use]
    pub fn invocation_deadline(&self) -> Option<Deadline> {
        match self.invocation_deadline.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Deadline::at_unix_ms(ms)),
        }
    }

    /// Asks for a check of the source; one that is under way already is enough.
    pub fn want_check(&self, model: &ModelName) {
        let _ = self.wanted.try_send(Command::Check(model.clone()));
    }

    /// Asks for a rollback. Returns whether the command was heard.
    #[must_use]
    pub fn want_rollback(&self, request: RollbackRequest) -> bool {
        self.wanted.try_send(Command::RollBack(request)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_ages_from_the_last_answer_of_its_source_or_else_from_its_load() {
        let now = Timestamp(100_000);
        let mut status = ModelStatus::default();
        assert_eq!(status.age(now), None);
        status.loaded_at = Some(Timestamp(40_000));
        assert_eq!(status.age(now), Some(Duration::from_secs(60)));
        status.checked_at = Some(Timestamp(70_000));
        status.failures = 3;
        status.attempted_at = Some(now);
        assert_eq!(status.age(now), Some(Duration::from_secs(30)));
        assert_eq!(
            status.age(Timestamp(130_000)),
            Some(Duration::from_secs(60))
        );
    }
}
