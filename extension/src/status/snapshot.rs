//! Phase of a process of which `SnapStart` makes a snapshot.

use std::sync::{Mutex, PoisonError};

/// Phase of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotPhase {
    /// No snapshot is made.
    #[default]
    None,
    /// Init: a snapshot follows.
    Init,
    /// The sidecar is ready for the snapshot. It may have been restored since, without a hook.
    Ready,
    /// The process was restored: it belongs to one execution environment.
    Restored,
}

impl SnapshotPhase {
    /// Returns `true` if several environments may continue from the state of this process.
    #[must_use]
    pub fn is_before_restore(self) -> bool {
        matches!(self, Self::Init | Self::Ready)
    }
}

/// Current phase.
#[derive(Debug, Default)]
pub(super) struct Snapshot(Mutex<SnapshotPhase>);

impl Snapshot {
    pub(super) fn before() -> Self {
        Self(Mutex::new(SnapshotPhase::Init))
    }

    pub(super) fn phase(&self) -> SnapshotPhase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a phase, unless no snapshot is made.
    pub(super) fn enter(&self, phase: SnapshotPhase) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != SnapshotPhase::None {
            *current = phase;
        }
    }
}
