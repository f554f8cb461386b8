//! What a version must pass before it answers, at a start as at a reload.
//!
//! Its length, its checksum and that it loads are seen to before; here the session that has just been loaded is held
//! against what its callers rely on. First its signature: against the one that the manifest declares, or, where none is
//! declared, against that of the version before, so that a change which nobody has announced is refused. Then the
//! manifest's golden examples, each run once and compared within its tolerance. The first of these runs is also the
//! warm-up: a session's first run costs more than those that follow (the arena grows, weights that are mapped are read,
//! kernels set themselves up), and no caller pays for it.
//!
//! A version that has passed in this environment is only warmed up when it is loaded again ([`Gate::warm_up_only`]), and
//! nothing that goes wrong then keeps it from answering.
//!
//! All of it happens on the thread that has loaded the session. A run that takes too long is cancelled from a Tokio
//! runtime. What becomes of a version that is refused is the reloader's business, as is a process that dies in here.

mod compare;

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::warn;

use self::compare::compare;
use super::milliseconds;
use super::replay::within;
use crate::engine::{Cancel, EngineError, Session};
use crate::ids::{ModelName, VersionName};
use crate::manifest::{Golden, GoldenTensor, printable};
use crate::metrics::defs;
use crate::protocol::{predict, v2};
use crate::tensor::{Incompatible, Signature, Tensor, Value};

/// How many seconds the run of one example may take.
const MAX_EXAMPLE: u64 = 30;
/// How many seconds the run of a warm-up may take: half of an Init, since callers may be waiting.
const MAX_WARM_UP: u64 = 5;
/// What whoever published a change that is refused can do.
const ADVICE: &str = "if the change is meant, declare the new `signature` in the manifest, or publish under another location";

/// What a version is held against.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// The signature that its manifest declares, in the form of [`Signature::published`].
    pub(super) declared: Option<Signature>,
    /// The signature of the version that answers, or of the last good one.
    pub(super) before: Option<Signature>,
    /// Its manifest's golden examples.
    pub(super) golden: Vec<Golden>,
}

/// The gate for one version.
pub(super) struct Gate {
    purpose: Purpose,
    runtime: Handle,
}

enum Purpose {
    Hold(Terms),
    WarmUp {
        inputs: Vec<GoldenTensor>,
        begins: Box<dyn FnOnce() + Send>,
    },
}

/// A version that may answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// How long its runs took; `None` when there was none.
    pub(super) warm_up: Option<Duration>,
    /// Why the warm-up of a version that passed before failed.
    pub(super) warm_up_failure: Option<String>,
}

/// Why a version may not answer.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is not what its manifest says.
    #[error("the model is not what the manifest's `signature` declares: {}", printable(&.0.to_string()))]
    NotAsDeclared(Incompatible),
    /// Callers of the version before could not go on.
    #[error("callers of the version before could not go on: {}; {ADVICE}", printable(.0))]
    Incompatible(String),
    /// A golden example was not met.
    #[error("golden[{example}] is not met: {}", printable(.reason))]
    Golden {
        /// The example's place in the manifest.
        example: usize,
        /// What is the matter, with the field of the example that it is about where there is one.
        reason: String,
    },
    /// Memory could not be allocated in the run of a golden example.
    #[error("golden[{example}] could not be run: {}", printable(.reason))]
    OutOfMemory {
        /// The example's place in the manifest.
        example: usize,
        /// The message of ONNX Runtime.
        reason: String,
    },
}

impl Refusal {
    /// Returns whether memory could not be allocated, which says nothing about the version.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, Refusal::OutOfMemory { .. })
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

impl Gate {
    /// The gate for a version that has not passed one in this environment. To be called inside a Tokio runtime.
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            purpose: Purpose::Hold(terms),
            runtime: Handle::current(),
        }
    }

    /// A gate that lets the version pass whatever happens, once its session was run with these inputs. `begins` is called
    /// before the run. To be called inside a Tokio runtime.
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

    /// Holds the session against the terms. To be called on a thread that may block.
    pub(super) fn check(self, session: &dyn Session) -> Result<Passed, Refusal> {
        let runs = Runs {
            session,
            runtime: &self.runtime,
        };
        match self.purpose {
            Purpose::Hold(terms) => {
                check_signature(&terms, session.signature())?;
                let started = Instant::now();
                for (example, golden) in terms.golden.iter().enumerate() {
                    runs.meet(example, golden)?;
                }
                Ok(Passed {
                    warm_up: (!terms.golden.is_empty()).then(|| started.elapsed()),
                    warm_up_failure: None,
                })
            }
            Purpose::WarmUp { inputs, begins } => {
                let started = Instant::now();
                begins();
                let outputs = runs.run(&inputs, &[], MAX_WARM_UP);
                Ok(Passed {
                    warm_up: Some(started.elapsed()),
                    warm_up_failure: outputs.err().map(|failure| failure.reason),
                })
            }
        }
    }
}

impl Passed {
    /// Observes how long the runs took, and logs a warm-up that failed.
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
                "the warm-up with the manifest's first golden example failed, and the version answers all the same: \
                 {reason}"
            );
        }
    }
}

fn check_signature(terms: &Terms, signature: &Signature) -> Result<(), Refusal> {
    match (&terms.declared, &terms.before) {
        (Some(declared), _) => signature
            .conforms_to(declared)
            .map_err(Refusal::NotAsDeclared),
        (None, Some(before)) => {
            let incompatible = |problem: String| Err(Refusal::Incompatible(problem));
            if let Err(problem) = signature.serves_callers_of(before) {
                return incompatible(problem.to_string());
            }
            predict::keeps_form(before, signature)
                .or_else(|problem| incompatible(problem.to_string()))
        }
        (None, None) => Ok(()),
    }
}

/// Runs a session that nobody else uses yet.
struct Runs<'a> {
    session: &'a dyn Session,
    runtime: &'a Handle,
}

impl Runs<'_> {
    /// Runs one example, and holds what comes against what it says.
    fn meet(&self, example: usize, golden: &Golden) -> Result<(), Refusal> {
        let refusal = |reason: String| Refusal::Golden { example, reason };
        let expected = v2::golden_outputs(&golden.outputs, self.session.signature())
            .map_err(|error| refusal(error.to_string()))?;
        let names: Vec<String> = expected.iter().map(|(name, _)| name.clone()).collect();
        let outputs = self.run(&golden.inputs, &names, MAX_EXAMPLE);
        let mut outputs = outputs.map_err(|failure| {
            let reason = failure.reason;
            if failure.is_out_of_memory {
                Refusal::OutOfMemory { example, reason }
            } else {
                refusal(reason)
            }
        })?;
        let tolerance = golden.tolerance(std::env::consts::ARCH);
        for (output, expected) in expected {
            let got = take(&mut outputs, &output);
            let got = got.ok_or_else(|| {
                refusal(format!("output {output:?} did not come out as a tensor"))
            })?;
            compare(&expected, &got, tolerance).map_err(|difference| {
                let output = printable(&format!("{output:?}"));
                refusal(format!("output {output}{difference}"))
            })?;
        }
        Ok(())
    }

    /// Runs the session once, for at most so many seconds.
    fn run(
        &self,
        inputs: &[GoldenTensor],
        outputs: &[String],
        seconds: u64,
    ) -> Result<Vec<(String, Value)>, RunFailure> {
        let inputs = v2::golden_inputs(inputs, self.session.signature());
        let inputs = inputs.map_err(|error| error.to_string())?;
        let run = |cancel: &Cancel| self.session.run(&inputs, outputs, cancel);
        within(seconds, self.runtime, run).map_err(|error| RunFailure {
            is_out_of_memory: error.is_out_of_memory(),
            reason: match error {
                EngineError::Cancelled => format!("the run was not over after {seconds} s"),
                error => error.to_string(),
            },
        })
    }
}

/// The output of this name, as an answer writes it.
fn take(outputs: &mut Vec<(String, Value)>, name: &str) -> Option<Tensor> {
    let place = outputs.iter().position(|(output, _)| output == name)?;
    v2::as_tensor(outputs.swap_remove(place).1)
}

#[cfg(test)]
mod tests;
