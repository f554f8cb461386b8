//! Status of every model: the active version, its checks, and the reason why a model is not ready.
//!
//! `reload` writes the status, and `server` shows it. The server also sends [`ModelCommand`]s through it. A
//! command requests a version check when no version is active, or a rollback when the runs of a version fail.

mod command;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Deadline, Timestamp};
use crate::ids::{ModelName, VersionName};
use crate::rollback::RollbackRequest;
pub use command::ModelCommand;
use snapshot::Snapshot;
pub use snapshot::SnapshotPhase;

/// Status of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelStatus {
    /// Active version.
    pub version: Option<VersionName>,
    /// Version that is being loaded in place of the active version, which was unloaded to free its memory.
    pub replaced_by: Option<VersionName>,
    /// Time at which the active version was loaded.
    pub loaded_at: Option<Timestamp>,
    /// Time of the last successful poll of the source.
    pub checked_at: Option<Timestamp>,
    /// Time at which the last version check began.
    pub check_started_at: Option<Timestamp>,
    /// Number of consecutive failed checks. A check that finds a version which is already rejected does not count as
    /// failed.
    pub failures: u32,
    /// `true` while a check or a load is running.
    pub is_busy: bool,
    /// Number of checks that have ended, successful or not.
    pub checks_ended: u64,
    /// Time at which the last check ended.
    pub check_ended_at: Option<Timestamp>,
    /// Time at which a wanted version was first seen, while the active version is another one. Kept if a newer version
    /// is wanted since; `None` if the wanted version is active.
    pub wanted_since: Option<Timestamp>,
    /// Reason why the last check failed, for callers; `None` if the last check succeeded.
    pub problem: Option<String>,
    /// Reason in full, for the log only: it may name buckets, keys, accounts, roles and paths.
    pub detail: Option<String>,
}

impl ModelStatus {
    /// Returns the time since the last successful poll of the source. Without one, as after a start from the cache
    /// while the source is unavailable, the time since the active version was loaded. `None` if no version is active.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        let since = self.checked_at.or(self.loaded_at)?;
        Some(now.since(since))
    }

    /// Notes that a wanted version was seen that is not active.
    pub fn wanted_version_seen(&mut self, now: Timestamp) {
        self.wanted_since.get_or_insert(now);
    }
}

/// Status of every model, and the channel of the server's commands.
#[derive(Debug)]
pub struct Status {
    models: BTreeMap<ModelName, watch::Sender<ModelStatus>>,
    commands: mpsc::Sender<ModelCommand>,
    /// Milliseconds since the Unix epoch; 0 outside an invocation.
    invocation_deadline: AtomicU64,
    snapshot: Snapshot,
}

impl Status {
    /// Creates the status of these models, none of them loaded. The receiver gets the server's commands.
    #[must_use]
    pub fn new(
        models: impl IntoIterator<Item = ModelName>,
    ) -> (Self, mpsc::Receiver<ModelCommand>) {
        // The queue may overflow: another check during a check changes nothing.
        let (commands, receiver) = mpsc::channel(16);
        let models = models
            .into_iter()
            .map(|name| (name, watch::Sender::default()))
            .collect();
        (
            Self {
                models,
                commands,
                invocation_deadline: AtomicU64::new(0),
                snapshot: Snapshot::default(),
            },
            receiver,
        )
    }

    /// Sets whether a snapshot will be made of this process.
    #[must_use]
    pub fn for_snapshot(self, is_for_snapshot: bool) -> Self {
        let snapshot = if is_for_snapshot {
            Snapshot::before()
        } else {
            Snapshot::default()
        };
        Self { snapshot, ..self }
    }

    /// Returns the phase of the snapshot.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotPhase {
        self.snapshot.phase()
    }

    /// Notes that a snapshot may be made from here on.
    pub fn ready_for_snapshot(&self) {
        self.snapshot.enter(SnapshotPhase::Ready);
    }

    /// Notes that the process was restored from the snapshot.
    pub fn restored(&self) {
        self.snapshot.enter(SnapshotPhase::Restored);
    }

    /// Reports a restore, and waits until its work is done. Returns `false` if the process is ending.
    pub async fn report_restore(&self) -> bool {
        let (done, ended) = oneshot::channel();
        let sent = self.commands.send(ModelCommand::Restored(done)).await;
        sent.is_ok() && ended.await.is_ok()
    }

    /// Returns a receiver of the status of one model; `None` for an unknown model.
    #[must_use]
    pub fn watch(&self, model: &ModelName) -> Option<watch::Receiver<ModelStatus>> {
        self.models.get(model).map(watch::Sender::subscribe)
    }

    /// Returns the status of one model; `None` for an unknown model.
    #[must_use]
    pub fn get(&self, model: &ModelName) -> Option<ModelStatus> {
        self.models.get(model).map(|status| status.borrow().clone())
    }

    /// Returns the reason why a model has no active version, for callers.
    #[must_use]
    pub fn unavailable_reason(&self, model: &ModelName) -> String {
        let mut status = self.get(model).unwrap_or_default();
        let problem = status.problem.take();
        Self::unavailable(model, status, problem)
    }

    /// Returns the reason why a model has no active version in full, for the log only.
    #[must_use]
    pub fn unavailable_detail(&self, model: &ModelName) -> String {
        let mut status = self.get(model).unwrap_or_default();
        let problem = status.detail.take();
        Self::unavailable(model, status, problem)
    }

    fn unavailable(model: &ModelName, status: ModelStatus, problem: Option<String>) -> String {
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

    /// Records that a version is being replaced, so that requests wait. Must be called before the version is unloaded:
    /// no request may find a model without a reason. Ends with [`activated`](Self::activated).
    pub fn replacement_began(&self, model: &ModelName, by: &VersionName) {
        self.update(model, |status| {
            status.version = None;
            status.replaced_by = Some(by.clone());
        });
    }

    /// Records the active version. Must be called after the swap, since it wakes the waiting requests.
    pub fn activated(&self, model: &ModelName, version: &VersionName, loaded_at: Timestamp) {
        self.update(model, |status| {
            status.version = Some(version.clone());
            status.replaced_by = None;
            status.loaded_at = Some(loaded_at);
        });
    }

    /// Records that no version is active, since none could be loaded in place of the unloaded one.
    pub fn replacement_failed(&self, model: &ModelName) {
        self.update(model, |status| status.replaced_by = None);
    }

    /// Returns the status of every model.
    pub fn all(&self) -> impl Iterator<Item = (&ModelName, ModelStatus)> {
        self.models
            .iter()
            .map(|(name, status)| (name, status.borrow().clone()))
    }

    /// Returns, for each model that was ever checked, the start of its last check and the number of consecutive
    /// failures.
    pub fn last_checks(&self) -> impl Iterator<Item = (&ModelName, Timestamp, u32)> {
        self.models.iter().filter_map(|(name, status)| {
            let status = status.borrow();
            Some((name, status.check_started_at?, status.failures))
        })
    }

    /// Changes the status of one model, and notifies its receivers.
    pub fn update(&self, model: &ModelName, change: impl FnOnce(&mut ModelStatus)) {
        if let Some(status) = self.models.get(model) {
            status.send_modify(change);
        }
    }

    /// Records the deadline of an invocation that began, in milliseconds since the Unix epoch.
    pub fn invocation_began(&self, deadline_ms: u64) {
        self.invocation_deadline
            .store(deadline_ms, Ordering::Relaxed);
    }

    /// Returns the deadline of the last invocation that began, for requests without a deadline of their own.
    #[must_use]
    pub fn invocation_deadline(&self) -> Option<Deadline> {
        match self.invocation_deadline.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Deadline::at_unix_ms(ms)),
        }
    }

    /// Requests a version check.
    pub fn request_check(&self, model: &ModelName) {
        let _ = self.commands.try_send(ModelCommand::Check(model.clone()));
    }

    /// Requests a rollback. Returns `true` if the command was sent.
    #[must_use]
    pub fn request_rollback(&self, request: RollbackRequest) -> bool {
        self.commands
            .try_send(ModelCommand::RollBack(request))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_counts_from_the_last_successful_check_or_else_from_the_load() {
        let now = Timestamp(100_000);
        let mut status = ModelStatus::default();
        assert_eq!(status.age(now), None);
        status.loaded_at = Some(Timestamp(40_000));
        assert_eq!(status.age(now), Some(Duration::from_secs(60)));
        status.checked_at = Some(Timestamp(70_000));
        status.failures = 3;
        status.check_ended_at = Some(now);
        assert_eq!(status.age(now), Some(Duration::from_secs(30)));
        assert_eq!(
            status.age(Timestamp(130_000)),
            Some(Duration::from_secs(60))
        );
    }
}
