//! Steps that the planner asks for, and the events that report their results.

use std::fmt;

use crate::cache::{ManifestMetadata, ModelRecord, RejectionCause};
use crate::manifest::VersionLabels;
use crate::tensor::Signature;

/// Data that steps and events carry, and that the planner passes on unread.
pub(in crate::reload) trait Payload {
    /// Changed content of the source, opened.
    type Change;
    /// State of the source, as a version check has seen it.
    type Source;
    /// Version that should become active.
    type Candidate;
    /// Version to fall back to.
    type Fallback: Clone;
    /// Files of a version in the cache, ready to load.
    type Model;
}

/// Step to perform.
#[derive(Debug)]
pub(in crate::reload) enum Step<P: Payload> {
    /// Check the source for a version other than the newest known one; unless `known`, open its present version. In
    /// parallel, look for the files of `in_cache`.
    CheckSource {
        known: bool,
        in_cache: Option<ModelRecord>,
    },
    /// Resolve changed content to candidates.
    Resolve {
        change: P::Change,
        source: P::Source,
    },
    /// List the source's fallbacks.
    ListFallbacks { source: Option<P::Source> },
    /// Download a version.
    Download(Offer<P>),
    /// Look for the files of this version in the cache.
    FindInCache(ModelRecord),
    /// Load, validate and activate a version. `replay`: for a rollback, failed inputs decide first.
    Load {
        record: ModelRecord,
        model: P::Model,
        replay: bool,
    },
    /// Give the active version, which has the same content, the name of this record. Validate it first if it was not
    /// accepted under this record's criteria.
    Rename {
        record: ModelRecord,
        model: Option<P::Model>,
    },
    /// The check has ended.
    End(End),
}

/// Version that the source offers.
pub(in crate::reload) enum Offer<P: Payload> {
    Candidate(P::Candidate),
    Fallback(P::Fallback),
}

impl<P: Payload> fmt::Debug for Offer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Offer::Candidate(_) => "Candidate",
            Offer::Fallback(_) => "Fallback",
        })
    }
}

/// End of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::reload) enum End {
    /// The active version is the wanted one.
    Current,
    /// Another version is active.
    Loaded,
    /// The active version is the former one, or there is still none.
    Failed,
}

/// Result of a step.
#[derive(Debug)]
pub(in crate::reload) enum Event<P: Payload> {
    /// [`Step::CheckSource`]: the source holds the known version. `found`: files of `in_cache`.
    Unchanged {
        source: P::Source,
        found: Option<P::Model>,
    },
    /// [`Step::CheckSource`]: the source may hold another version.
    Changed {
        change: P::Change,
        source: P::Source,
        found: Option<P::Model>,
    },
    /// [`Step::CheckSource`]: no response.
    Unreachable { found: Option<P::Model> },
    /// [`Step::Resolve`]: these versions should become active, in order of preference.
    Resolved {
        candidates: Vec<P::Candidate>,
        source: P::Source,
        labels: Option<VersionLabels>,
    },
    /// [`Step::Resolve`]: the content cannot be read.
    NotResolved { labels: Option<VersionLabels> },
    /// [`Step::ListFallbacks`]: these versions can be fallen back to, in order of preference.
    FallbacksListed {
        fallbacks: Vec<P::Fallback>,
        labels: Option<VersionLabels>,
    },
    /// [`Step::ListFallbacks`], [`Step::Download`] of a fallback: the source cannot provide any now.
    NoFallback { labels: Option<VersionLabels> },
    /// [`Step::Download`]: the version is in the cache, or known to be rejected.
    Downloaded {
        record: ModelRecord,
        model: Option<P::Model>,
        published: Option<ManifestMetadata>,
    },
    /// [`Step::Download`]: the version is not available now.
    NotDownloaded,
    /// [`Step::FindInCache`]: the files are in the cache.
    Found(P::Model),
    /// [`Step::FindInCache`]: the files are not in the cache.
    NotFound,
    /// [`Step::Load`]: the version is active. `rollback`: reason for which the former version is rejected.
    Loaded {
        signature: Signature,
        rollback: Option<String>,
    },
    /// [`Step::Load`] with `replay`: the evidence does not hold, and the version is dropped. `vacated`: the active
    /// version had to leave memory for the load.
    NotConfirmed { vacated: bool },
    /// [`Step::Rename`]: the active version has the name.
    Renamed { signature: Signature },
    /// [`Step::Load`], [`Step::Rename`]: the version must not become active.
    Rejected {
        cause: RejectionCause,
        reason: String,
        vacated: bool,
    },
    /// [`Step::Load`]: the load failed for a reason outside the version, such as insufficient memory. The version may
    /// be loaded later, and others now.
    Deferred { vacated: bool },
    /// [`Step::Load`], [`Step::Rename`]: the step could not be attempted.
    NotLoaded { vacated: bool },
}
