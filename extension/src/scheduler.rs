//! When a request's run gets its turn, and what stops it.
//!
//! Each model has a queue with so many places, and so many turns: as many runs at the same time. Who finds no place is
//! refused at once; who waits does so no longer than the deadline allows. A request whose deadline passes, or whose caller
//! goes away, frees its place, or has its run stopped inside ONNX Runtime at the next node of the graph, while its turn
//! goes to the next one. Deadlines are the wall clock's, so that a freeze neither hides one nor brings one forward.
//!
//! A run that is known to be short is made by whoever asks, on its own thread, and can be stopped by nobody.
//!
//! Where it is asked for, requests that come together have one run ([`Batching`]). Each has its own deadline all the same, and
//! its own error.

mod batch;
mod executor;
mod inline_execution;
mod memory_trim;
mod queue;
mod row_chunking;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Deadline, Thaws};
use crate::engine::EngineError;
use crate::ids::{ByName, ModelName};
use crate::models::Loaded;
use crate::protocol::Decoded;
use crate::request_memory::{Account, Stopped};
use crate::tensor::Value;
use executor::ModelExecutor;
pub use queue::{Batching, Limits};

/// Gives runs their turn.
pub struct Scheduler {
    executors: ByName<ModelExecutor>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
}

/// A run that came to its end.
#[derive(Debug)]
pub struct RunOutcome {
    /// The outputs.
    pub outputs: Vec<(String, Value)>,
    /// How long the request waited for its turn.
    pub queued: Duration,
    /// How long the model ran.
    pub inferred: Duration,
    /// How many requests the run was for.
    pub batched_requests: usize,
    /// Whether this is the first of them: of each run, one request's is.
    pub is_first: bool,
}

/// Why there are no outputs.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The deadline came first.
    #[error("the deadline passed before the model had answered")]
    Deadline,
    /// As many requests wait as may.
    #[error(
        "{limit} requests wait for this model already, the most that may (MODEL_QUEUE): try again later"
    )]
    Full {
        /// The most that may wait.
        limit: usize,
    },
    /// Memory or time was over before all rows had run.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The engine failed, and not on a request's inputs.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A run failed.
    #[error("{}", .0.error)]
    Failed(Box<FailedRun>),
}

/// Maximum size of the inputs that come back from a run that failed, in bytes: larger ones are freed with the run.
pub const MAX_RETURNED_INPUTS: usize = 1 << 20;

/// A run that failed.
#[derive(Debug)]
pub struct FailedRun {
    /// Cause of the failure.
    pub error: EngineError,
    /// Inputs of the run, and the outputs that were wanted; `None` above [`MAX_RETURNED_INPUTS`].
    pub request: Option<Decoded>,
}

impl RunError {
    /// Returns the engine's error, where it is one.
    #[must_use]
    pub fn engine(&self) -> Option<&EngineError> {
        match self {
            RunError::Engine(error) => Some(error),
            RunError::Failed(failed) => Some(&failed.error),
            RunError::Deadline | RunError::Full { .. } | RunError::Stopped(_) => None,
        }
    }

    fn failed(error: EngineError, request: Decoded) -> Self {
        let bytes: usize = request.inputs.iter().map(|(_, value)| value.bytes()).sum();
        let request = (bytes <= MAX_RETURNED_INPUTS).then_some(request);
        Self::Failed(Box::new(FailedRun { error, request }))
    }
}

impl Scheduler {
    /// A scheduler for these models, with the same limits for each. The account says by how much a run has made the process
    /// grow.
    #[must_use]
    pub fn new(
        models: impl IntoIterator<Item = ModelName>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        thaws: Thaws,
        account: &Arc<Account>,
    ) -> Self {
        Self {
            executors: models
                .into_iter()
                .map(|name| (name, ModelExecutor::new(limits, Arc::clone(account))))
                .collect(),
            limits,
            clock,
            thaws,
        }
    }

    /// The limits of each model.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Runs `request` on `model`, by `deadline`.
    pub async fn run(
        &self,
        model: Arc<Loaded>,
        request: Decoded,
        deadline: Deadline,
    ) -> Result<RunOutcome, RunError> {
        let Some(executor) = self.executors.get(&model.name) else {
            let problem = format!("there is no queue for model {}", model.name);
            return Err(EngineError::Thread(problem).into());
        };
        let time = deadline.remaining(self.clock.now());
        if time.is_zero() {
            return Err(RunError::Deadline);
        }
        let run = executor.run(model, request, time);
        let run = self.thaws.within(&*self.clock, deadline, run);
        run.await.unwrap_or(Err(RunError::Deadline))
    }
}

#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;
