//! Validation of a version before it becomes active, at a start as at a reload.
//!
//! Length and checksum are verified by the download, and the load proves that ONNX Runtime accepts the model. The
//! loaded session is then validated in two steps:
//!
//! 1. The signature must match the manifest's `signature`. Without one, it must serve callers of the previous version,
//!    so that an unannounced change is rejected.
//! 2. Each golden example of the manifest runs once, and its outputs must match within the tolerance.
//!
//! The first example is also the warm-up. A session's first run costs more than later ones: the arena grows, mapped
//! weights are read, kernels initialise. No request pays for that.
//!
//! A version that this environment has accepted before is only warmed up ([`Validation::warm_up_only`]). A failure of
//! that warm-up does not reject the version.
//!
//! Validation runs on the thread that has loaded the session; a Tokio runtime cancels a run that exceeds its time
//! limit. The [loader](super::loader) decides whether a failure rejects the version.

mod compare;

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::warn;

use self::compare::compare;
use super::milliseconds;
use super::timed_run::run_within;
use crate::cache::{Journal, ModelRecord};
use crate::engine::{Cancel, EngineError, Session};
use crate::ids::{ModelName, VersionName};
use crate::manifest::{Golden, GoldenTensor, PublishedVersion, printable};
use crate::metrics::defs;
use crate::protocol::{predict, v2};
use crate::tensor::{Incompatible, Signature, Tensor, Value};

/// Maximum duration of one example's run.
const MAX_EXAMPLE_TIME: Duration = Duration::from_secs(30);
/// Maximum duration of a warm-up run: half of an Init, since callers may be waiting.
const MAX_WARM_UP_TIME: Duration = Duration::from_secs(5);
/// Remedies for the publisher of an intended change of the signature.
const ADVICE: &str = "if the change is intended, declare the new `signature` in the manifest, or publish under another location";

/// Conditions under which a version is accepted.
#[derive(Clone, Debug, Default)]
pub(super) struct AcceptanceCriteria {
    /// Signature that the manifest declares, in the form of [`Signature::published`].
    pub(super) declared: Option<Signature>,
    /// Signature of the active version, or of the last accepted one.
    pub(super) previous: Option<Signature>,
    /// Golden examples of the manifest.
    pub(super) golden: Vec<Golden>,
}

/// Validation of one version.
pub(super) struct Validation {
    purpose: Purpose,
    runtime: Handle,
}

enum Purpose {
    Validate(AcceptanceCriteria),
    WarmUp {
        inputs: Vec<GoldenTensor>,
        begins: Box<dyn FnOnce() + Send>,
    },
}

/// Result of a validation that accepts the version.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Validated {
    /// Duration of the runs; `None` without any run.
    pub(super) warm_up: Option<Duration>,
    /// Failure of the warm-up of a version that was accepted before.
    pub(super) warm_up_failure: Option<String>,
}

/// Reason for which a version is not accepted.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum ValidationError {
    /// The signature differs from the manifest's.
    #[error("the model's signature differs from the manifest's `signature`: {}", printable(&.0.to_string()))]
    NotAsDeclared(Incompatible),
    /// The signature does not serve callers of the previous version.
    #[error("the model's signature does not serve callers of the previous version: {}; {ADVICE}", printable(.0))]
    Incompatible(String),
    /// A golden example failed.
    #[error("golden[{example}] is not met: {}", printable(.reason))]
    Golden {
        /// Position of the example in the manifest.
        example: usize,
        /// Cause, with the field of the example where there is one.
        reason: String,
    },
    /// Memory could not be allocated in the run of a golden example.
    #[error("golden[{example}] could not be run: {}", printable(.reason))]
    OutOfMemory {
        /// Position of the example in the manifest.
        example: usize,
        /// Message of ONNX Runtime.
        reason: String,
    },
}

impl ValidationError {
    /// Returns whether memory could not be allocated, which says nothing about the version.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, ValidationError::OutOfMemory { .. })
    }
}

/// Reason for which a run has no outputs.
struct RunFailure {
    reason: String,
    is_out_of_memory: bool,
}

impl From<String> for RunFailure {
    fn from(reason: String) -> Self {
        Self {
            reason,
            is_out_of_memory: false,
        }
    }
}

impl Validation {
    /// Returns the validation of a version that this environment has not accepted before. Must be called inside a Tokio
    /// runtime.
    pub(super) fn new(criteria: AcceptanceCriteria) -> Self {
        Self {
            purpose: Purpose::Validate(criteria),
            runtime: Handle::current(),
        }
    }

    /// Returns the validation that a version needs in this environment. Content that was accepted here before, under
    /// the same criteria, is only warmed up. `active` is the signature of the active version. Must be called inside a
    /// Tokio runtime.
    pub(super) fn for_version(
        record: &ModelRecord,
        criteria: AcceptanceCriteria,
        active: Option<&Signature>,
        journal: &Journal,
    ) -> Self {
        let history = journal.history();
        if history.was_accepted(record) {
            return match history.example(record) {
                Some(inputs) => {
                    Self::warm_up_only(inputs.to_vec(), journal.warm_up_callback(&record.digest()))
                }
                None => Self::new(AcceptanceCriteria::default()),
            };
        }
        Self::new(AcceptanceCriteria {
            previous: active.or_else(|| history.signature()).cloned(),
            ..criteria
        })
    }

    /// Returns a validation that runs these inputs once and accepts the version in any case. `begins` is called before
    /// the run. Must be called inside a Tokio runtime.
    pub(super) fn warm_up_only(
        inputs: Vec<GoldenTensor>,
        begins: impl FnOnce() + Send + 'static,
    ) -> Self {
        let begins = Box::new(begins);
        Self {
            purpose: Purpose::WarmUp { inputs, begins },
            runtime: Handle::current(),
        }
    }

    /// Validates the session. Must be called on a thread that may block.
    pub(super) fn validate(self, session: &dyn Session) -> Result<Validated, ValidationError> {
        let runs = Runs {
            session,
            runtime: &self.runtime,
        };
        match self.purpose {
            Purpose::Validate(criteria) => {
                check_signature(&criteria, session.signature())?;
                let started = Instant::now();
                for (example, golden) in criteria.golden.iter().enumerate() {
                    runs.check_example(example, golden)?;
                }
                Ok(Validated {
                    warm_up: (!criteria.golden.is_empty()).then(|| started.elapsed()),
                    warm_up_failure: None,
                })
            }
            Purpose::WarmUp { inputs, begins } => {
                let started = Instant::now();
                begins();
                let outputs = runs.run(&inputs, &[], MAX_WARM_UP_TIME);
                Ok(Validated {
                    warm_up: Some(started.elapsed()),
                    warm_up_failure: outputs.err().map(|failure| failure.reason),
                })
            }
        }
    }
}

impl Validated {
    /// Records the duration of the runs, and logs a warm-up that failed.
    pub(super) fn report(&self, model: &ModelName, version: &VersionName) {
        if let Some(time) = self.warm_up {
            metrics::histogram!(defs::MODEL_WARM_UP_TIME, defs::MODEL_LABEL => model.to_string())
                .record(milliseconds(time));
        }
        if let Some(reason) = &self.warm_up_failure {
            let reason = printable(reason);
            warn!(
                %model,
                %version,
                "the warm-up with the manifest's first golden example failed; activating the version, since it was \
                 accepted before: {reason}"
            );
        }
    }
}

/// Validates a session as a start of the sidecar would. Its signature must be the one that the published version
/// declares, and each golden example must be met. Must be called inside a Tokio runtime, on a thread that may block.
///
/// # Errors
/// The reason for which an environment would reject the version.
pub fn validate_published(session: &dyn Session, version: &PublishedVersion) -> Result<(), String> {
    let criteria = AcceptanceCriteria {
        declared: version.signature.clone(),
        previous: None,
        golden: version.golden.clone(),
    };
    let validated = Validation::new(criteria).validate(session);
    validated.map(drop).map_err(|error| error.to_string())
}

fn check_signature(
    criteria: &AcceptanceCriteria,
    signature: &Signature,
) -> Result<(), ValidationError> {
    match (&criteria.declared, &criteria.previous) {
        (Some(declared), _) => signature
            .conforms_to(declared)
            .map_err(ValidationError::NotAsDeclared),
        (None, Some(previous)) => {
            let incompatible = |problem: String| Err(ValidationError::Incompatible(problem));
            if let Err(problem) = signature.serves_callers_of(previous) {
                return incompatible(problem.to_string());
            }
            predict::keeps_form(previous, signature)
                .or_else(|problem| incompatible(problem.to_string()))
        }
        (None, None) => Ok(()),
    }
}

/// Runs of a session that serves no request yet.
struct Runs<'a> {
    session: &'a dyn Session,
    runtime: &'a Handle,
}

impl Runs<'_> {
    /// Runs one example, and compares the outputs with the expected ones.
    fn check_example(&self, example: usize, golden: &Golden) -> Result<(), ValidationError> {
        let failed = |reason: String| ValidationError::Golden { example, reason };
        let expected = v2::golden_outputs(&golden.outputs, self.session.signature())
            .map_err(|error| failed(error.to_string()))?;
        let names: Vec<String> = expected.iter().map(|(name, _)| name.clone()).collect();
        let outputs = self.run(&golden.inputs, &names, MAX_EXAMPLE_TIME);
        let mut outputs = outputs.map_err(|failure| {
            let reason = failure.reason;
            if failure.is_out_of_memory {
                ValidationError::OutOfMemory { example, reason }
            } else {
                failed(reason)
            }
        })?;
        let tolerance = golden.tolerance(std::env::consts::ARCH);
        for (output, expected) in expected {
            let got = take(&mut outputs, &output)
                .ok_or_else(|| failed(format!("output {output:?} is not a tensor")))?;
            compare(&expected, &got, tolerance).map_err(|difference| {
                let output = printable(&format!("{output:?}"));
                failed(format!("output {output}{difference}"))
            })?;
        }
        Ok(())
    }

    /// Runs the session once, for at most `limit`.
    fn run(
        &self,
        inputs: &[GoldenTensor],
        outputs: &[String],
        limit: Duration,
    ) -> Result<Vec<(String, Value)>, RunFailure> {
        let inputs = v2::golden_inputs(inputs, self.session.signature());
        let inputs = inputs.map_err(|error| error.to_string())?;
        let run = |cancel: &Cancel| self.session.run(&inputs, outputs, cancel);
        run_within(limit, self.runtime, run).map_err(|error| RunFailure {
            is_out_of_memory: error.is_out_of_memory(),
            reason: match error {
                EngineError::Cancelled => {
                    format!("the run did not end within {} s", limit.as_secs())
                }
                error => error.to_string(),
            },
        })
    }
}

/// Takes the output of this name, as a response writes it.
fn take(outputs: &mut Vec<(String, Value)>, name: &str) -> Option<Tensor> {
    let position = outputs.iter().position(|(output, _)| output == name)?;
    v2::as_tensor(outputs.swap_remove(position).1)
}

#[cfg(test)]
mod tests;
