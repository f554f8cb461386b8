//! States of the planner, and their continuations.

use crate::cache::{History, ModelRecord};
use crate::ids::Digest;
use crate::manifest::VersionLabels;

/// Version to roll back.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) digest: Digest,
    /// `true` if the source prefers this version to the candidates after it.
    pub(super) is_wanted: bool,
}

/// Continuation once the version that had to leave memory is active again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Restoring {
    NextCandidate,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Checking { in_cache: Option<ModelRecord> },
    Resolving,
    Listing,
    Downloading(Target),
    Finding(ModelRecord),
    Loading { record: ModelRecord, after: After },
    Renaming { record: ModelRecord, after: After },
    Ended,
}

/// Version that is downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Candidate,
    /// Fallback at this index.
    Fallback(usize),
}

/// Continuation after a version that cannot become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    NextCandidate,
    /// Fallback at this index.
    Fallback(usize),
    /// No candidate is left: fall back if no version is active.
    FallBack,
    /// Nothing is left.
    Nothing,
}

/// Records labels that were read.
pub(super) fn note_labels(history: &mut History, labels: Option<VersionLabels>) {
    if let Some(labels) = labels {
        history.set_labels(labels);
    }
}
