//! Rollback of a model to its previous version: request, outcome, and the decision by the [evidence](Evidence).
//!
//! The rollback policy of the server requests a rollback while most runs of a version on trial fail. The reloader loads
//! the previous version and runs a sample of the failed inputs on it.

mod decision;

use tokio::sync::oneshot;

use crate::ids::{Digest, ModelName};
use crate::tensor::Value;
pub use decision::{Evidence, MIN_RUNS, Replayed, share};

/// Request to roll a model back to its previous version.
#[derive(Debug)]
pub struct RollbackRequest {
    /// Name of the model.
    pub model: ModelName,
    /// Digest of the files of the version whose runs fail.
    pub digest: Digest,
    /// Evidence for the rollback.
    pub evidence: Evidence,
    /// Receives the outcome; closed without an outcome if nothing was done.
    pub outcome: oneshot::Sender<RollbackOutcome>,
}

/// Outcome of a [`RollbackRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackOutcome {
    /// Another version is active.
    Replaced,
    /// The active version stays. Holds the result of each input on the previous version.
    Kept(Vec<Replayed>),
    /// The active version stays: the evidence does not suffice for the load that memory allows.
    InsufficientEvidence,
    /// The active version stays: no other version could be loaded.
    Unavailable {
        /// `true` if another attempt may succeed.
        may_retry: bool,
    },
}

/// Input of a failed run, and the requested outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedInput {
    /// Inputs by name.
    pub inputs: Vec<(String, Value)>,
    /// Requested outputs; empty for all outputs.
    pub outputs: Vec<String>,
}
