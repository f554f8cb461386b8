//! The queue of one model and the threads that run it.
//!
//! A run blocks its thread, so runs have threads of their own, and the server remains responsive. The executor owns its
//! threads, because handing work to one of them and back takes half as long as with the runtime's pool. The executor's
//! [`Queue`](super::queue::Queue) is the only queue. The queue decides the order; a run that is [known to be
//! short](super::inline_execution) takes no other thread.

mod cancellation;
mod state;
mod worker;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::memory_trim::elements;
use super::queue::{ExecutorLimits, Ticket};
use super::{RunError, RunOutcome, batch};
use crate::engine::{Cancel, EngineError};
use crate::models::{LoadedModel, RunResult};
use crate::protocol::Decoded;
use crate::request_memory::Account;
use crate::tensor::Value;
use cancellation::QueueGuard;
use state::{ExecutorState, InferenceJob, Unreleased};

/// The queue and the worker threads of one model.
pub(super) struct ModelExecutor {
    state: Arc<ExecutorState>,
}

impl ModelExecutor {
    pub(super) fn new(limits: ExecutorLimits, account: Arc<Account>) -> Self {
        Self::with_threads(limits, account, thread::Builder::new)
    }

    /// Creates an executor whose threads come from the builders that `thread` creates.
    fn with_threads(
        limits: ExecutorLimits,
        account: Arc<Account>,
        thread: fn() -> thread::Builder,
    ) -> Self {
        Self {
            state: Arc::new(ExecutorState::new(limits, account, thread)),
        }
    }

    /// Returns the maximum number of requests that waited together since the last call; `None` if none ever waited.
    pub(super) fn take_queue_peak(&self) -> Option<usize> {
        self.state.lock().queue.take_peak()
    }

    /// Queues a request and runs it. Batching delays the request by at most half of `time`. Dropping the future removes
    /// the request from the queue, or cancels its run.
    pub(super) async fn run(
        &self,
        model: Arc<LoadedModel>,
        request: Decoded,
        time: Duration,
    ) -> Result<RunOutcome, RunError> {
        if let Some(run) = self.start_inline(&model, &request) {
            return self.run_inline(run, &model, request);
        }
        let (reply, result) = oneshot::channel();
        let limits = self.state.limits;
        let rows = limits
            .batch
            .and_then(|_| batch::rows(model.signature(), &request));
        let now = Instant::now();
        let job = InferenceJob {
            model,
            request,
            rows,
            batch_until: now.checked_add(time / 2).unwrap_or(now),
            reply,
        };
        let place = QueueGuard::enqueue(&self.state, job, now)?;
        let result = result.await;
        place.disarm();
        let result = result.map_err(|_| panicked())?;
        Ok(RunOutcome {
            outputs: result.outputs?,
            queued: result.queued,
            inferred: result.inferred,
            batched_requests: result.batched_requests,
            is_first: result.is_first,
        })
    }

    /// Takes a run slot for a request whose run is known to be short; `None` if the request must be queued.
    fn start_inline(
        &self,
        model: &Arc<LoadedModel>,
        request: &Decoded,
    ) -> Option<(Ticket, Arc<Cancel>)> {
        let mut inner = self.state.lock();
        // Releasing memory can take longer than a run, and batches wait for further requests.
        let is_allowed =
            self.state.limits.batch.is_none() && inner.unreleased == Unreleased::Nothing;
        if !is_allowed || !inner.inline_execution.is_short(model, &request.inputs) {
            return None;
        }
        inner.queue.start_inline()
    }

    /// Runs a request on the calling thread.
    fn run_inline(
        &self,
        (leader, cancel): (Ticket, Arc<Cancel>),
        model: &Arc<LoadedModel>,
        request: Decoded,
    ) -> Result<RunOutcome, RunError> {
        let state = &self.state;
        let mut size = state.record_start(model, elements(&request.inputs));
        let started = Instant::now();
        let run = || model.run(&request.inputs, &request.outputs, &cancel);
        let outputs = std::panic::catch_unwind(AssertUnwindSafe(run));
        let inferred = started.elapsed();
        let outputs = match outputs {
            Ok(outputs) => with_request(outputs, request),
            Err(_) => Err(panicked().into()),
        };
        state.record_growth(model, &mut size, inferred);
        state.finish(leader, model, size);
        let mut inner = state.lock();
        inner.inline_execution.record_inline(inferred);
        // Requests may have been queued during the run.
        let _ = worker::wake(state, inner);
        Ok(RunOutcome {
            outputs: outputs?,
            queued: Duration::ZERO,
            inferred,
            batched_requests: 1,
            is_first: true,
        })
    }
}

/// Returns the outputs of a run, or its error with the request. The request is dropped after a successful run.
fn with_request(outputs: RunResult, request: Decoded) -> Result<Vec<(String, Value)>, RunError> {
    outputs.map_err(|error| RunError::failed(error, request))
}

/// Returns the error of a run whose thread panicked outside of ONNX Runtime.
fn panicked() -> EngineError {
    EngineError::Thread("the thread panicked in the middle of a run".to_owned())
}

impl Drop for ModelExecutor {
    fn drop(&mut self) {
        self.state.lock().is_closed = true;
        self.state.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
