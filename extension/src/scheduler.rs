//! Scheduling of runs: queue, concurrency, deadlines, cancellation, and batching.
//!
//! Each model has a bounded queue and a maximum number of concurrent runs. A request that finds the queue full is
//! rejected at once (HTTP 429); a queued request waits at most until its deadline. If the deadline passes or the caller
//! disconnects, a queued request leaves the queue. A run is stopped inside ONNX Runtime at the next node of the graph,
//! and its run slot goes to the next request. Deadlines use the wall clock, so that a freeze neither hides nor advances
//! a deadline.
//!
//! A run that is known to be short is made on the calling thread, and cannot be stopped.
//!
//! If batching is enabled, concurrent requests share a run ([`Batching`]). Each keeps its own deadline and its own
//! error.

mod batch;
mod executor;
mod inline_execution;
mod memory_trim;
mod queue;
mod row_chunking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Deadline, Thaws};
use crate::engine::EngineError;
use crate::ids::ModelName;
use crate::models::LoadedModel;
use crate::protocol::Decoded;
use crate::request_memory::{Account, Stopped};
use crate::tensor::Value;
use executor::ModelExecutor;
pub use queue::{Batching, ExecutorLimits};

/// Runs inference requests on the executors of all models.
pub struct Scheduler {
    executors: BTreeMap<ModelName, ModelExecutor>,
    limits: ExecutorLimits,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
}

/// Result of a successful run.
#[derive(Debug)]
pub struct RunOutcome {
    /// Outputs by name.
    pub outputs: Vec<(String, Value)>,
    /// Time in the queue.
    pub queued: Duration,
    /// Duration of the run.
    pub inferred: Duration,
    /// Number of requests in the batch.
    pub batched_requests: usize,
    /// `true` for exactly one request of each batch, which reports the run.
    pub is_first: bool,
}

/// Failure of an inference request.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The deadline passed before the run ended.
    #[error("the deadline passed before the run ended")]
    Deadline,
    /// The queue is full (HTTP 429).
    #[error(
        "cannot queue the request: {limit} requests already wait for this model, the maximum (MODEL_QUEUE); try again later"
    )]
    QueueFull {
        /// Maximum number of queued requests.
        limit: usize,
    },
    /// The memory budget or the deadline was exceeded before all rows had run.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The engine failed, independently of a request's inputs.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A run failed.
    #[error("{}", .0.error)]
    Failed(Box<FailedRun>),
}

/// Maximum size of the inputs that a failed run returns, in bytes. Larger inputs are freed with the run.
pub const MAX_RETURNED_INPUTS: usize = 1 << 20;

/// A run that failed.
#[derive(Debug)]
pub struct FailedRun {
    /// Cause of the failure.
    pub error: EngineError,
    /// Inputs and requested outputs of the run; `None` above [`MAX_RETURNED_INPUTS`].
    pub request: Option<Decoded>,
}

impl RunError {
    /// Returns the engine's error, if there is one.
    #[must_use]
    pub fn engine(&self) -> Option<&EngineError> {
        match self {
            RunError::Engine(error) => Some(error),
            RunError::Failed(failed) => Some(&failed.error),
            RunError::Deadline | RunError::QueueFull { .. } | RunError::Stopped(_) => None,
        }
    }

    fn failed(error: EngineError, request: Decoded) -> Self {
        let bytes: usize = request.inputs.iter().map(|(_, value)| value.bytes()).sum();
        let request = (bytes <= MAX_RETURNED_INPUTS).then_some(request);
        Self::Failed(Box::new(FailedRun { error, request }))
    }
}

impl Scheduler {
    /// Creates a scheduler for these models, with the same limits for each. `account` measures the growth of the
    /// process in a run.
    #[must_use]
    pub fn new(
        models: impl IntoIterator<Item = ModelName>,
        limits: ExecutorLimits,
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

    /// Returns the limits of each model.
    #[must_use]
    pub fn limits(&self) -> ExecutorLimits {
        self.limits
    }

    /// Returns the maximum number of requests that waited in the queue of each model together since the last call. A
    /// model is absent until a request has waited.
    pub fn take_queue_peaks(&self) -> impl Iterator<Item = (&ModelName, usize)> {
        let executors = self.executors.iter();
        executors.filter_map(|(model, executor)| Some((model, executor.take_queue_peak()?)))
    }

    /// Runs `request` on `model` by `deadline`.
    pub async fn run(
        &self,
        model: Arc<LoadedModel>,
        request: Decoded,
        deadline: Deadline,
    ) -> Result<RunOutcome, RunError> {
        let Some(executor) = self.executors.get(&model.name) else {
            let problem = format!("unknown model {}", model.name);
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
mod tests;
